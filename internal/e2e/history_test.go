package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// A ledger opens on a made-up past and goes on from it; one that has events gets none.
func TestHistory(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	args := []string{"demo", "--data", data, "--history", "20d", "--tenants", "6", "--scale", "0.4"}
	out, err := ledgertest.Command("ledger", args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "20 days of ") || !strings.Contains(string(out), "Start it with: ") {
		t.Fatalf("%v: %s", err, out)
	}
	for _, again := range [][]string{args, {"up", "--addr", "127.0.0.1:0", "--data", data, "--demo", "--history", "20d"}} {
		out, err := ledgertest.Command("ledger", again...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "is not empty") || !strings.Contains(string(out), "name another --data folder") {
			t.Errorf("%v: %v: %s", again, err, out)
		}
	}

	p, l := ledgertest.Up(t, data)
	tenant := ""
	p.Await("the past in the read models", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		all, err := l.Do(ctx, "GET", "/api/v1/tenants", l.Operator, nil, nil)
		if err != nil || all.Status != 200 || len(all.Items()) < 3 {
			return false
		}
		tenant = all.Items()[0]["id"].(string)
		f, err := l.Do(ctx, "GET", "/api/v1/tenants/"+tenant+"/usage/forecast", l.Operator, nil, nil)
		return err == nil && f.Status == 200 && f.Body["days_known"].(float64) >= 18
	}, p.Output)
	days := l.Get(t, "/api/v1/tenants/"+tenant+"/usage", "").Items()
	acquires := 0.0
	for _, day := range days {
		acquires += day["acquires"].(float64)
	}
	if len(days) < 18 || acquires == 0 {
		t.Errorf("%d days with %v acquires", len(days), acquires)
	}
	_, key := l.License(t, "acme", 1, 300) // life goes on
	l.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("ada"))
}
