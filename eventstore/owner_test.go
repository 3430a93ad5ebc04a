package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

func newWriters(t *testing.T, store eventstore.Store) *eventstore.Writers {
	t.Helper()
	ws, err := eventstore.NewWriters(eventstore.WritersConfig{Store: store, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

// replica is the Writers of one process.
type replica struct {
	*eventstore.Writers
	t    *testing.T
	kill func() // ends it as if it were killed: the owner's records stay
	stop func()
}

func startReplica(t *testing.T, store eventstore.Store) *replica {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	mortal := &mortalStore{Store: store}
	ws := newWriters(t, mortal)
	done := make(chan error, 1)
	go func() { done <- ws.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("writers stopped with %v", err)
		}
	})
	t.Cleanup(stop)
	return &replica{Writers: ws, t: t, stop: stop, kill: func() { mortal.die(); stop() }}
}

// mortalStore is a store that its process can no longer write to once it is dead.
type mortalStore struct {
	eventstore.Store
	mu   sync.Mutex
	dead bool
}

func (s *mortalStore) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
}

func (s *mortalStore) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.dead
}

func (s *mortalStore) Owner(p eventstore.Partition) eventstore.Register {
	return &mortalRegister{s.Store.Owner(p), s}
}

// mortalRegister is a register as one process sees it. A dead process hears nothing; neither does a paused one.
type mortalRegister struct {
	eventstore.Register
	store *mortalStore
}

func (r *mortalRegister) Write(ctx context.Context, value []byte, revision uint64) (uint64, error) {
	if !r.store.alive() {
		return 0, eventstoretest.ErrUnanswered
	}
	return r.Register.Write(ctx, value, revision)
}

func (r *mortalRegister) Read(ctx context.Context) ([]byte, uint64, error) {
	if !r.store.alive() {
		return nil, 0, eventstoretest.ErrUnanswered
	}
	return r.Register.Read(ctx)
}

func (r *replica) do(tenant domain.TenantID, c domain.Command) (domain.Answer, error) {
	result, err := r.Execute(context.Background(), eventstore.Request{
		Tenant: tenant, Actor: "test", Prepare: func(eventstore.Scope) (domain.Command, error) { return c, nil },
	})
	return result.Answer, err
}

func (r *replica) must(tenant domain.TenantID, c domain.Command) domain.Answer {
	r.t.Helper()
	answer, err := r.do(tenant, c)
	if err != nil {
		r.t.Fatalf("%s %+v: %v", tenant, c, err)
	}
	return answer
}

// awaitOwner returns when this replica owns the partition of each tenant, or another one does.
func (r *replica) awaitOwner(mine bool, tenants ...domain.TenantID) {
	for _, tenant := range tenants {
		for {
			now, changed := r.Ownership(tenant)
			if now.Mine == mine && now.Owner != "" && (now.Owner == r.Process()) == mine {
				break
			}
			<-changed
		}
	}
}

// tenantsOfAll returns a tenant of each partition.
func tenantsOfAll(info eventstore.LedgerInfo) []domain.TenantID {
	tenants := make([]domain.TenantID, info.Partitions)
	for n, left := 0, info.Partitions; left > 0; n++ {
		id := domain.TenantID(fmt.Sprint("tenant-", n))
		if p := info.PartitionOf(id); tenants[p] == "" {
			tenants[p] = id
			left--
		}
	}
	return tenants
}

func license(r *replica, tenant domain.TenantID, seats int) {
	r.must(tenant, domain.CreateTenant{Tenant: tenant, Name: "A"})
	r.must(tenant, domain.IssueLicense{License: "lic", Product: "cad", Seats: seats, Policy: domain.Policy{LeaseSeconds: 300}, Key: domain.LicenseKey{ID: "key"}})
}

func heartbeat(user string) domain.HeartbeatSeats {
	return domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{domain.LeaseID("lease-" + user)}}
}

