package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// The first minute of a newcomer, as the README tells it.
func TestFirstSuccess(t *testing.T) {
	t.Parallel()
	p, l := ledgertest.Up(t, t.TempDir())
	_, key := l.License(t, "acme", 5, 300)
	var first string
	for i, user := range []string{"ada", "bob", "carol", "dan", "eve"} {
		a := l.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder(user))
		if i == 0 {
			first = a.At("lease.id")
		}
	}
	denied := l.Must(t, 409, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("frank"))
	if denied.Code() != "no_seat_available" {
		t.Fatalf("sixth acquire: %v", denied.Body)
	}
	l.Must(t, 200, "POST", "/api/v1/licenses/release", key, ledgertest.Lease(first))
	last := l.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("frank"))

	seats := l.Get(t, "/api/v1/tenants/acme/seats?state=active", last.Position)
	if seats.At("seats") != "5" || seats.At("in_use") != "5" || len(seats.Items()) != 5 {
		t.Fatalf("seats: %v", seats.Body)
	}
	users := map[any]bool{}
	for _, item := range seats.Items() {
		users[item["user"]] = true
	}
	if users["ada"] || !users["frank"] {
		t.Fatalf("holders: %v, want frank and not ada", users)
	}
	var types []string
	for _, entry := range l.Get(t, "/api/v1/tenants/acme/timeline?q=-type:staff.read", last.Position).Items() {
		e := entry["event"].(map[string]any)
		types = append(types, strings.TrimPrefix(e["type"].(string), "ai.coditect."))
	}
	want := "seat.acquired.v1 seat.released.v1 seat.denied.v1 seat.acquired.v1"
	if got := strings.Join(types[:4], " "); got != want {
		t.Fatalf("newest events: %s, want %s", got, want)
	}
	// That staff looked at the seats is in the timeline, too.
	p.Await("showing what staff read", func() bool {
		for _, entry := range l.Get(t, "/api/v1/tenants/acme/timeline?q=type:staff.read", "").Items() {
			if after, ok := entry["after"].(map[string]any); ok && after["read"] == "seat.own" && entry["reason"] == "test" {
				return true
			}
		}
		return false
	}, func() string { return "" })
	if code := p.Stop(); code != 0 || !strings.Contains(p.Output(), "Stopped.") {
		t.Fatalf("exit code %d:\n%s", code, p.Output())
	}
}

func TestSeatOfADeadProgramComesFree(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	_, key := l.License(t, "acme", 1, 2)
	died := l.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("ada"))
	ctx, cancel := context.WithTimeout(t.Context(), ledgertest.Patience)
	defer cancel()
	for { // nobody heartbeats, nobody releases
		a, err := l.Do(ctx, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("bob"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if a.Status == 201 {
			expires, _ := time.Parse(time.RFC3339, died.At("lease.expires_at"))
			acquired, _ := time.Parse(time.RFC3339, a.At("lease.acquired_at"))
			if acquired.Before(expires) {
				t.Fatalf("seat given at %v, its lease ran until %v", acquired, expires)
			}
			for _, entry := range l.Get(t, "/api/v1/tenants/acme/timeline", a.Position).Items() {
				e, _ := entry["event"].(map[string]any)
				if e["type"] == "ai.coditect.seat.expired.v1" && e["subject"] == died.At("lease.id") {
					return
				}
			}
			t.Fatal("no seat.expired event on the timeline")
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the seat never came free")
		}
	}
}

// What is not there is a problem on the API and a page elsewhere.
func TestWrongPathsAndMethods(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	for _, c := range []struct {
		method, path string
		status       int
		kind, allow  string
	}{
		{"GET", "/api/v1/nothing", 404, "application/problem+json", ""},
		{"GET", "/api/v1/licenses/acquire", 405, "application/problem+json", "POST"},
		{"DELETE", "/api/v1/tenants/acme", 405, "application/problem+json", "GET, PATCH"},
		{"PUT", "/api/v1/tenants", 405, "application/problem+json", "GET, POST"},
		{"GET", "/api/v1/tenants", 401, "application/problem+json", ""},
		{"GET", "/api/openapi.yaml", 200, "application/yaml", ""},
		{"GET", "/healthz", 200, "application/json", ""},
		{"GET", "/api/%ff", 404, "application/problem+json", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, l.Commands+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if kind := response.Header.Get("Content-Type"); response.StatusCode != c.status || kind != c.kind || response.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d %q Allow %q, want %+v", c.method, c.path, response.StatusCode, kind, response.Header.Get("Allow"), c)
		}
	}
}

func TestSecondUpIsRefused(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first, _ := ledgertest.Up(t, data)
	second := ledgertest.Launch(t, nil, "ledger", "up", "--addr", ledgertest.FreeAddr(t), "--data", data)
	select {
	case <-second.Done():
	case <-time.After(ledgertest.Patience):
		t.Fatal("the second process goes on")
	}
	said := second.Output()
	if second.ExitCode() != 1 || !strings.Contains(said, data) || !strings.Contains(said, fmt.Sprint(first.PID())) {
		t.Fatalf("exit code %d, said %q; want 1, the folder and the pid %d", second.ExitCode(), said, first.PID())
	}
}

func TestPortInUseIsReported(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	second := ledgertest.Launch(t, nil, "ledger", "up", "--addr", strings.TrimPrefix(l.Commands, "http://"), "--data", t.TempDir())
	<-second.Done()
	if said := second.Output(); second.ExitCode() != 1 || !strings.Contains(said, "choose another address") {
		t.Fatalf("said %q", said)
	}
}

// The read models are a copy: without them, and only with the journal, everything comes back.
func TestDeletedPostgresIsRebuilt(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p, l := ledgertest.Up(t, data)
	_, key := l.License(t, "acme", 50, 300)
	var ids []string
	for i := range 30 {
		ids = append(ids, l.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder(fmt.Sprint("u", i))).At("lease.id"))
	}
	position := ""
	for _, id := range ids[:10] {
		l.Must(t, 200, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(id))
		position = l.Must(t, 200, "POST", "/api/v1/licenses/release", key, ledgertest.Lease(id)).Position
	}
	paths := []string{
		"/api/v1/tenants", "/api/v1/tenants/acme", "/api/v1/tenants/acme/licenses", "/api/v1/tenants/acme/seats",
		"/api/v1/tenants/acme/timeline?q=-type:staff.read", // to ask for it is an event itself
	}
	before := map[string]string{}
	for _, path := range paths {
		a := l.Get(t, path, position)
		delete(a.Body, "position") // a start adds the new writer's epoch to the journal
		delete(a.Body, "age_seconds")
		before[path] = fmt.Sprint(a.Body)
	}
	p.Kill()
	if err := os.RemoveAll(filepath.Join(data, "postgres")); err != nil {
		t.Fatal(err)
	}
	_, l = ledgertest.Up(t, data)
	for _, path := range paths {
		a := l.Get(t, path, position)
		delete(a.Body, "position")
		delete(a.Body, "age_seconds")
		if got := fmt.Sprint(a.Body); got != before[path] {
			t.Errorf("GET %s after the rebuild:\n%s\nbefore:\n%s", path, got, before[path])
		}
	}
}

func TestDemoHasSomethingToSee(t *testing.T) {
	t.Parallel()
	p, l := ledgertest.Up(t, t.TempDir(), "--demo")
	p.Await("showing seats in use", func() bool {
		a, err := l.Do(t.Context(), "GET", "/api/v1/tenants/demo/seats?state=active", l.Operator, nil, nil)
		return err == nil && a.Status == 200 && len(a.Items()) >= 3
	}, func() string { return "" })
	if code := p.Stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
}
