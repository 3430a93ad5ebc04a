package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// ask returns the status of an answer, its Retry-After and its body.
func ask(t *testing.T, url string) (status int, retryAfter, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Retry-After"), string(text)
}

// From the moment a process has its address it says that it lives, and what it waits for; then it serves.
func TestAnswersWhileItStarts(t *testing.T) {
	t.Parallel()
	f := NewFrame(slog.LevelError, io.Discard)
	f.Router.HandleFunc("/api/thing", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	listener, err := f.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	base := "http://" + listener.Addr().String()
	wantStarting := func(why string) {
		t.Helper()
		if status, _, body := ask(t, base+"/healthz"); status != 200 {
			t.Errorf("healthz: %d %s", status, body)
		}
		if status, _, body := ask(t, base+"/readyz"); status != 503 || !strings.Contains(body, why) {
			t.Errorf("readyz: %d %s, want a word of %q", status, body, why)
		}
		if status, _, body := ask(t, base+"/metrics"); status != 200 || !strings.Contains(body, "go_goroutines") {
			t.Errorf("metrics: %d", status)
		}
		status, retryAfter, body := ask(t, base+"/api/thing")
		var problem struct {
			Code      string
			RequestID string `json:"request_id"`
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil || status != 503 || problem.Code != "starting" || problem.RequestID == "" || retryAfter != "1" {
			t.Errorf("another path: %d %s, Retry-After %q", status, body, retryAfter)
		}
	}
	wantStarting("all its parts")

	tries, opened := make(chan error), make(chan error, 1)
	go func() {
		_, err := f.AwaitLedger(t.Context(), func(context.Context) (*eventstore.NATSStore, error) { return nil, <-tries })
		opened <- err
	}()
	away := fmt.Errorf("open bucket: %w", nats.ErrTimeout)
	tries <- away
	tries <- away // the first is noted by now
	wantStarting("the ledger is there: open bucket: nats: timeout")
	tries <- errors.New("damaged")
	if err := <-opened; err == nil || err.Error() != "damaged" {
		t.Errorf("AwaitLedger: %v", err)
	}

	serving, stop := context.WithCancel(t.Context())
	defer stop()
	f.Health.Require("other", func(context.Context) error {
		select {
		case <-serving.Done():
			return errors.New("not any more")
		default:
			return nil
		}
	})
	served := make(chan error, 1)
	go func() { served <- f.Serve(serving) }()
	for status := 0; status != 200; {
		status, _, _ = ask(t, base+"/readyz")
	}
	if status, _, body := ask(t, base+"/api/thing"); status != http.StatusTeapot {
		t.Errorf("serving: %d %s", status, body)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := http.Get(base + "/healthz"); err == nil {
		t.Error("it answers after its end")
	}
}

// A process that ends before it serves leaves its address.
func TestEndsBeforeItServes(t *testing.T) {
	t.Parallel()
	f := NewFrame(slog.LevelError, io.Discard)
	listener, err := f.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewFrame(slog.LevelError, io.Discard).Listen(listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "another program may") {
		t.Errorf("an address that is taken: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	again := NewFrame(slog.LevelError, io.Discard)
	if _, err := again.Listen(listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// What is over a limit is refused and counted under its route; all else goes on.
func TestLimits(t *testing.T) {
	t.Parallel()
	f := NewFrame(slog.LevelError, io.Discard)
	secret := identity.Secret(bytes.Repeat([]byte{1}, 32))
	f.Limit(RateLimits{Strangers: 0.1, Reads: 1000}, secret, identity.OperatorKey{})
	f.Router.Handle("/api/v1/things/{thing}", access.Guarded{Budget: access.Reads, Handler: func(w http.ResponseWriter, _ *http.Request) error {
		return serve.Reply(w, http.StatusOK, "done")
	}})
	listener, err := f.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx) }()
	base := "http://" + listener.Addr().String()
	for status := 0; status != http.StatusOK; {
		status, _, _ = ask(t, base+"/readyz")
	}
	if status, _, body := ask(t, base+"/api/v1/things/1"); status != http.StatusOK {
		t.Errorf("the first: %d %s", status, body)
	}
	if status, after, body := ask(t, base+"/api/v1/things/1"); status != http.StatusTooManyRequests || after == "" || !strings.Contains(body, `"rate_limited"`) || !strings.Contains(body, `"request_id"`) {
		t.Errorf("the second: %d %s, Retry-After %q", status, body, after)
	}
	for _, key := range []string{identity.NewTenantKeys(secret).Text("acme", "abcdefghijkl"), identity.NewLicenseKeys(secret).Text("acme", "abcdefghijkl")} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/things/1", nil)
		r.Header.Set("Authorization", "Bearer "+key)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("with a key of this ledger: %s", response.Status)
		}
	}
	_, _, metrics := ask(t, base+"/metrics")
	for _, want := range []string{`ledger_rate_limited_total{budget="strangers"} 1`, `ledger_http_requests_total{method="GET",route="/api/v1/things/{thing}",status="429"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
