package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// While the journal stands still acquires queue up and are refused at once when there are too many; heartbeats and releases
// still get in, are served first when it goes on, and everybody who was not refused is answered.
func TestFloodOfAcquiresDelaysNoHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := eventstoretest.NewStore(1)
		l := start(t, store)
		l.license(3, 300)
		ada, bob := l.must(acquire("ada")).Lease.ID, l.must(acquire("bob")).Lease.ID
		before, _ := store.Journal(0).Last(t.Context())
		journal := store.Journal(0).(*eventstoretest.Log)
		journal.Fail(eventstoretest.Held)

		execute := func(urgent bool, c domain.Command) error {
			_, err := l.writer.Execute(context.Background(), eventstore.Request{
				Tenant: "acme", Actor: "test", Urgent: urgent,
				Prepare: func(eventstore.Scope) (domain.Command, error) { return c, nil },
			})
			return err
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		outcomes := map[string]int{}
		note := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			var r *domain.Rejection
			switch {
			case err == nil:
				outcomes["done"]++
			case errors.As(err, &r):
				outcomes[string(r.Code)]++
			default:
				outcomes[err.Error()]++
			}
		}
		const flood = 40_000
		for i := range flood {
			wg.Go(func() { note(execute(false, acquire(fmt.Sprint("u", i)))) })
		}
		synctest.Wait()
		if n := outcomes[eventstore.ErrOverloaded.Error()]; n == 0 || len(outcomes) != 1 {
			t.Fatalf("while the journal stands still: %v, want some refused as overloaded and nobody else answered", outcomes)
		}
		if err := execute(false, acquire("late")); !errors.Is(err, eventstore.ErrOverloaded) {
			t.Fatalf("one more acquire: %v, want ErrOverloaded", err)
		}
		wg.Go(func() { note(execute(true, domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{ada}})) })
		wg.Go(func() { note(execute(true, domain.ReleaseSeats{License: "lic", Leases: []domain.LeaseID{bob}})) })
		synctest.Wait()
		stood, _ := store.Journal(0).Last(t.Context())
		journal.Release()
		wg.Wait()
		if stood != before || outcomes["done"]+outcomes[string(domain.NoSeatAvailable)]+outcomes[eventstore.ErrOverloaded.Error()] != flood+2 {
			t.Fatalf("%v, want %d answers", outcomes, flood+2)
		}
		if outcomes["done"] != 2+2 { // the third seat and bob's
			t.Errorf("%d done, want 2 acquires, the heartbeat and the release", outcomes["done"])
		}
		// Only what was decided before they came stands before them.
		denied := 0
		for _, e := range l.journal() {
			switch e.Data.(type) {
			case *domain.SeatDenied:
				denied++
			case *domain.SeatHeartbeat:
				if denied > 2_000 {
					t.Errorf("the heartbeat stands behind %d of %d denials", denied, outcomes[string(domain.NoSeatAvailable)])
				}
			}
		}
		l.stop()
	})
}

// A caller who has gone while waiting costs nothing any more.
func TestCommandOfACallerWhoHasGoneIsNotDecided(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := eventstoretest.NewStore(1)
		l := start(t, store)
		l.license(9, 300)
		journal := store.Journal(0).(*eventstoretest.Log)
		journal.Fail(eventstoretest.Held)
		var wg sync.WaitGroup
		for _, user := range []string{"ada", "bob", "carol", "dan"} { // as many commits as may be in flight
			wg.Go(func() { l.must(acquire(user)) })
			synctest.Wait()
		}
		ctx, leave := context.WithCancel(t.Context())
		wg.Go(func() {
			_, err := l.writer.Execute(ctx, eventstore.Request{Tenant: "acme", Prepare: func(eventstore.Scope) (domain.Command, error) { return acquire("eve"), nil }})
			if !errors.Is(err, eventstore.ErrUnknown) {
				t.Errorf("%v, want ErrUnknown", err)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		journal.Release()
		wg.Wait()
		if n := strings.Count(l.types(), "seat.acquired"); n != 4 {
			t.Errorf("%d seats acquired, want 4 and none for who has gone", n)
		}
		l.stop()
	})
}

// Every metric is there, and says what happened.
func TestWriterMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	store := eventstoretest.NewStore(1)
	run := func() (*ledger, func()) {
		w, err := eventstore.NewWriter(eventstore.WriterConfig{
			Store: store, Log: slog.New(slog.DiscardHandler), Metrics: eventstore.NewWriterMetrics(registry), Alone: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		<-w.Leading()
		return &ledger{t: t, store: store, writer: w}, func() { stop(); <-done }
	}
	l, stop := run()
	l.license(5, 300)
	l.must(acquire("ada"))
	l.must(acquire("bob"))
	l.must(domain.ReleaseSeats{License: "lic", Leases: []domain.LeaseID{"lease-bob"}})
	values := scrape(t, registry)
	for name, want := range map[string]float64{
		"ledger_commit_events": 5, "ledger_commit_bytes": 5, "ledger_append_seconds": 5, "ledger_queue_wait_seconds": 5,
		"ledger_seats_in_use": 1, "ledger_commits_in_flight": 0, "ledger_take_overs_total": 1, "ledger_owner": 1,
		"ledger_conflicts_total": 0, "ledger_unknown_outcomes_total": 0, "ledger_overloaded_total": 0, "ledger_take_over_seconds": 1,
		"ledger_waiting_requests": 0, "ledger_seat_wait_seconds": 0,
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s = %v %v, want %v", name, got, ok, want)
		}
	}
	stop()

	registry = prometheus.NewRegistry()
	l, stop = run()
	defer stop()
	l.must(acquire("carol"))
	values = scrape(t, registry)
	if values["ledger_replayed_events_total"] != 6 || values["ledger_replay_behind_commits"] != 0 || values["ledger_seats_in_use"] != 2 {
		t.Errorf("after a restart: %v events replayed, %v commits behind, %v seats in use; want 6, 0, 2",
			values["ledger_replayed_events_total"], values["ledger_replay_behind_commits"], values["ledger_seats_in_use"])
	}
}

// scrape returns the value of each metric; of a histogram the number of observations.
func scrape(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			values[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// Of thousands that wait only those are looked at that the commit has room for: being overloaded makes nobody slower.
func TestWhatDoesNotFitIsNotLookedAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := eventstoretest.NewStore(1)
		l := start(t, store)
		const callers = 3000
		l.license(callers, 300)
		journal := store.Journal(0).(*eventstoretest.Log)
		journal.Fail(eventstoretest.Held)
		var looks atomic.Int64
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				_, err := l.writer.Execute(t.Context(), eventstore.Request{Tenant: "acme", Prepare: func(eventstore.Scope) (domain.Command, error) {
					looks.Add(1)
					return acquire(fmt.Sprint(i)), nil
				}})
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		journal.Release()
		wg.Wait()
		if n := looks.Load(); n != callers {
			t.Errorf("%d looks at %d commands in %d commits", n, callers, len(l.journal()))
		}
		l.stop()
	})
}

