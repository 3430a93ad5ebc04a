package main

import "testing"

func TestAuditIsMeasured(t *testing.T) {
	t.Parallel()
	a, err := measureAudit(t.Context(), config{Rounds: 1, Dir: t.TempDir()}, 2000)
	if err != nil {
		t.Fatal(err)
	}
	// Of 2,000 heartbeats every 200th is of the tenant.
	if a.Commits < 2000 || a.Events != 22 || min(a.Scan, a.Indexed, a.Verify, a.Bare) <= 0 {
		t.Errorf("%+v", a)
	}
}
