package main

import (
	"strings"
	"testing"
)

// The planner decides by statistics, which are real here: of 100 tenants and 100,000 leases. No query reads a whole table.
func TestNoQueryReadsAWholeTable(t *testing.T) {
	t.Parallel()
	cfg := config{Tenants: 100, Leases: 100_000, Repeat: 1}
	all, err := measure(t.Context(), cfg, t.TempDir(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, plan := range f.whole {
			t.Errorf("%s\n%s", f.query, plan)
		}
		if len(f.scans) == 0 {
			t.Errorf("%s reads nothing", f.query)
		}
	}
	if text := report(cfg, all); strings.Contains(text, "%!") || strings.Count(text, "\n| `") != len(queries) {
		t.Error(text)
	}
}