// What leaves no events is held back by the commit that it saw, and so has to be bounded, too.
func TestFloodWithoutEventsIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := eventstoretest.NewStore(1)
		l := start(t, store)
		l.license(1, 300)
		journal := store.Journal(0).(*eventstoretest.Log)
		journal.Fail(eventstoretest.Held)
		var wg sync.WaitGroup
		wg.Go(func() { l.must(acquire("ada")) })
		synctest.Wait()
		const flood = 100_000
		var refused atomic.Int64
		for i := range flood {
			wg.Go(func() {
				if _, err := l.do(acquire("ada")); errors.Is(err, eventstore.ErrOverloaded) {
					refused.Add(1)
				}
			})
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if held := flood - refused.Load(); held > 8192 {
			t.Errorf("%d commands are held back, %d were refused", held, refused.Load())
		}
		journal.Release()
		wg.Wait()
		l.stop()
	})
}

// Whatever becomes of the appends while more acquire than are let in: who was told of a seat has it in the journal, and who
// was refused has none.
func TestNothingAcknowledgedIsLostInOverload(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]eventstoretest.Fault{
		"slow":      {eventstoretest.Held, eventstoretest.Held},
		"lost":      {eventstoretest.Held, eventstoretest.LostUnanswered, eventstoretest.LostUnanswered},
		"answered":  {eventstoretest.Held, eventstoretest.StoredUnanswered, eventstoretest.Held, eventstoretest.StoredUnanswered},
		"conflicts": {eventstoretest.Held, eventstoretest.FalseConflict, eventstoretest.LostUnanswered, eventstoretest.FalseConflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := eventstoretest.NewStore(1)
				l := start(t, store)
				const flood = 12_000
				l.license(flood, 300)
				journal := store.Journal(0).(*eventstoretest.Log)
				journal.Fail(faults...)
				errs := make([]error, flood)
				var wg sync.WaitGroup
				for i := range flood {
					wg.Go(func() { _, errs[i] = l.do(acquire(fmt.Sprint(i))) })
				}
				synctest.Wait()
				ctx, stop := context.WithCancel(t.Context())
				var releases sync.WaitGroup
				releases.Go(func() {
					for journal.AwaitHeld(ctx, 1) == nil {
						journal.Release()
					}
				})
				wg.Wait()
				stop()
				releases.Wait()
				stored := map[domain.LeaseID]int{}
				for _, e := range l.journal() {
					if acquired, ok := e.Data.(*domain.SeatAcquired); ok {
						stored[acquired.Lease]++
					}
				}
				refused := 0
				for i, err := range errs {
					want := 1
					if errors.Is(err, eventstore.ErrOverloaded) {
						want = 0
						refused++
					} else if err != nil {
						t.Fatalf("acquire %d: %v", i, err)
					}
					if got := stored[acquire(fmt.Sprint(i)).Lease]; got != want {
						t.Fatalf("acquire %d was answered with %v, and the journal has it %d times", i, err, got)
					}
				}
				if refused == 0 || refused == flood {
					t.Errorf("%d of %d refused", refused, flood)
				}
				l.stop()
			})
		})
	}
}
