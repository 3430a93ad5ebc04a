package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// An export that is asked for too often is asked for again when the ledger says so; another refusal is told in its words.
func TestReplayOverTheRateLimit(t *testing.T) {
	t.Setenv("LEDGER_OPERATOR_KEY", "op_x")
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasSuffix(r.URL.Path, "/export"):
			io.WriteString(w, `{}`)
		case asked == 0:
			asked++
			w.Header().Set("Retry-After", "1")
			http.Error(w, `{"code":"rate_limited","detail":"Too many."}`, http.StatusTooManyRequests)
		default:
			asked++
			http.Error(w, `{"code":"forbidden","detail":"This key may not."}`, http.StatusForbidden)
		}
	}))
	defer server.Close()
	err := run(t.Context(), []string{"replay", "--tenant", "acme", "--server", server.URL}, io.Discard, io.Discard)
	if asked != 2 || err == nil || !strings.Contains(err.Error(), "This key may not. (forbidden)") {
		t.Errorf("asked %d times: %v", asked, err)
	}
}
