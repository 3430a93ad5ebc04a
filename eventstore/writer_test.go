package eventstore_test

import (
	"context"
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

// ledger is a Writer under test, on the partition of acme, with short names for what tests ask of it.
type ledger struct {
	t      *testing.T
	store  eventstore.Store
	writer *eventstore.Writer
	stop   func()
}

func start(t *testing.T, store eventstore.Store) *ledger {
	t.Helper()
	return startAt(t, store, time.Now)
}

// startAt starts a Writer with a wall clock of its own.
func startAt(t *testing.T, store eventstore.Store, wall func() time.Time) *ledger {
	t.Helper()
	return startWriter(t, store, wall, eventstore.NewWriterMetrics(prometheus.NewRegistry()))
}

// startWith starts a Writer whose metrics are looked at.
func startWith(t *testing.T, store eventstore.Store, metrics *eventstore.WriterMetrics) *ledger {
	t.Helper()
	return startWriter(t, store, time.Now, metrics)
}

func startWriter(t *testing.T, store eventstore.Store, wall func() time.Time, metrics *eventstore.WriterMetrics) *ledger {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w, err := eventstore.NewWriter(eventstore.WriterConfig{
		Partition: store.Info().PartitionOf("acme"), Store: store,
		Log: slog.New(slog.DiscardHandler), Metrics: metrics, Alone: true, Now: wall,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("writer stopped with %v", err)
			}
		})
	}
	t.Cleanup(stop)
	<-w.Leading()
	return &ledger{t: t, store: store, writer: w, stop: stop}
}

// partitioned runs a test on ledgers of 1, 4 and 16 partitions.
func partitioned(t *testing.T, test func(t *testing.T, store *eventstoretest.Store)) {
	t.Helper()
	for _, partitions := range []int{1, 4, 16} {
		t.Run(fmt.Sprint(partitions, " partitions"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, eventstoretest.NewStore(partitions)) })
		})
	}
}

// journalOf returns the journal that the tenant acme is in.
func journalOf(store eventstore.Store) *eventstoretest.Log {
	return store.Journal(store.Info().PartitionOf("acme")).(*eventstoretest.Log)
}

func (l *ledger) do(c domain.Command) (domain.Answer, error) { return l.keyed(c, nil) }

func (l *ledger) keyed(c domain.Command, key *eventstore.Idempotency) (domain.Answer, error) {
	_, beat := c.(domain.HeartbeatSeats)
	result, err := l.writer.Execute(context.Background(), eventstore.Request{
		Tenant: "acme", Actor: "test", Idempotency: key, Urgent: beat,
		Prepare: func(eventstore.Scope) (domain.Command, error) { return c, nil },
	})
	return result.Answer, err
}

func (l *ledger) must(c domain.Command) domain.Answer {
	l.t.Helper()
	answer, err := l.do(c)
	if err != nil {
		l.t.Fatalf("%+v: %v", c, err)
	}
	return answer
}

// license makes the tenant acme with the license lic.
func (l *ledger) license(seats, leaseSeconds int) {
	l.t.Helper()
	l.must(domain.CreateTenant{Tenant: "acme", Name: "Acme"})
	l.must(domain.IssueLicense{License: "lic", Product: "cad", Seats: seats, Policy: domain.Policy{LeaseSeconds: leaseSeconds}, Key: domain.LicenseKey{ID: "key"}})
}

func acquire(user string) domain.AcquireSeat {
	return domain.AcquireSeat{License: "lic", Lease: domain.LeaseID("lease-" + user), Holder: domain.Holder{User: domain.Pseudonym(user), Machine: "m"}}
}

func rejected(err error, code domain.Code) bool {
	var r *domain.Rejection
	return errors.As(err, &r) && r.Code == code
}

