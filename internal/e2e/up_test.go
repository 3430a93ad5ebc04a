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
)

// The first minute of a newcomer, as the README tells it.
func TestFirstSuccess(t *testing.T) {
	t.Parallel()
	p, l := up(t, t.TempDir())
	_, key := l.license(t, "acme", 5, 300)
	var first string
	for i, user := range []string{"ada", "bob", "carol", "dan", "eve"} {
		a := l.must(t, 201, "POST", "/api/v1/licenses/acquire", key, holder(user))
		if i == 0 {
			first = a.at("lease.id")
		}
	}
	denied := l.must(t, 409, "POST", "/api/v1/licenses/acquire", key, holder("frank"))
	if denied.code() != "no_seat_available" {
		t.Fatalf("sixth acquire: %v", denied.body)
	}
	l.must(t, 200, "POST", "/api/v1/licenses/release", key, lease(first))
	last := l.must(t, 201, "POST", "/api/v1/licenses/acquire", key, holder("frank"))

	seats := l.get(t, "/api/v1/tenants/acme/seats?state=active", last.position)
	if seats.at("seats") != "5" || seats.at("in_use") != "5" || len(seats.items()) != 5 {
		t.Fatalf("seats: %v", seats.body)
	}
	users := map[any]bool{}
	for _, item := range seats.items() {
		users[item["user"]] = true
	}
	if users["ada"] || !users["frank"] {
		t.Fatalf("holders: %v, want frank and not ada", users)
	}
	var types []string
	for _, e := range l.get(t, "/api/v1/tenants/acme/timeline", last.position).items() {
		types = append(types, strings.TrimPrefix(e["type"].(string), "ai.coditect."))
	}
	want := "seat.acquired.v1 seat.released.v1 seat.denied.v1 seat.acquired.v1"
	if got := strings.Join(types[:4], " "); got != want {
		t.Fatalf("newest events: %s, want %s", got, want)
	}
	if code := p.stop(); code != 0 || !strings.Contains(p.output.String(), "Stopped.") {
		t.Fatalf("exit code %d:\n%s", code, p.output)
	}
}

func TestSeatOfADeadProgramComesFree(t *testing.T) {
	t.Parallel()
	_, l := up(t, t.TempDir())
	_, key := l.license(t, "acme", 1, 2)
	died := l.must(t, 201, "POST", "/api/v1/licenses/acquire", key, holder("ada"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for { // nobody heartbeats, nobody releases
		a, err := l.do(ctx, "POST", "/api/v1/licenses/acquire", key, holder("bob"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if a.status == 201 {
			expires, _ := time.Parse(time.RFC3339, died.at("lease.expires_at"))
			acquired, _ := time.Parse(time.RFC3339, a.at("lease.acquired_at"))
			if acquired.Before(expires) {
				t.Fatalf("seat given at %v, its lease ran until %v", acquired, expires)
			}
			for _, e := range l.get(t, "/api/v1/tenants/acme/timeline", a.position).items() {
				if e["type"] == "ai.coditect.seat.expired.v1" && e["subject"] == died.at("lease.id") {
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
	_, l := up(t, t.TempDir())
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
		r, err := http.NewRequestWithContext(t.Context(), c.method, l.commands+c.path, nil)
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
	first, _ := up(t, data)
	second := launch(t, nil, "ledger", "up", "--addr", freeAddr(t), "--data", data)
	select {
	case <-second.done:
	case <-time.After(patience):
		t.Fatal("the second process goes on")
	}
	said := second.output.String()
	if second.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, data) || !strings.Contains(said, fmt.Sprint(first.cmd.Process.Pid)) {
		t.Fatalf("exit code %d, said %q; want 1, the folder and the pid %d", second.cmd.ProcessState.ExitCode(), said, first.cmd.Process.Pid)
	}
}

func TestPortInUseIsReported(t *testing.T) {
	t.Parallel()
	_, l := up(t, t.TempDir())
	second := launch(t, nil, "ledger", "up", "--addr", strings.TrimPrefix(l.commands, "http://"), "--data", t.TempDir())
	<-second.done
	if said := second.output.String(); second.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, "choose another address") {
		t.Fatalf("said %q", said)
	}
}

// The read models are a copy: without them, and only with the journal, everything comes back.
func TestDeletedPostgresIsRebuilt(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p, l := up(t, data)
	_, key := l.license(t, "acme", 50, 300)
	var ids []string
	for i := range 30 {
		ids = append(ids, l.must(t, 201, "POST", "/api/v1/licenses/acquire", key, holder(fmt.Sprint("u", i))).at("lease.id"))
	}
	position := ""
	for _, id := range ids[:10] {
		l.must(t, 200, "POST", "/api/v1/licenses/heartbeat", key, lease(id))
		position = l.must(t, 200, "POST", "/api/v1/licenses/release", key, lease(id)).position
	}
	paths := []string{"/api/v1/tenants", "/api/v1/tenants/acme", "/api/v1/tenants/acme/licenses", "/api/v1/tenants/acme/seats", "/api/v1/tenants/acme/timeline"}
	before := map[string]string{}
	for _, path := range paths {
		a := l.get(t, path, position)
		delete(a.body, "position") // a start adds the new writer's epoch to the journal
		before[path] = fmt.Sprint(a.body)
	}
	p.kill()
	if err := os.RemoveAll(filepath.Join(data, "postgres")); err != nil {
		t.Fatal(err)
	}
	_, l = up(t, data)
	for _, path := range paths {
		a := l.get(t, path, position)
		delete(a.body, "position")
		if got := fmt.Sprint(a.body); got != before[path] {
			t.Errorf("GET %s after the rebuild:\n%s\nbefore:\n%s", path, got, before[path])
		}
	}
}

func TestDemoHasSomethingToSee(t *testing.T) {
	t.Parallel()
	p, l := up(t, t.TempDir(), "--demo")
	p.await("showing seats in use", func() bool {
		a, err := l.do(t.Context(), "GET", "/api/v1/tenants/demo/seats?state=active", l.operator, nil, nil)
		return err == nil && a.status == 200 && len(a.items()) >= 3
	}, func() string { return "" })
	if code := p.stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
}