// count folds a partition's journal, which checks it, and returns how often an event type is in it.
func count(t *testing.T, store eventstore.Store, p eventstore.Partition, eventType string) int {
	t.Helper()
	n := 0
	last, err := store.Journal(p).Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = eventstore.NewState().FoldUpTo(t.Context(), store.Journal(p), last, func(_ eventstore.Checkpoint, c eventstore.Commit) {
		slices, err := c.Decode()
		if err != nil {
			t.Error(err)
		}
		for _, s := range slices {
			for _, e := range s.Events {
				if strings.Contains(e.Type, eventType) {
					n++
				}
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
	return n
}

func TestCommandsReachTheirPartition(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		tenants := tenantsOfAll(store.Info())
		r := startReplica(t, store)
		r.awaitOwner(true, tenants...)
		if err := r.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for p, tenant := range tenants {
			wg.Go(func() {
				license(r, tenant, 5)
				granted := 0
				for i := range 5 + 1 {
					if _, err := r.do(tenant, acquire(fmt.Sprint(i))); err == nil {
						granted++
					} else if !rejected(err, domain.NoSeatAvailable) {
						t.Error(err)
					}
				}
				if stored := count(t, store, eventstore.Partition(p), "seat.acquired"); granted != 5 || stored != 5 {
					t.Errorf("%s: %d granted, %d stored, want 5", tenant, granted, stored)
				}
			})
		}
		wg.Wait()
		r.stop()
		restarted := startReplica(t, store)
		restarted.awaitOwner(true, tenants...)
		for _, tenant := range tenants {
			if again := restarted.must(tenant, acquire("0")); again.Created {
				t.Errorf("%s: after a restart the holder got a second seat", tenant)
			}
		}
		restarted.stop()
	})
}

func TestStandbyTakesOverFromAnOwnerThatIsDead(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		tenants := tenantsOfAll(store.Info())
		owner := startReplica(t, store)
		owner.awaitOwner(true, tenants...)
		standby := startReplica(t, store)
		standby.awaitOwner(false, tenants...)
		for _, tenant := range tenants {
			license(owner, tenant, 1)
			owner.must(tenant, acquire("ada"))
			if _, err := standby.do(tenant, heartbeat("ada")); !errors.Is(err, eventstore.ErrElsewhere) {
				t.Fatalf("asked the standby: %v, want ErrElsewhere", err)
			}
		}
		time.Sleep(time.Minute) // an owner that is alive keeps its partitions
		standby.awaitOwner(false, tenants...)
		if err := standby.Ready(t.Context()); err != nil {
			t.Fatalf("a standby that follows is not ready: %v", err)
		}
		died := time.Now()
		owner.kill()
		standby.awaitOwner(true, tenants...)
		if took := time.Since(died); took < 2*time.Second || took > 4*time.Second { // fake time
			t.Errorf("took over after %v", took)
		}
		for p, tenant := range tenants {
			if a := standby.must(tenant, heartbeat("ada")); a.Leases[0].Rejected != nil {
				t.Errorf("%s: %v", tenant, a.Leases[0].Rejected)
			}
			if _, err := standby.do(tenant, acquire("bob")); !rejected(err, domain.NoSeatAvailable) {
				t.Errorf("%s: %v, want no_seat_available", tenant, err)
			}
			if epochs := count(t, store, eventstore.Partition(p), "epoch_started"); epochs != 2 {
				t.Errorf("%s: %d epochs, want 2", tenant, epochs)
			}
		}
		standby.stop()
	})
}

func TestOwnerThatStopsIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		tenants := tenantsOfAll(store.Info())
		owner := startReplica(t, store)
		owner.awaitOwner(true, tenants...)
		standby := startReplica(t, store)
		standby.awaitOwner(false, tenants...)
		owner.stop()
		stopped := time.Now()
		standby.awaitOwner(true, tenants...)
		if took := time.Since(stopped); took > time.Second { // fake time
			t.Errorf("took over after %v", took)
		}
		standby.stop()
	})
}

