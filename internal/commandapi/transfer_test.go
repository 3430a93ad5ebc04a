package commandapi_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// carry looks after licenses on their way until the test ends.
func (s *service) carry() {
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	go s.api.CarryTransfers(ctx, slog.New(slog.DiscardHandler))
}

// eventsOf returns the events of a tenant from the journal, which is folded on the way: that checks all rules.
func eventsOf(t testing.TB, store eventstore.Store, tenant domain.TenantID) []eventstore.Event {
	t.Helper()
	journal := store.Journal(store.Info().PartitionOf(tenant))
	last, err := journal.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var events []eventstore.Event
	err = eventstore.NewState().FoldUpTo(t.Context(), journal, last, func(_ eventstore.Checkpoint, c eventstore.Commit) {
		slices, err := c.Decode()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range slices {
			if s.Tenant == tenant {
				events = append(events, s.Events...)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func typesOf(events []eventstore.Event) string {
	var types []string
	for _, e := range events {
		types = append(types, strings.TrimSuffix(strings.TrimPrefix(e.Type, "ai.coditect."), ".v1"))
	}
	return strings.Join(types, " ")
}

// awaitEvent returns when a tenant has an event of a type.
func awaitEvent(t testing.TB, store eventstore.Store, tenant domain.TenantID, eventType string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(typesOf(eventsOf(t, store, tenant)), eventType) {
		if time.Now().After(deadline) {
			t.Fatalf("%s has no %s: %s", tenant, eventType, typesOf(eventsOf(t, store, tenant)))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(4))
	s.carry()
	license, key := s.license("acme", 2, 300)
	s.license("globex", 1, 300)
	path := "/api/v1/tenants/acme/licenses/" + license
	s.want(s.call("PATCH", path, operatorKey, `{"features":["cam"],"reservations":[{"name":"team","users":["ada","bob"],"seats":1}]}`), 200, "")
	held := s.want(s.call("POST", acquirePath, key, holder("ada")), 201, "").str("lease.id")

	for body, want := range map[string]int{`{}`: 400, `{"to":"acme"}`: 400, `{"to":"No!"}`: 400, `{"to":"nobody"}`: 404, `{"to":"globex","leases":"keep"}`: 400} {
		s.want(s.call("POST", path+"/transfer", operatorKey, body), want, "")
	}
	s.want(s.call("POST", path+"/transfer?dry_run=true", operatorKey, `{"to":"globex"}`), 200, "")
	started := s.want(s.call("POST", path+"/transfer", operatorKey, `{"to":"globex","reason":"sold"}`), 200, "")
	if again := s.want(s.call("POST", path+"/transfer", operatorKey, `{"to":"globex"}`), 200, ""); again.str("key") != started.str("key") {
		t.Errorf("again: %s", again.text)
	}
	newKey := started.str("key")
	if started.str("transfer.state") != "draining" || !strings.HasPrefix(newKey, "lk_globex_") {
		t.Fatalf("start: %s", started.text)
	}
	s.want(s.call("POST", acquirePath, newKey, holder("ada")), 401, "unauthorized")
	s.want(s.call("POST", acquirePath, key, holder("bob")), 409, "license_transferring")
	s.want(s.call("POST", heartbeatPath, key, lease(held)), 200, "")

	// It stays after all, and goes again.
	s.want(s.call("POST", path+"/cancel-transfer", operatorKey, ``), 200, "")
	s.want(s.call("POST", acquirePath, key, holder("bob")), 201, "")
	s.want(s.call("POST", path+"/transfer", operatorKey, `{"to":"nobody"}`), 404, "tenant_not_found")
	started = s.want(s.call("POST", path+"/transfer", operatorKey, `{"to":"globex"}`), 200, "")
	there := started.str("transfer.license")
	newKey = started.str("key")
	for _, user := range []string{"ada", "bob"} {
		s.want(s.call("POST", "/api/v1/tenants/acme/release", operatorKey, fmt.Sprintf(`{"user":%q}`, user)), 200, "")
	}
	awaitEvent(t, s.store, "acme", "license.transfer_completed")

	s.want(s.call("POST", acquirePath, key, holder("ada")), 403, "license_transferred")
	s.want(s.call("POST", path+"/cancel-transfer", operatorKey, ``), 409, "license_already_revoked")
	s.want(s.call("POST", path+"/transfer", operatorKey, `{"to":"globex"}`), 409, "license_already_revoked")
	got := s.want(s.call("POST", acquirePath, newKey, `{"user":"ada","machine":"m","features":["cam"]}`), 201, "")
	if got.str("lease.license") != there {
		t.Errorf("acquired %s, want a seat of %s", got.text, there)
	}
	shown := s.want(s.call("PATCH", "/api/v1/tenants/globex/licenses/"+there, operatorKey, `{"grace_days":1}`), 200, "")
	if shown.str("license.reservations") != "[map[name:team priority:0 seats:1 users:[ada bob]]]" || shown.str("license.seats") != "2" || shown.str("license.product") != "cad" {
		t.Errorf("there: %s", shown.text)
	}
	for _, e := range eventsOf(t, s.store, "globex") {
		if text := string(e.Raw); strings.Contains(text, "acme") || strings.Contains(text, license) {
			t.Errorf("globex sees something of acme: %s", text)
		}
	}
}

// mortal is a ledger that a process has until it dies: some appends still go through, the others are never answered.
type mortal struct {
	*eventstoretest.Store
	mu    sync.Mutex
	dying bool
	left  int
	stuck chan struct{}
	once  sync.Once
}

func (m *mortal) does() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dying && m.left == 0 {
		m.once.Do(func() { close(m.stuck) })
		return false
	}
	m.left--
	return true
}

func (m *mortal) dieAfter(appends int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dying, m.left = true, appends
}

// awaitEnd returns when the process is dead, or has carried the license to its end.
func (m *mortal) awaitEnd(t testing.TB) {
	t.Helper()
	for !strings.Contains(typesOf(eventsOf(t, m.Store, "acme")), "license.transfer_completed") {
		select {
		case <-m.stuck:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (m *mortal) Journal(p eventstore.Partition) eventstore.Log {
	return mortalLog{m.Store.Journal(p), m}
}

func (m *mortal) Directory(p eventstore.Partition) eventstore.Log {
	return mortalLog{m.Store.Directory(p), m}
}

type mortalLog struct {
	eventstore.Log
	of *mortal
}

func (l mortalLog) Append(after eventstore.Place, r eventstore.Record) <-chan error {
	if !l.of.does() {
		return make(chan error) // the process is dead
	}
	return l.Log.Append(after, r)
}

// Whoever carries a license dies after each of its appends; another process goes on. In the end it is there, once, and not here.
func TestTransferSurvivesACrashAtEachStep(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 4} {
		for appends := range 6 { // the end here, a name there, the license there, the word of it here
			t.Run(fmt.Sprintf("%d partitions, after %d appends", partitions, appends), func(t *testing.T) {
				t.Parallel()
				store := eventstoretest.NewStore(partitions)
				dying := &mortal{Store: store, stuck: make(chan struct{})}
				s := startOn(t, dying)
				license, key := s.license("acme", 2, 300)
				s.license("globex", 1, 300)
				path := "/api/v1/tenants/acme/licenses/" + license
				s.want(s.call("PATCH", path, operatorKey, `{"reservations":[{"name":"team","users":["ada"],"seats":1}]}`), 200, "")
				held := s.want(s.call("POST", acquirePath, key, holder("ada")), 201, "").str("lease.id")
				newKey := s.want(s.call("POST", path+"/transfer", operatorKey, `{"to":"globex"}`), 200, "").str("key")
				s.want(s.call("POST", path+"/suspend", operatorKey, ``), 200, "")
				s.want(s.call("POST", releasePath, key, lease(held)), 200, "")
				dying.dieAfter(appends)
				s.carry()
				dying.awaitEnd(t)
				next := startOn(t, store)
				next.carry()
				awaitEvent(t, store, "acme", "license.transfer_completed")
				if here := typesOf(eventsOf(t, store, "acme")); !strings.HasSuffix(here, "license.transfer_started license.suspended seat.released license.revoked license.transfer_completed") {
					t.Errorf("here: %s", here)
				}
				if there := typesOf(eventsOf(t, store, "globex")); there != "tenant.created license.issued license.issued license.suspended" {
					t.Errorf("there: %s", there)
				}
				next.want(next.call("POST", acquirePath, key, holder("ada")), 403, "license_transferred")
				next.want(next.call("POST", acquirePath, newKey, holder("ada")), 403, "license_suspended")
			})
		}
	}
}
