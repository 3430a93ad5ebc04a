package commandapi_test

import (
	"context"
	"errors"
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

	for body, want := range map[string]int{`{}`: 400, `{"to":"acme"}`: 400, `{"to":"No!"}`: 400, `{"to":"nobody"}`: 404, `{"to":"globex","leases":"take"}`: 400, `{"to":"globex","overlap_seconds":1}`: 400, `{"to":"globex","leases":"keep","overlap_seconds":-1}`: 400} {
		s.want(s.call("POST", path+"/transfer", operatorKey, body), want, "")
	}
	s.want(s.call("POST", path+"/transfer?dry_run=true", operatorKey, `{"to":"globex"}`), 200, "")
	started := s.want(s.call("POST", path+"/transfer", operatorKey, `{"to":"globex","reason":"sold"}`), 200, "")
	if shown := started.str("license.transfer.state") + " " + started.str("license.transfer.to"); shown != "draining globex" {
		t.Errorf("the license says %s", shown)
	}
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
	if shown.str("license.received_by") != started.str("transfer.id") || shown.str("license.reservations") != "[map[name:team priority:0 seats:1 users:[ada bob]]]" || shown.str("license.seats") != "2" || shown.str("license.product") != "cad" {
		t.Errorf("there: %s", shown.text)
	}
	for _, e := range eventsOf(t, s.store, "globex") {
		if text := string(e.Raw); strings.Contains(text, "acme") || strings.Contains(text, license) {
			t.Errorf("globex sees something of acme: %s", text)
		}
	}
}

// names of a tenant's people, as the directory has them.
func namesOf(t testing.TB, store eventstore.Store, tenant domain.TenantID) map[string]domain.Pseudonym {
	t.Helper()
	log := store.Directory(store.Info().PartitionOf(tenant))
	last, err := log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]domain.Pseudonym{}
	for seq := uint64(1); seq <= last; seq++ {
		r, err := log.Get(t.Context(), seq)
		if errors.Is(err, eventstore.ErrNoRecord) {
			continue // erased
		}
		if err != nil {
			t.Fatal(err)
		}
		said, err := eventstore.DecodeDirectory(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range said.Names {
			if n.Tenant == tenant {
				names[n.Text] = n.Pseudonym
			}
		}
	}
	return names
}

