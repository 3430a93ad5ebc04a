package clients

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/client"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// A ledger that is killed, stopped for a while and started again costs nobody a seat; one that a program cannot reach
// costs it the seat, and the program knows before anybody else gets it.
func TestSDKThroughFaults(t *testing.T) {
	t.Parallel()
	const programs = 6
	data, addr := t.TempDir(), ledgertest.FreeAddr(t)
	p, l := ledgertest.UpAt(t, addr, data)
	_, key := l.License(t, "acme", programs, 12)
	_, shortKey := l.License(t, "globex", programs, 2)
	watched := &watcher{held: map[*client.Lease]time.Time{}}
	go watched.run(t.Context().Done())

	steady := acquireAll(t, l, watched, key, programs, http.DefaultTransport)
	network := &network{}
	cutOff := acquireAll(t, l, watched, shortKey, programs, network)

	// Between these programs and the ledger the line is cut: the ledger gives their seats away when they have stopped.
	network.cut.Store(true)
	for _, lease := range cutOff {
		awaitLost(t, lease)
		if err := lease.Err(); !errors.Is(err, client.LeaseExpired) || lease.Held() {
			t.Errorf("cut off: %v", err)
		}
	}
	position := ""
	for i := range programs { // somebody else gets each seat
		position = awaitSeat(t, l, shortKey, fmt.Sprint("other", i)).Position
	}
	expired := 0
	for _, entry := range l.Get(t, "/api/v1/tenants/globex/timeline?limit=1000", position).Items() {
		e := entry["event"].(map[string]any)
		if e["type"] != "ai.coditect.seat.expired.v1" {
			continue
		}
		at, err := time.Parse(time.RFC3339, e["time"].(string))
		if err != nil {
			t.Fatal(err)
		}
		for _, lease := range cutOff {
			if last := watched.last(lease); lease.ID() == e["subject"] && last.IsZero() {
				t.Errorf("%s never looked held", lease.ID())
			} else if lease.ID() == e["subject"] {
				expired++
				if last.Truncate(time.Millisecond).After(at) {
					t.Errorf("%s was held at %v, and the ledger gave it away at %v", lease.ID(), last, at)
				}
			}
		}
	}
	if expired != programs {
		t.Errorf("%d of %d leases expired", expired, programs)
	}

	// The ledger stops answering, until everybody has noticed.
	p.Signal(syscall.SIGSTOP)
	for _, lease := range steady {
		await(t, "at risk", func() bool { return lease.Status().State == client.AtRisk })
		if !lease.Held() {
			t.Errorf("not held any more: %+v", lease.Status())
		}
	}
	p.Signal(syscall.SIGCONT)
	for _, lease := range steady {
		await(t, "held", func() bool { return lease.Status().State == client.Held })
	}

	// It is killed, and started again.
	p.Kill()
	_, l = ledgertest.UpAt(t, addr, data)
	back := time.Now()
	await(t, "renewed", func() bool {
		renewed := 0
		for _, item := range l.Get(t, "/api/v1/tenants/acme/seats?state=active", "").Items() {
			if until, err := time.Parse(time.RFC3339, item["expires_at"].(string)); err == nil && until.After(back.Add(12*time.Second)) {
				renewed++
			}
		}
		return renewed == programs
	})
	for _, lease := range steady {
		if err := lease.Err(); err != nil || !lease.Held() {
			t.Errorf("lost: %v", err)
		}
		if err := lease.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	t.Logf("%d programs through a stop and a kill, %d cut off, %d looks", programs, programs, watched.looks.Load())
}

// acquireAll takes a seat for each of n programs.
func acquireAll(t *testing.T, l *ledgertest.Client, w *watcher, key string, n int, transport http.RoundTripper) []*client.Lease {
	t.Helper()
	leases := make([]*client.Lease, n)
	var wg sync.WaitGroup
	for i := range leases {
		wg.Go(func() {
			c, err := client.New(client.Config{Server: l.Commands, LicenseKey: key, HTTPClient: &http.Client{Transport: transport}})
			if err != nil {
				t.Error(err)
				return
			}
			lease, err := c.Acquire(t.Context(), client.Holder{User: fmt.Sprint("user", i)})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { lease.Close(t.Context()) })
			leases[i] = lease
			w.add(lease)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return leases
}

// What is done to a license reaches the programs that hold its seats with their next heartbeat.
func TestSDKHearsOfChanges(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	id, key := l.License(t, "acme", 2, 6)
	path := "/api/v1/tenants/acme/licenses/" + id
	c, err := client.New(client.Config{Server: l.Commands, LicenseKey: key})
	if err != nil {
		t.Fatal(err)
	}
	acquire := func(user string) *client.Lease {
		lease, err := c.Acquire(t.Context(), client.Holder{User: user})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lease.Close(t.Context()) })
		return lease
	}
	ada, bob := acquire("ada"), acquire("bob")
	first := ada.Status().Until
	l.Must(t, 200, "PATCH", path, l.Operator, map[string]any{"lease_seconds": 60, "heartbeat_seconds": 1})
	await(t, "longer", func() bool { return ada.Status().Until.After(first.Add(30 * time.Second)) })
	l.Must(t, 200, "PATCH", path, l.Operator, map[string]any{"lease_seconds": 5})
	await(t, "shorter", func() bool { return time.Until(ada.Status().Until) < 6*time.Second })

	l.Must(t, 200, "POST", path+"/leases/"+ada.ID()+"/evict", l.Operator, map[string]any{})
	awaitLost(t, ada)
	if err := ada.Err(); !errors.Is(err, client.LeaseEvicted) || ada.Held() {
		t.Errorf("evicted: %v", err)
	}
	if again := acquire("ada"); again.ID() == ada.ID() || again.Fence() <= ada.Fence() {
		t.Errorf("after the eviction: %s %d, before %s %d", again.ID(), again.Fence(), ada.ID(), ada.Fence())
	}
	l.Must(t, 200, "POST", path+"/revoke", l.Operator, map[string]any{})
	awaitLost(t, bob)
	if err := bob.Err(); !errors.Is(err, client.LeaseRevoked) || !errors.Is(err, client.LeaseLost) {
		t.Errorf("revoked: %v", err)
	}
	if _, err := c.Acquire(t.Context(), client.Holder{User: "carol"}); !errors.Is(err, client.LicenseRevoked) {
		t.Errorf("acquire of a revoked license: %v", err)
	}
}

// A program that needs all processors, and never lets go of its own locks, keeps its seat.
func TestSDKInABusyProgram(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	id, key := l.License(t, "acme", 1, 6)
	l.Must(t, 200, "PATCH", "/api/v1/tenants/acme/licenses/"+id, l.Operator, map[string]any{"heartbeat_seconds": 1})
	blocked := make(chan struct{})
	defer close(blocked)
	c, err := client.New(client.Config{Server: l.Commands, LicenseKey: key, OnChange: func(*client.Lease, client.Status) { <-blocked }})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := c.Acquire(t.Context(), client.Holder{})
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 4 * runtime.NumCPU() {
		wg.Go(func() {
			for n := 0; !done.Load(); n++ {
			}
		})
	}
	first := lease.Status().Until
	await(t, "renewed twice", func() bool { return lease.Status().Until.After(first.Add(3*time.Second)) || lease.Err() != nil })
	done.Store(true)
	wg.Wait()
	if err := lease.Err(); err != nil {
		t.Error(err)
	}
	if err := lease.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// awaitSeat acquires as somebody else until there is a seat.
func awaitSeat(t *testing.T, l *ledgertest.Client, key, user string) (a ledgertest.Answer) {
	t.Helper()
	await(t, "a free seat", func() bool {
		var err error
		a, err = l.Do(t.Context(), "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder(user), nil)
		return err == nil && a.Status == 201
	})
	return a
}

// network is the way to the ledger.
type network struct{ cut atomic.Bool }

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	if n.cut.Load() {
		return nil, errors.New("the line is cut")
	}
	return http.DefaultTransport.RoundTrip(r)
}

// watcher asks leases whether they are held, all the time.
type watcher struct {
	mu    sync.Mutex
	held  map[*client.Lease]time.Time // when it last was
	looks atomic.Int64
}

func (w *watcher) add(l *client.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held[l] = time.Time{}
}

func (w *watcher) last(l *client.Lease) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held[l]
}

func (w *watcher) run(done <-chan struct{}) {
	for {
		w.mu.Lock()
		for l := range w.held {
			w.looks.Add(1)
			if now := time.Now(); l.Held() {
				w.held[l] = now
			}
		}
		w.mu.Unlock()
		select {
		case <-time.After(2 * time.Millisecond):
		case <-done:
			return
		}
	}
}

func awaitLost(t *testing.T, l *client.Lease) {
	t.Helper()
	select {
	case <-l.Lost():
	case <-time.After(ledgertest.Patience):
		t.Fatalf("never lost: %+v", l.Status())
	}
}

// await polls until condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(ledgertest.Patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("not %s after %v", what, ledgertest.Patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// The three holes of others: a late heartbeat revives nothing, a heartbeat for an ended lease is no success, and who lost a
// seat may take it again at once.
func TestLateHeartbeats(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	_, key := l.License(t, "acme", 1, 1)
	first := l.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("ada"))
	await(t, "expired", func() bool {
		seats := l.Get(t, "/api/v1/tenants/acme/seats?state=expired", first.Position)
		return len(seats.Items()) == 1
	})
	late := l.Must(t, 410, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(first.At("lease.id")))
	if late.Code() != "lease_expired" {
		t.Errorf("a late heartbeat: %v", late.Body)
	}
	again := l.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("ada"))
	if again.At("lease.id") == first.At("lease.id") || again.At("lease.fence") == first.At("lease.fence") {
		t.Errorf("the same lease came back: %v", again.Body)
	}
	l.Must(t, 410, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(first.At("lease.id")))
	many, err := l.Do(t.Context(), "POST", "/api/v1/licenses/heartbeat", key, map[string]any{"leases": []string{first.At("lease.id"), again.At("lease.id")}}, nil)
	if err != nil || !strings.Contains(fmt.Sprint(many.Body["results"]), "code:lease_expired") {
		t.Errorf("heartbeat of both: %v %v", many.Body, err)
	}
}
