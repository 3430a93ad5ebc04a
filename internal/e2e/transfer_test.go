package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// A license moves with its leases, and the process that carries it is killed between two steps, at another one each time. Another
// process goes on: each lease is there, once, and no program that keeps one with the key from before hears that it is lost.
func TestTransferIsKilled(t *testing.T) {
	t.Parallel()
	const leases = 250 // three parts
	p := startPair(t)
	nc, err := nats.Connect(p.url("commandsvc:a"), eventstore.NATSOptions("test")...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	store, err := eventstore.OpenNATS(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	from, to := p.tenants[0].id, p.tenants[1].id
	owner := 0
	// What is seen there when the process is killed: nothing, the license, a part of its leases, …, all of them.
	for round, seen := range []int{0, 1, 101, 201, 251} {
		m := &move{t: t, p: p}
		issued := p.clients[0].Must(t, http.StatusCreated, "POST", "/api/v1/tenants/"+from+"/licenses", p.operator,
			map[string]any{"product": "cad", "seats": leases, "lease_seconds": 60})
		license := issued.At("license.id")
		m.key = issued.At("key")
		m.acquire(leases)
		stop := m.keep()

		path := "/api/v1/tenants/" + from + "/licenses/" + license + "/transfer"
		started := p.clients[0].Must(t, http.StatusOK, "POST", path, p.operator, map[string]any{"to": to, "leases": "keep"})
		if started.At("transfer.leases") != fmt.Sprint(leases) {
			t.Fatalf("started: %v", started.Body)
		}
		there := domain.LicenseID(started.At("transfer.license"))
		events := 0
		m.follow(store, to, func(e eventstore.Event) bool {
			switch e := e.Data.(type) {
			case *domain.LicenseIssued:
				if e.License == there {
					events++
				}
			case *domain.SeatAcquired:
				if e.License == there {
					events++
				}
			}
			return events >= seen
		})
		p.process[owner].Kill()
		t.Logf("round %d: killed when there were %d events there", round, events)
		m.follow(store, from, func(e eventstore.Event) bool {
			completed, ok := e.Data.(*domain.LicenseTransferCompleted)
			return ok && completed.License == domain.LicenseID(license)
		})
		p.start(owner)
		owner = 1 - owner

		// The rest, as it is stored: each lease once.
		moved := map[domain.LeaseID]int{}
		m.follow(store, to, func(e eventstore.Event) bool {
			if a, ok := e.Data.(*domain.SeatAcquired); ok && a.License == there {
				moved[a.Lease]++
			}
			return len(moved) == leases
		})
		stop()
		for _, id := range m.held {
			a := m.insist("heartbeat", started.At("key"), ledgertest.Lease(id))
			if moved[domain.LeaseID(id)] != 1 || a.At("lease.license") != string(there) || a.At("lease.state") != "active" {
				t.Fatalf("lease %s: %v", id, a.Body)
			}
		}
		if a, err := p.clients[owner].Do(t.Context(), "POST", "/api/v1/licenses/acquire", started.At("key"), ledgertest.Holder("another"), nil); a.Code() != "no_seat_available" {
			t.Errorf("one more: %v %v", a.Body, err)
		}
	}
	for partition := range eventstore.Partition(pairPartitions) {
		ledgertest.VerifyJournal(t.Context(), t, store, partition, &ledgertest.Acknowledged{}, 1<<30)
	}
}

// move is a license on its way, and its programs.
type move struct {
	t    *testing.T
	p    *pair
	key  string
	held []string
}

// acquire takes seats, each for another user.
func (m *move) acquire(leases int) {
	m.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	const programs = 10
	for program := range programs {
		wg.Go(func() {
			for n := program; n < leases; n += programs {
				id := m.insist("acquire", m.key, ledgertest.Holder(fmt.Sprint("user", n))).At("lease.id")
				mu.Lock()
				m.held = append(m.held, id)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// keep has programs renew all leases with the key from before, at both addresses, until the returned function is called.
func (m *move) keep() (stop func()) {
	ctx, cancel := context.WithCancel(m.t.Context())
	var wg sync.WaitGroup
	for at := range m.p.clients {
		wg.Go(func() {
			for n := at; ctx.Err() == nil; n++ {
				id := m.held[n%len(m.held)]
				a, err := m.p.clients[at].Do(ctx, "POST", "/api/v1/licenses/heartbeat", m.key, ledgertest.Lease(id), nil)
				switch {
				case err != nil:
					m.p.note(ctx, a, err)
				case a.Status != http.StatusOK || a.At("lease.id") != id:
					m.t.Errorf("heartbeat of %s: %d %v", id, a.Status, a.Body)
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// insist repeats a request at both addresses until it is answered.
func (m *move) insist(call, key string, body map[string]any) ledgertest.Answer {
	for try := 0; ; try++ {
		a, err := m.p.clients[try%2].Do(m.t.Context(), "POST", "/api/v1/licenses/"+call, key, body, nil)
		if err == nil {
			return a
		}
		if a.Status != 0 && a.Status != http.StatusServiceUnavailable {
			m.t.Errorf("%s: %d %v", call, a.Status, a.Body)
			return a
		}
	}
}

var errFound = errors.New("found")

// follow reads the events of a tenant from the first one on, as they are stored, until last says so. It is asked once before them, with
// none.
func (m *move) follow(store eventstore.Store, tenant string, last func(eventstore.Event) bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), ledgertest.Patience)
	defer cancel()
	found := last(eventstore.Event{})
	if found {
		return
	}
	journal := store.Journal(store.Info().PartitionOf(domain.TenantID(tenant)))
	err := eventstore.ReadCommits(ctx, journal, eventstore.Checkpoint{}, func(_ eventstore.Checkpoint, c eventstore.Commit) error {
		slices, err := c.Decode()
		if err != nil {
			return err
		}
		for _, s := range slices {
			for _, e := range s.Events {
				if s.Tenant == domain.TenantID(tenant) && !found {
					found = last(e)
				}
			}
		}
		if found {
			return errFound
		}
		return nil
	})
	if !errors.Is(err, errFound) {
		m.t.Fatalf("read the journal of %s: %v\n%s\n%s", tenant, err, m.p.process[0].Output(), m.p.process[1].Output())
	}
}