// Running leases go along: under their ids, with their holders, their fences and their seats, and whoever has the old key keeps
// them, gives them back, and gets nothing else.
func TestTransferKeepsLeases(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(4))
	license, key := s.license("acme", 2, 300)
	s.license("globex", 1, 300)
	path := "/api/v1/tenants/acme/licenses/" + license
	s.want(s.call("PATCH", path, operatorKey, `{"seat_per":"user","borrow_days":3}`), 200, "")
	take := func(body string) (id string, got reply) {
		got = s.want(s.call("POST", acquirePath, key, body), 201, "")
		return got.str("lease.id"), got
	}
	ada, first := take(`{"user":"ada","machine":"pc1"}`)
	also, _ := take(`{"user":"ada","machine":"pc2","process":"7"}`)
	until := time.Now().Add(30 * time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
	eve, _ := take(fmt.Sprintf(`{"user":"eve","machine":"pc3","borrow_until":%q}`, until))
	gone, _ := take(`{"user":"ada","machine":"pc9"}`)
	s.want(s.call("POST", releasePath, key, lease(gone)), 200, "")
	s.want(s.call("POST", "/api/v1/tenants/acme/forget", operatorKey, `{"user":"eve"}`), 200, "")

	started := s.want(s.call("POST", path+"/transfer", operatorKey, `{"to":"globex","leases":"keep","overlap_seconds":3600}`), 200, "")
	if started.str("transfer.state") != "gone" || started.str("transfer.leases") != "3" || started.str("transfer.old_key_until") == "" || started.str("license.in_use") != "0" {
		t.Fatalf("start: %s", started.text)
	}
	newKey, there := started.str("key"), started.str("transfer.license")
	// It is on its way, and nobody carries it yet.
	for _, path := range []string{heartbeatPath, releasePath} {
		s.want(s.call("POST", path, key, lease(ada)), 503, "license_arriving")
	}
	s.want(s.call("POST", "/api/v1/tenants/acme/forget", operatorKey, `{"user":"ada"}`), 503, "license_arriving")
	s.want(s.call("POST", path+"/cancel-transfer", operatorKey, ``), 409, "license_already_revoked")
	s.carry()
	awaitEvent(t, s.store, "acme", "license.transfer_completed")

	got := s.want(s.call("POST", heartbeatPath, key, lease(ada)), 200, "")
	if got.str("lease.id") != ada || got.str("lease.license") != there || got.str("lease.user") != "ada" || got.str("lease.machine") != "pc1" ||
		got.str("lease.fence") != first.str("lease.fence") || got.str("lease.acquired_at") != first.str("lease.acquired_at") || got.str("expires_in_seconds") != "300" {
		t.Errorf("with the old key: %s", got.text)
	}
	s.want(s.call("POST", heartbeatPath, key, fmt.Sprintf(`{"lease":%q,"fence":9}`, ada)), 410, "fence_stale")
	s.want(s.call("POST", heartbeatPath, newKey, lease(also)), 200, "")
	s.want(s.call("POST", heartbeatPath, key, lease(gone)), 410, "lease_released")
	s.want(s.call("POST", heartbeatPath, key, lease("lse_none")), 404, "lease_not_found")
	s.want(s.call("POST", acquirePath, key, `{"user":"ada","machine":"pc1"}`), 403, "license_transferred")
	// The same holder with the new key has the same lease; another one gets a seat with a later fence, of which the old key knows nothing.
	if again := s.want(s.call("POST", acquirePath, newKey, `{"user":"ada","machine":"pc1"}`), 200, ""); again.str("lease.id") != ada {
		t.Errorf("again: %s", again.text)
	}
	s.want(s.call("POST", acquirePath, newKey, holder("bob")), 409, "no_seat_available") // ada's two leases are one seat, and eve has the other
	borrowed := s.want(s.call("POST", heartbeatPath, key, lease(eve)), 200, "")
	if borrowed.str("lease.expires_at") != until || borrowed.str("lease.borrowed") != "true" || borrowed.str("lease.user") != "" || borrowed.str("lease.forgotten") != "[user]" {
		t.Errorf("borrowed: %s", borrowed.text)
	}
	s.want(s.call("POST", releasePath, key, lease(eve)), 200, "")
	bob := s.want(s.call("POST", acquirePath, newKey, holder("bob")), 201, "")
	var fence, before int
	fmt.Sscan(bob.str("lease.fence"), &fence)
	fmt.Sscan(first.str("lease.fence"), &before)
	if fence <= before {
		t.Errorf("fence %d after %d", fence, before)
	}
	s.want(s.call("POST", heartbeatPath, key, lease(bob.str("lease.id"))), 404, "lease_not_found")
	many := s.want(s.call("POST", heartbeatPath, key, fmt.Sprintf(`{"leases":[%q,%q,%q,%q]}`, gone, ada, bob.str("lease.id"), eve)), 200, "")
	var codes []any
	for _, result := range many.at("results").([]any) {
		codes = append(codes, result.(map[string]any)["code"], result.(map[string]any)["lease"] == ada)
	}
	if fmt.Sprint(codes) != "[lease_released false <nil> true lease_not_found false lease_released false]" {
		t.Errorf("many: %s", many.text)
	}
	s.want(s.call("POST", releasePath, key, fmt.Sprintf(`{"leases":[%q,%q]}`, also, gone)), 200, "")

	// A lease moves once.
	shown := s.want(s.call("POST", "/api/v1/tenants/globex/licenses/"+there+"/transfer", operatorKey, `{"to":"acme","leases":"keep"}`), 409, "leases_moved_before")
	if !strings.Contains(shown.text, ada) {
		t.Errorf("which: %s", shown.text)
	}

	// The tenants know of each other's people whose leases those are, by name, and nothing else.
	names, here := namesOf(t, s.store, "globex"), namesOf(t, s.store, "acme")
	if names["ada"] == "" || names["ada"] == here["ada"] || names["eve"] != "" || names["pc3"] == "" || names["pc9"] != "" {
		t.Errorf("globex knows %v", names)
	}
	secret := []domain.Pseudonym{"acme", domain.Pseudonym(license)}
	for _, e := range eventsOf(t, s.store, "acme") {
		secret = append(secret, domain.Pseudonyms(e.Data)...)
	}
	for _, e := range eventsOf(t, s.store, "globex") {
		text := string(e.Raw)
		for _, of := range secret {
			if strings.Contains(text, string(of)) {
				t.Errorf("globex sees %s of acme: %s", of, text)
			}
		}
	}
	s.want(s.call("POST", "/api/v1/tenants/acme/forget", operatorKey, `{"user":"ada"}`), 200, "")
	if got := s.want(s.call("POST", heartbeatPath, key, lease(ada)), 200, ""); got.str("lease.user") != "ada" {
		t.Errorf("who is forgotten at the one is known at the other until that forgets, too: %s", got.text)
	}
}