// journal folds the whole journal, which checks its chains and the rules, and returns the events.
func (l *ledger) journal() []eventstore.Event {
	l.t.Helper()
	log := journalOf(l.store)
	last, err := log.Last(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	var events []eventstore.Event
	state := eventstore.NewState()
	err = state.FoldUpTo(context.Background(), log, last, func(_ eventstore.Checkpoint, c eventstore.Commit) {
		slices, err := c.Decode()
		if err != nil {
			l.t.Fatal(err)
		}
		for _, s := range slices {
			events = append(events, s.Events...)
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return events
}

func (l *ledger) types() string {
	var types []string
	for _, e := range l.journal() {
		types = append(types, strings.TrimSuffix(strings.TrimPrefix(e.Type, "ai.coditect."), ".v1"))
	}
	return strings.Join(types, " ")
}

func TestAnswerComesOnlyAfterTheCommitIsStored(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(5, 300)
		journal := journalOf(store)
		journal.Fail(eventstoretest.Held)
		answered := make(chan error, 1)
		go func() {
			_, err := l.do(acquire("ada"))
			answered <- err
		}()
		synctest.Wait()
		select {
		case err := <-answered:
			t.Fatalf("answered %v before the commit was stored", err)
		default:
		}
		journal.Release()
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		l.stop()
	})
}

func TestCommandWithoutEventsWaitsForWhatItSaw(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(5, 300)
		journal := journalOf(store)
		journal.Fail(eventstoretest.Held)
		answers := make(chan domain.Answer, 2)
		for range 2 { // the second finds the seat of the first, which is not stored yet
			go func() { answers <- l.must(acquire("ada")) }()
			synctest.Wait()
		}
		select {
		case a := <-answers:
			t.Fatalf("answered %+v before the acquire was stored", a.Lease)
		default:
		}
		journal.Release()
		first, second := <-answers, <-answers
		if first.Lease.ID != second.Lease.ID || first.Created == second.Created {
			t.Fatalf("answers %+v and %+v, want one lease, created once", first, second)
		}
		l.stop()
	})
}

func TestWhatQueuesDuringACommitBecomesOne(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(100, 300)
		journal := journalOf(store)
		const inFlight, users = 4, 50
		journal.Fail(eventstoretest.Held)
		var wg sync.WaitGroup
		for i := range users {
			wg.Go(func() { l.must(acquire(fmt.Sprint("user", i))) })
			synctest.Wait()
		}
		if err := journal.AwaitHeld(t.Context(), inFlight); err != nil {
			t.Fatal(err)
		}
		before, _ := journal.Last(t.Context())
		journal.Release()
		wg.Wait()
		after, _ := journal.Last(t.Context())
		if got := after - before; got != inFlight+1 {
			t.Fatalf("%d users took %d commits, want %d in flight and one for the rest", users, got, inFlight)
		}
		l.stop()
	})
}

func TestHeartbeatsOfOneCommitAreOneEvent(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(10, 300)
		for i := range 10 {
			l.must(acquire(fmt.Sprint(i)))
		}
		time.Sleep(time.Second) // fake time: the renewal has to move the end
		journal := journalOf(store)
		journal.Fail(eventstoretest.Held)
		var wg sync.WaitGroup
		for range 4 { // fill the pipeline, so that the rest queues
			wg.Go(func() { l.must(domain.RenameTenant{Name: fmt.Sprint(time.Now().UnixNano())}) })
			time.Sleep(time.Millisecond)
		}
		for i := range 10 {
			wg.Go(func() {
				a := l.must(domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{domain.LeaseID(fmt.Sprint("lease-", i))}})
				if a.Leases[0].Rejected != nil {
					t.Errorf("heartbeat %d: %v", i, a.Leases[0].Rejected)
				}
			})
		}
		synctest.Wait()
		journal.Release()
		wg.Wait()
		if got := strings.Count(l.types(), "seat.heartbeat"); got != 1 {
			t.Fatalf("%d heartbeat events, want 1 for all ten leases", got)
		}
		l.stop()
	})
}

func TestUnknownOutcomesAreFoundOut(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]eventstoretest.Fault{
		"lost":                    {eventstoretest.LostUnanswered},
		"lost again and again":    {eventstoretest.LostUnanswered, eventstoretest.LostUnanswered, eventstoretest.LostUnanswered},
		"stored":                  {eventstoretest.StoredUnanswered},
		"stored after lost":       {eventstoretest.LostUnanswered, eventstoretest.StoredUnanswered},
		"conflict with nothing":   {eventstoretest.FalseConflict, eventstoretest.FalseConflict},
		"all kinds, one by one":   {eventstoretest.FalseConflict, eventstoretest.LostUnanswered, eventstoretest.StoredUnanswered},
		"stored, then a conflict": {eventstoretest.StoredUnanswered, eventstoretest.FalseConflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
				l := start(t, store)
				l.license(1, 300)
				journalOf(store).Fail(faults...)
				l.must(acquire("ada"))
				if _, err := l.do(acquire("bob")); !rejected(err, domain.NoSeatAvailable) {
					t.Fatalf("second holder: %v, want no_seat_available", err)
				}
				want := "writer.epoch_started tenant.created license.issued seat.acquired seat.denied"
				if got := l.types(); got != want {
					t.Fatalf("journal holds %s, want %s", got, want)
				}
				l.stop()
			})
		})
	}
}