// An owner that could not renew its record, because it was paused or cut off, goes on where another has taken over. What
// it still believes must not be answered, and what it decides must not be stored.
func TestOwnerThatWasAwayStepsDown(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		tenants := tenantsOfAll(store.Info())
		away := &mortalStore{Store: store}
		ctx, cancel := context.WithCancel(context.Background())
		ws := newWriters(t, away)
		done := make(chan error, 1)
		go func() { done <- ws.Run(ctx) }()
		owner := &replica{Writers: ws, t: t}
		owner.awaitOwner(true, tenants...)
		for _, tenant := range tenants {
			license(owner, tenant, 1)
		}
		for p, tenant := range tenants {
			// The last commit before: stored, but its owner hears of it only when it comes back.
			store.Journal(eventstore.Partition(p)).(*eventstoretest.Log).Fail(eventstoretest.AnsweredLate)
			go owner.do(tenant, domain.RenameTenant{Name: "B"})
		}
		synctest.Wait()
		away.die()
		next := startReplica(t, store)
		next.awaitOwner(true, tenants...)
		for i, tenant := range tenants {
			next.must(tenant, acquire("ada"))
			// The owner of before is asked while it hears nothing, and only then comes back. The first command would leave
			// events, the other ones not.
			answered := make(chan error, 1)
			command := []domain.Command{heartbeat("ada"), domain.SuspendLicense{License: "none"}, acquire("bob")}[i%3]
			go func() {
				answer, err := owner.do(tenant, command)
				if err == nil && len(answer.Leases) == 1 && answer.Leases[0].Rejected != nil {
					err = answer.Leases[0].Rejected
				}
				answered <- err
			}()
			synctest.Wait()
			select {
			case err := <-answered:
				// The fence has told it already.
				if !errors.Is(err, eventstore.ErrElsewhere) {
					t.Errorf("%s: the owner of before answered %T: %v", tenant, command, err)
				}
				continue
			default:
			}
			defer func() {
				if err := <-answered; !errors.Is(err, eventstore.ErrElsewhere) {
					t.Errorf("%s: the owner of before answered %T: %v", tenant, command, err)
				}
			}()
		}
		for p := range tenants {
			store.Journal(eventstore.Partition(p)).(*eventstoretest.Log).Release()
		}
		synctest.Wait()
		away.mu.Lock()
		away.dead = false
		away.mu.Unlock()
		owner.awaitOwner(false, tenants...)
		for p, tenant := range tenants {
			if n := count(t, store, eventstore.Partition(p), "seat.acquired"); n != 1 {
				t.Errorf("%s: %d seats acquired, want 1", tenant, n)
			}
		}
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		next.stop()
	})
}

// The owner dies with commits on their way that meet each fault. Its callers hear the truth, whoever is asked next.
func TestTakeOverWithCommitsInFlight(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		tenants := tenantsOfAll(store.Info())
		owner := startReplica(t, store)
		owner.awaitOwner(true, tenants...)
		standby := startReplica(t, store)
		standby.awaitOwner(false, tenants...)
		var wg sync.WaitGroup
		for p, tenant := range tenants {
			license(owner, tenant, 20)
			journal := store.Journal(eventstore.Partition(p)).(*eventstoretest.Log)
			for i := range 20 {
				if i%5 == 2 {
					journal.Fail(eventstoretest.Fault(1 + (p+i)%3))
				}
				wg.Go(func() {
					user := fmt.Sprint("user-", i)
					for r := range 100 { // whoever owns it
						_, err := []*replica{owner, standby}[r%2].do(tenant, acquire(user))
						if err == nil {
							return
						}
						if !errors.Is(err, eventstore.ErrElsewhere) && !errors.Is(err, eventstore.ErrStopping) && !errors.Is(err, eventstore.ErrUnknown) {
							t.Errorf("acquire: %v", err)
						}
						time.Sleep(100 * time.Millisecond)
					}
					t.Errorf("%s: nobody answered", user)
				})
			}
		}
		owner.kill()
		wg.Wait()
		standby.awaitOwner(true, tenants...)
		for p, tenant := range tenants {
			if n := count(t, store, eventstore.Partition(p), "seat.acquired"); n != 20 {
				t.Errorf("%s: %d seats acquired, want 20", tenant, n)
			}
		}
		standby.stop()
	})
}

