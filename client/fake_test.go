package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fake is a ledger with one license, and the network to it. It goes by the time of the synctest bubble.
type fake struct {
	mu       sync.Mutex
	seats    int
	length   time.Duration
	leases   []*fakeLease
	queue    []string         // holders who wait
	recorded map[string]reply // by Idempotency-Key
	requests []request
	// network is asked once before the request reaches the ledger and once before its answer reaches the client; an error
	// loses it. nil: all is well.
	network func(ctx context.Context, r request, answered bool) error
	// answer replaces what the ledger would say, unless it returns false.
	answer func(request) (reply, bool)
}

type fakeLease struct {
	id, holder, state string
	acquired, expires time.Time
}

type request struct {
	host, path, key string
	at              time.Time
	body            map[string]any
}

type reply struct {
	status     int
	body       string
	retryAfter string
}

func problemReply(status int, code string) reply {
	return reply{status: status, body: fmt.Sprintf(`{"code":%q,"title":"t","detail":"Detail.","retry_after_seconds":0}`, code)}
}

// RoundTrip implements http.RoundTripper.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := request{host: r.URL.Host, path: strings.TrimPrefix(r.URL.Path, "/api/v1/licenses/"), key: r.Header.Get("Idempotency-Key"), at: time.Now()}
	if err := json.NewDecoder(r.Body).Decode(&asked.body); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.requests = append(f.requests, asked)
	network, answer := f.network, f.answer
	f.mu.Unlock()
	if network != nil {
		if err := network(r.Context(), asked, false); err != nil {
			return nil, err
		}
	}
	said, ok := reply{}, false
	if answer != nil {
		said, ok = answer(asked)
	}
	if !ok {
		said = f.serve(asked)
	}
	if wait, _ := asked.body["wait_seconds"].(float64); wait > 0 && said.status == 409 && !ok {
		said = f.wait(r.Context(), asked, time.Duration(wait)*time.Second)
	}
	if network != nil {
		if err := network(r.Context(), asked, true); err != nil {
			return nil, err
		}
	}
	header := http.Header{}
	if said.retryAfter != "" {
		header.Set("Retry-After", said.retryAfter)
	}
	return &http.Response{StatusCode: said.status, Status: fmt.Sprint(said.status), Header: header, Body: io.NopCloser(strings.NewReader(said.body))}, nil
}

func (f *fake) serve(r request) reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	if was, ok := f.recorded[r.key]; ok && r.key != "" {
		return was
	}
	now, inUse := time.Now(), 0
	var found *fakeLease
	holder := fmt.Sprint(r.body["user"], r.body["machine"], r.body["process"])
	for _, l := range f.leases {
		if l.state == "active" && !now.Before(l.expires) {
			l.state = "expired"
		}
		if l.state == "active" {
			inUse++
			if r.path == "acquire" && l.holder == holder {
				found = l
			}
		}
		if l.id == r.body["lease"] {
			found = l
		}
	}
	status := http.StatusOK
	switch {
	case r.path == "acquire" && found == nil && inUse >= f.seats:
		return reply{status: 409, body: fmt.Sprintf(`{"code":"no_seat_available","seats":%d,"in_use":%d,"retry_after_seconds":3}`, f.seats, inUse)}
	case r.path == "acquire" && found == nil:
		status, found = http.StatusCreated, &fakeLease{id: fmt.Sprintf("lse_%d", len(f.leases)+1), holder: holder, state: "active", acquired: now, expires: now.Add(f.length)}
		if until, borrows := r.body["borrow_until"].(string); borrows {
			found.expires, _ = time.Parse(time.RFC3339, until)
		}
		f.leases = append(f.leases, found)
	case r.path == "acquire":
	case found == nil:
		return problemReply(404, "lease_not_found")
	case found.state != "active" && (r.path != "release" || found.state != "released"):
		return problemReply(410, "lease_"+found.state)
	case r.path == "heartbeat":
		found.expires = now.Add(f.length)
	case r.path == "release":
		found.state = "released"
	}
	text, _ := json.Marshal(map[string]any{
		"features": []string{"cad"}, "expires_in_seconds": found.expires.Sub(now).Seconds(), "heartbeat_seconds": max(1, int(f.length/time.Second)/3), "unknown": []int{1}, "lease": map[string]any{
			"id": found.id, "fence": 7, "license": "lic_1", "state": found.state, "acquired_at": found.acquired, "expires_at": found.expires, "new": true,
		}})
	said := reply{status: status, body: string(text)}
	if r.path == "acquire" && r.key != "" {
		f.recorded[r.key] = said
	}
	return said
}

// wait serves an acquire that waits: when it is the first in the queue and there is a seat, or the time is over.
func (f *fake) wait(ctx context.Context, r request, atMost time.Duration) reply {
	holder := fmt.Sprint(r.body["user"], r.body["machine"], r.body["process"])
	f.set(func() {
		if !slices.Contains(f.queue, holder) {
			f.queue = append(f.queue, holder)
		}
	})
	leave := func() {
		f.set(func() { f.queue = slices.DeleteFunc(f.queue, func(h string) bool { return h == holder }) })
	}
	for end := time.Now().Add(atMost); sleep(ctx, 100*time.Millisecond); {
		var place, waiting int
		f.set(func() { place, waiting = slices.Index(f.queue, holder)+1, len(f.queue) })
		if place == 1 {
			if said := f.serve(r); said.status != 409 {
				leave()
				return said
			}
		}
		if !time.Now().Before(end) {
			return reply{status: 409, body: fmt.Sprintf(`{"code":"no_seat_available","seats":1,"in_use":1,"position":%d,"waiting":%d,"estimate_seconds":130,"retry_after_seconds":1}`, place, waiting)}
		}
	}
	leave() // hung up
	return reply{}
}

// set changes the fake while requests run.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// asked returns the requests with this path so far.
func (f *fake) asked(path string) (found []request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if r.path == path {
			found = append(found, r)
		}
	}
	return found
}

// active reports whether the ledger counts the lease as one that holds a seat.
func (f *fake) active(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.leases {
		if l.id == id {
			return l.state == "active" && time.Now().Before(l.expires)
		}
	}
	return false
}

var errDown = errors.New("connection refused")

func down(context.Context, request, bool) error { return errDown }

// hang answers nothing until the client gives up, as a stopped server does.
func hang(ctx context.Context, _ request, _ bool) error {
	<-ctx.Done()
	return ctx.Err()
}

// setup returns a ledger with one seat of 30 s, and a client of it whose wall clock is off by what wallOff says.
func setup(t *testing.T, change ...func(*Config)) (f *fake, c *Client, wallOff *offset) {
	t.Helper()
	f = &fake{seats: 1, length: 30 * time.Second, recorded: map[string]reply{}}
	config := Config{Server: "http://one.test", LicenseKey: "lk_test", HTTPClient: &http.Client{Transport: f}}
	for _, change := range change {
		change(&config)
	}
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	wallOff = &offset{}
	real := c.clock
	c.clock.wall = func() time.Time { return real.wall().Add(time.Duration(wallOff.Load())) }
	return f, c, wallOff
}

// offset is how far the wall clock is off.
type offset struct{ atomic.Int64 }

func (o *offset) set(d time.Duration) { o.Store(int64(d)) }

func acquire(t *testing.T, c *Client) *Lease {
	t.Helper()
	l, err := c.Acquire(t.Context(), Holder{User: "ada", Machine: "ws-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	return l
}

func isLost(l *Lease) bool {
	select {
	case <-l.Lost():
		return true
	default:
		return false
	}
}