// A whole pipeline of commits meets the faults: nothing may be stored twice, lost or answered wrongly.
func TestUnknownOutcomesInThePipeline(t *testing.T) {
	t.Parallel()
	for first := eventstoretest.LostUnanswered; first <= eventstoretest.FalseConflict; first++ {
		partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
			l := start(t, store)
			l.license(1000, 300)
			journal := journalOf(store)
			var wg sync.WaitGroup
			for i := range 200 {
				if i%20 == 7 {
					journal.Fail(first)
				}
				wg.Go(func() { l.must(acquire(fmt.Sprint(i))) })
			}
			wg.Wait()
			if got := strings.Count(l.types(), "seat.acquired"); got != 200 {
				t.Fatalf("fault %d: %d acquires in the journal, want 200", first, got)
			}
			l.stop()
		})
	}
}

func TestTakeOverFencesTheOlderWriter(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		older := start(t, store)
		older.license(1, 300)
		newer := start(t, store)
		newer.must(acquire("ada"))
		// The older one does not know of ada. Its append is refused, it reads, and decides again.
		if _, err := older.do(acquire("bob")); !rejected(err, domain.NoSeatAvailable) {
			t.Fatalf("acquire by the older writer: %v, want no_seat_available", err)
		}
		if got := strings.Count(older.types(), "seat.acquired"); got != 1 {
			t.Fatalf("%d seats acquired, want 1", got)
		}
		newer.stop()
		older.stop()
	})
}

func TestTwoWritersAtOnceNeverOversell(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		a := start(t, store)
		a.license(10, 300)
		b := start(t, store)
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := 0
		for i := range 60 {
			l := []*ledger{a, b}[i%2]
			wg.Go(func() {
				_, err := l.do(acquire(fmt.Sprint("user", i)))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					got++
				case !rejected(err, domain.NoSeatAvailable):
					t.Errorf("acquire: %v", err)
				}
			})
		}
		wg.Wait()
		if got != 10 || strings.Count(a.types(), "seat.acquired") != 10 { // types folds, and the fold would panic beyond 10
			t.Fatalf("%d acquires were granted, want 10: %s", got, a.types())
		}
		a.stop()
		b.stop()
	})
}

func TestLeaseThatRanOutIsExpiredWithoutACommand(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		time.Sleep(time.Hour) // beyond the grace after the take-over
		l.license(1, 30)
		lease := l.must(acquire("ada")).Lease
		time.Sleep(29 * time.Second)
		l.must(domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{lease.ID}})
		time.Sleep(29 * time.Second)
		if strings.Contains(l.types(), "seat.expired") {
			t.Fatal("expired in spite of its heartbeat")
		}
		time.Sleep(2 * time.Second)
		if !strings.HasSuffix(l.types(), "seat.heartbeat seat.expired") {
			t.Fatalf("31 s after the last heartbeat the journal holds %s", l.types())
		}
		l.must(acquire("bob"))
		answer := l.must(domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{lease.ID}})
		if r := answer.Leases[0].Rejected; r == nil || r.Code != domain.LeaseExpired {
			t.Fatalf("late heartbeat: %v, want lease_expired", r)
		}
		l.stop()
	})
}

// While no writer ran nobody could heartbeat. Whoever comes back within one heartbeat interval keeps the seat.
func TestNobodyIsExpiredBecauseTheServerWasDown(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(2, 30)
		ada := l.must(acquire("ada")).Lease.ID
		l.must(acquire("bob"))
		l.stop()
		time.Sleep(time.Hour)

		l = start(t, store)
		time.Sleep(9 * time.Second) // the heartbeat interval is 10 s
		a := l.must(domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{ada}})
		if a.Leases[0].Rejected != nil {
			t.Fatalf("heartbeat after the restart: %v", a.Leases[0].Rejected)
		}
		time.Sleep(2 * time.Second)
		expired := 0
		for _, e := range l.journal() {
			if x, ok := e.Data.(*domain.SeatExpired); ok {
				expired++
				if x.Lease == ada {
					t.Fatal("ada lost the seat")
				}
			}
		}
		if expired != 1 {
			t.Fatalf("%d leases expired, want bob's", expired)
		}
		l.stop()
	})
}