// The owner's record is a witness of what was stored: a journal that has lost commits is not taken over.
func TestJournalThatLostCommitsIsNotTakenOver(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(*eventstoretest.Log){
		"rolled back": func(l *eventstoretest.Log) { l.Truncate(3) },
		"emptied":     func(l *eventstoretest.Log) { l.Truncate(0) },
		"rolled back, and grown again": func(l *eventstoretest.Log) {
			l.Truncate(2)
			for seq := uint64(3); seq <= 5; seq++ {
				before, _ := l.Get(context.Background(), seq-1)
				prev, _ := eventstore.CommitOf(before)
				body := `[{"specversion":"1.0","id":"x","source":"s","type":"ai.coditect.writer.epoch_started.v1","time":"2026-01-01T00:00:00Z","actor":"writer","data":{"epoch":9,"writer":"w"}}]`
				c := eventstore.Commit{ID: fmt.Sprint("other-", seq), Prev: prev.Hash(), Body: []byte(body)}
				<-l.Append(eventstore.Place{Seq: seq - 1, ID: before.ID}, c.Record())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := eventstoretest.NewStore(1)
				owner := startReplica(t, store)
				owner.awaitOwner(true, "acme")
				license(owner, "acme", 5)
				owner.must("acme", acquire("ada"))
				owner.must("acme", acquire("bob"))
				owner.stop()
				damage(store.Journal(0).(*eventstoretest.Log))
				before, _ := store.Journal(0).Last(t.Context())
				next := newWriters(t, store)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // fake time
				defer cancel()
				err := next.Run(ctx)
				if !errors.Is(err, eventstore.ErrChainBroken) || !strings.Contains(err.Error(), "LEDGER_OWNERS") {
					t.Fatalf("run = %v, want ErrChainBroken that names the record", err)
				}
				if after, _ := store.Journal(0).Last(t.Context()); after != before {
					t.Fatalf("%d commits were appended to it", after-before)
				}
			})
		})
	}
}

// The record of a register that cannot be reached tells nothing: nobody takes over because of it, and the owner goes on.
func TestRegisterThatIsAwayStopsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := eventstoretest.NewStore(1)
		owner := startReplica(t, store)
		owner.awaitOwner(true, "acme")
		license(owner, "acme", 5)
		standby := startReplica(t, store)
		standby.awaitOwner(false, "acme")
		register := store.Owner(0).(*eventstoretest.Register)
		register.Lose(true)
		time.Sleep(time.Minute)
		owner.must("acme", acquire("ada"))
		register.Lose(false)
		time.Sleep(time.Minute)
		owner.awaitOwner(true, "acme")
		if n := count(t, store, 0, "epoch_started"); n != 1 {
			t.Errorf("%d epochs, want 1", n)
		}
		value, _, _ := register.Read(t.Context())
		var record eventstore.OwnerRecord
		if err := json.Unmarshal(value, &record); err != nil || record.Owner != owner.Process() || record.Checkpoint.Seq != 4 {
			t.Errorf("the record is %s, %v", value, err)
		}
		standby.stop()
		owner.stop()
	})
}

// The tenure is lost with a commit on its way that is stored after all: its command is answered, not done again.
func TestCommitInFlightIsNotDoneAgain(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(5, 300)
		journalOf(store).Fail(eventstoretest.Held)
		var wg sync.WaitGroup
		wg.Go(func() {
			l.must(domain.IssueLicense{License: "once", Product: "cad", Seats: 1, Policy: domain.Policy{LeaseSeconds: 60}, Key: domain.LicenseKey{ID: "once"}})
		})
		synctest.Wait()
		// A name that cannot be stored ends the tenure while the commit is held.
		store.Directory(store.Info().PartitionOf("acme")).(*eventstoretest.Log).Fail(eventstoretest.LostUnanswered)
		wg.Go(func() {
			_, err := l.writer.Execute(t.Context(), eventstore.Request{Tenant: "acme", Prepare: func(s eventstore.Scope) (domain.Command, error) {
				return acquire(string(s.Pseudonym(eventstore.UserName, "ada"))), nil
			}})
			if err != nil {
				t.Error(err)
			}
		})
		if err := journalOf(store).AwaitHeld(t.Context(), 2); err != nil { // the commit, and the next epoch
			t.Error(err)
		}
		journalOf(store).Release()
		wg.Wait()
		if got := strings.Count(l.types(), "license.issued"); got != 2 {
			t.Errorf("%d licenses, want the first and one more", got)
		}
		l.stop()
	})
}