// After the overlap a key from before is good for nothing, and says so.
func TestTransferOverlapEnds(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(2))
	license, key := s.license("acme", 2, 300)
	s.license("globex", 1, 300)
	held := s.want(s.call("POST", acquirePath, key, holder("ada")), 201, "").str("lease.id")
	newKey := s.want(s.call("POST", "/api/v1/tenants/acme/licenses/"+license+"/transfer", operatorKey, `{"to":"globex","leases":"keep","overlap_seconds":0}`), 200, "").str("key")
	s.carry()
	awaitEvent(t, s.store, "acme", "license.transfer_completed")
	s.want(s.call("POST", heartbeatPath, key, lease(held)), 410, "lease_transferred")
	s.want(s.call("POST", releasePath, key, lease(held)), 410, "lease_transferred")
	s.want(s.call("POST", "/api/v1/tenants/acme/suspend", operatorKey, ``), 200, "")
	s.want(s.call("POST", heartbeatPath, key, lease(held)), 410, "lease_transferred")
	s.want(s.call("POST", heartbeatPath, newKey, lease(held)), 200, "")
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
				next := s.diesCarrying(dying, appends)
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

// diesCarrying has s die after so many appends while it moves a license of acme, and returns the service that carries it on to the end.
func (s *service) diesCarrying(dying *mortal, appends int) *service {
	s.t.Helper()
	dying.dieAfter(appends)
	s.carry()
	dying.awaitEnd(s.t)
	next := startOn(s.t, dying.Store)
	next.carry()
	awaitEvent(s.t, dying.Store, "acme", "license.transfer_completed")
	return next
}

// The same with leases that go along, more than are handed over at once: each is there, once, and runs.
func TestTransferOfLeasesSurvivesACrashAtEachStep(t *testing.T) {
	t.Parallel()
	const leases = 150
	for _, partitions := range []int{1, 4} {
		for appends := range 8 { // the license there, names, 100 leases, names, the others, the word of it here
			t.Run(fmt.Sprintf("%d partitions, after %d appends", partitions, appends), func(t *testing.T) {
				t.Parallel()
				store := eventstoretest.NewStore(partitions)
				dying := &mortal{Store: store, stuck: make(chan struct{})}
				s := startOn(t, dying)
				license, key := s.license("acme", leases, 3600)
				s.license("globex", 1, 300)
				var held []string
				for n := range leases {
					held = append(held, s.want(s.call("POST", acquirePath, key, holder(fmt.Sprint("user", n))), 201, "").str("lease.id"))
				}
				newKey := s.want(s.call("POST", "/api/v1/tenants/acme/licenses/"+license+"/transfer", operatorKey, `{"to":"globex","leases":"keep"}`), 200, "").str("key")
				next := s.diesCarrying(dying, appends)
				if here := typesOf(eventsOf(t, store, "acme")); !strings.HasSuffix(here, "license.transfer_started license.revoked license.transfer_completed") {
					t.Errorf("here: %s", here)
				}
				there := map[string]int{}
				for _, e := range eventsOf(t, store, "globex") {
					if a, ok := e.Data.(*domain.SeatAcquired); ok {
						there[string(a.Lease)]++
					}
				}
				for n, id := range held {
					if there[id] != 1 || len(there) != leases {
						t.Fatalf("%d of %d leases are there, lease %d %d times", len(there), leases, n, there[id])
					}
					got := next.want(next.call("POST", heartbeatPath, []string{key, newKey}[n%2], lease(id)), 200, "")
					if got.str("lease.user") != fmt.Sprint("user", n) {
						t.Fatalf("lease %d: %s", n, got.text)
					}
				}
				next.want(next.call("POST", acquirePath, newKey, holder("another")), 409, "no_seat_available")
			})
		}
	}
}