func TestManyLeasesExpireInSeveralCommits(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		const users = 2000 // their events do not fit in one commit
		l.license(users, 30)
		var wg sync.WaitGroup
		for i := range users {
			wg.Go(func() { l.must(acquire(fmt.Sprint(i))) })
		}
		wg.Wait()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if got := strings.Count(l.types(), "seat.expired"); got != users {
			t.Fatalf("%d leases expired, want %d", got, users)
		}
		l.stop()
	})
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(1, 300)
		key := &eventstore.Idempotency{Key: "key-one", Fingerprint: "body"}
		first, err := l.keyed(acquire("ada"), key)
		if err != nil {
			t.Fatal(err)
		}
		denied := &eventstore.Idempotency{Key: "key-two", Fingerprint: "body"}
		if _, err := l.keyed(acquire("bob"), denied); !rejected(err, domain.NoSeatAvailable) {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		l.must(domain.ReleaseSeats{License: "lic", Leases: []domain.LeaseID{first.Lease.ID}})

		again := func(l *ledger) {
			t.Helper()
			before := l.types()
			answer, err := l.keyed(acquire("ada"), key)
			if err != nil || *answer.Lease != *first.Lease || answer.Created != first.Created {
				t.Fatalf("repeat: %+v %v, want the recorded %+v", answer.Lease, err, first.Lease)
			}
			var r *domain.Rejection
			_, err = l.keyed(acquire("bob"), denied)
			if !errors.As(err, &r) || r.Code != domain.NoSeatAvailable || r.Seats != 1 || r.InUse != 1 || r.RetryAfterSeconds != 300 {
				t.Fatalf("repeat of the denied: %+v, want the recorded no_seat_available", err)
			}
			other := &eventstore.Idempotency{Key: key.Key, Fingerprint: "another body"}
			if _, err := l.keyed(acquire("ada"), other); !errors.Is(err, eventstore.ErrKeyReused) {
				t.Fatalf("same key, other body: %v, want ErrKeyReused", err)
			}
			if after := l.types(); after != before {
				t.Fatalf("repeats added events: %s, before %s", after, before)
			}
		}
		again(l)
		l.stop()
		restarted := start(t, store)
		again(restarted)
		time.Sleep(2 * time.Hour)
		answer, err := restarted.keyed(domain.AcquireSeat{License: "lic", Lease: "new", Holder: acquire("ada").Holder}, key)
		if err != nil || answer.Lease.ID != "new" {
			t.Fatalf("after two hours: %+v %v, want a new lease", answer.Lease, err)
		}
		restarted.stop()
	})
}

func TestRepeatedKeyInOneBatchIsDoneOnce(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(10, 300)
		journal := journalOf(store)
		journal.Fail(eventstoretest.Held)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				c := domain.IssueLicense{License: domain.LicenseID(fmt.Sprint("lic-", i)), Product: "p", Seats: 1, Policy: domain.Policy{LeaseSeconds: 60}, Key: domain.LicenseKey{ID: domain.KeyID(fmt.Sprint(i))}}
				if _, err := l.keyed(c, &eventstore.Idempotency{Key: "once", Fingerprint: "f"}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		journal.Release()
		wg.Wait()
		if got := strings.Count(l.types(), "license.issued"); got != 2 {
			t.Fatalf("%d licenses, want the first and one more", got)
		}
		l.stop()
	})
}

func TestNewNamesAreStoredBeforeTheCommit(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(10, 300)
		take := func(l *ledger, user string) domain.Lease {
			t.Helper()
			result, err := l.writer.Execute(t.Context(), eventstore.Request{Tenant: "acme", Actor: "test", Prepare: func(s eventstore.Scope) (domain.Command, error) {
				h := domain.Holder{User: s.Pseudonym(eventstore.UserName, user), Machine: s.Pseudonym(eventstore.MachineName, "m-1")}
				return domain.AcquireSeat{License: "lic", Lease: domain.LeaseID("of-" + user), Holder: h}, nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			return *result.Answer.Lease
		}
		// The directory fails, with the names stored and not: the command is decided again.
		store.Directory(store.Info().PartitionOf("acme")).(*eventstoretest.Log).Fail(eventstoretest.LostUnanswered)
		ada := take(l, "ada")
		store.Directory(store.Info().PartitionOf("acme")).(*eventstoretest.Log).Fail(eventstoretest.StoredUnanswered)
		bob := take(l, "bob")
		if ada.Holder.Machine != bob.Holder.Machine || ada.Holder.User == bob.Holder.User {
			t.Fatalf("holders %+v and %+v, want one machine and two users", ada.Holder, bob.Holder)
		}
		for _, e := range l.journal() {
			if text := string(e.Raw); strings.Contains(text, `"ada"`) || strings.Contains(text, `"m-1"`) {
				t.Fatalf("the journal holds a name: %s", text)
			}
		}
		l.stop()
		l = start(t, store)
		if got := l.writer.Directory().Text("acme", ada.Holder.User); got != "ada" {
			t.Fatalf("after a restart the name is %q, want ada", got)
		}
		if again := take(l, "ada"); again.ID != ada.ID {
			t.Fatalf("after a restart ada got %s, want the lease %s", again.ID, ada.ID)
		}
		l.stop()
	})
}

func TestRefusedCallerChangesNothing(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(1, 300)
		no := errors.New("no")
		_, err := l.writer.Execute(t.Context(), eventstore.Request{Tenant: "acme", Prepare: func(eventstore.Scope) (domain.Command, error) { return nil, no }})
		if !errors.Is(err, no) {
			t.Fatalf("execute = %v, want the error of Prepare", err)
		}
		_, err = l.writer.Execute(t.Context(), eventstore.Request{Tenant: "acme", Prepare: func(eventstore.Scope) (domain.Command, error) { panic("bug") }})
		if err == nil || !strings.Contains(err.Error(), "bug") {
			t.Fatalf("execute = %v, want the panic as an error", err)
		}
		if got := l.types(); got != "writer.epoch_started tenant.created license.issued" {
			t.Fatal(got)
		}
		l.stop()
	})
}

func TestStoppingAnswersEverybody(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(100, 300)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				_, err := l.do(acquire(fmt.Sprint(i)))
				if err != nil && !errors.Is(err, eventstore.ErrStopping) {
					t.Errorf("acquire: %v", err)
				}
			})
		}
		l.stop()
		wg.Wait()
		if _, err := l.do(acquire("late")); !errors.Is(err, eventstore.ErrStopping) {
			t.Fatalf("after the stop: %v, want ErrStopping", err)
		}
	})
}

func TestCallerWhoWaitsTooLongHearsUnknown(t *testing.T) {
	t.Parallel()
	partitioned(t, func(t *testing.T, store *eventstoretest.Store) {
		l := start(t, store)
		l.license(1, 300)
		journal := journalOf(store)
		journal.Fail(eventstoretest.Held)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.writer.Execute(ctx, eventstore.Request{Tenant: "acme", Prepare: func(eventstore.Scope) (domain.Command, error) { return acquire("ada"), nil }})
		if !errors.Is(err, eventstore.ErrUnknown) {
			t.Fatalf("execute = %v, want ErrUnknown", err)
		}
		journal.Release()
		if again := l.must(acquire("ada")); again.Created {
			t.Fatal("the repeat took a second seat")
		}
		l.stop()
	})
}

func TestJournalThatIsNotOursStopsTheWriter(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(*eventstoretest.Log){
		"changed event": func(l *eventstoretest.Log) {
			l.Replace(3, func(r *eventstore.Record) {
				r.Body = []byte(strings.Replace(string(r.Body), `"seats":1`, `"seats":9`, 1))
			})
		},
		"changed link": func(l *eventstoretest.Log) {
			l.Replace(3, func(r *eventstore.Record) { r.Header["Ledger-Prev"] = strings.Repeat("A", 43) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := eventstoretest.NewStore(1)
			l := start(t, store)
			l.license(1, 300)
			l.must(acquire("ada"))
			l.stop()
			damage(journalOf(store))
			w, err := eventstore.NewWriter(eventstore.WriterConfig{
				Store: store, Log: slog.New(slog.DiscardHandler), Metrics: eventstore.NewWriterMetrics(prometheus.NewRegistry()), Alone: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Run(t.Context()); !errors.Is(err, eventstore.ErrChainBroken) {
				t.Fatalf("run = %v, want ErrChainBroken", err)
			}
		})
	}
}
