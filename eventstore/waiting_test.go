package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// waitingAcquire is an acquire that waits, and what became of it.
type waitingAcquire struct {
	user   string
	answer domain.Answer
	err    error
	done   chan struct{}
	hangUp context.CancelCauseFunc
}

// wait sends an acquire that waits for a seat, and returns when it does, or is answered.
func (l *ledger) wait(user string, wait time.Duration, key *eventstore.Idempotency) *waitingAcquire {
	ctx, cancel := context.WithCancelCause(context.Background())
	a := &waitingAcquire{user: user, done: make(chan struct{}), hangUp: cancel}
	go func() {
		defer close(a.done)
		result, err := l.writer.Execute(ctx, eventstore.Request{
			Tenant: "acme", Actor: "test", Wait: wait, Idempotency: key,
			Prepare: func(eventstore.Scope) (domain.Command, error) { return acquire(user), nil },
		})
		a.answer, a.err = result.Answer, err
	}()
	synctest.Wait()
	return a
}

// answered reports whether there is an answer.
func (a *waitingAcquire) answered() bool {
	synctest.Wait()
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// hasSeat fails unless a was answered with a seat of its own.
func (a *waitingAcquire) hasSeat(t *testing.T) {
	t.Helper()
	if !a.answered() || a.err != nil || a.answer.Lease == nil || a.answer.Lease.Holder.User != domain.Pseudonym(a.user) {
		t.Fatalf("%s: answered %v with %+v, %v; want a seat", a.user, a.answered(), a.answer.Lease, a.err)
	}
}

// refused fails unless a was refused with a code, and returns the refusal.
func (a *waitingAcquire) refused(t *testing.T, code domain.Code) *domain.Rejection {
	t.Helper()
	var r *domain.Rejection
	if !a.answered() || !errors.As(a.err, &r) || r.Code != code {
		t.Fatalf("%s: answered %v with %v, want %s", a.user, a.answered(), a.err, code)
	}
	return r
}

func (a *waitingAcquire) waits(t *testing.T) {
	t.Helper()
	if a.answered() {
		t.Fatalf("%s was answered %+v, %v, and should wait", a.user, a.answer.Lease, a.err)
	}
}

func (l *ledger) release(user string) {
	l.t.Helper()
	l.must(domain.ReleaseSeats{License: "lic", Leases: []domain.LeaseID{domain.LeaseID("lease-" + user)}})
	synctest.Wait()
}

// queued runs a test with a license of one seat, which ada has for ten hours.
func queued(t *testing.T, test func(t *testing.T, l *ledger)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, eventstoretest.NewStore(1))
		l.license(1, 36000)
		l.must(acquire("ada"))
		test(t, l)
		l.stop()
	})
}

// since returns the events after those that queued left, without the type's prefix, with the cause of a seat.dequeued.
func (l *ledger) since() string {
	l.t.Helper()
	var texts []string
	for _, e := range l.journal()[4:] {
		text := strings.TrimSuffix(strings.TrimPrefix(e.Type, "ai.coditect.seat."), ".v1")
		if d, ok := e.Data.(*domain.SeatDequeued); ok {
			text += ":" + string(d.Holder.User) + ":" + string(d.Cause)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}

func (l *ledger) sinceIs(want string) {
	l.t.Helper()
	if got := l.since(); got != want {
		l.t.Fatalf("the journal has\n%s, want\n%s", got, want)
	}
}

func TestWhoWaitsGetsTheFirstSeatInTurn(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		bob, carol := l.wait("bob", time.Minute, nil), l.wait("carol", time.Minute, nil)
		bob.waits(t)
		l.release("ada")
		bob.hasSeat(t)
		carol.waits(t)
		if _, err := l.do(acquire("dan")); !rejected(err, domain.NoSeatAvailable) {
			t.Errorf("who came last: %v, want no_seat_available", err)
		}
		l.release("bob")
		carol.hasSeat(t)
		l.sinceIs("queued queued released acquired denied released acquired")
	})
}

// A seat comes free by itself, too: nobody has to do anything for whoever waits.
func TestSeatThatRunsOutIsGivenToWhoWaits(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		time.Sleep(9*time.Hour + 59*time.Minute)
		bob := l.wait("bob", 5*time.Minute, nil)
		time.Sleep(59 * time.Second)
		bob.waits(t)
		time.Sleep(2 * time.Second)
		bob.hasSeat(t)
		l.sinceIs("queued expired acquired")
	})
}

// Whoever has waited long enough hears its place, keeps it for ten seconds, and is dropped then.
func TestTimeToWaitIsOver(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		bob, carol := l.wait("bob", 20*time.Second, nil), l.wait("carol", 300*time.Second, nil)
		time.Sleep(19 * time.Second)
		bob.waits(t)
		time.Sleep(time.Second)
		if r := bob.refused(t, domain.NoSeatAvailable); r.Position != 1 || r.Waiting != 2 || r.RetryAfterSeconds != 1 {
			t.Errorf("told %+v", r)
		}
		time.Sleep(9 * time.Second)
		bob = l.wait("bob", 20*time.Second, nil)
		time.Sleep(20 * time.Second)
		if r := bob.refused(t, domain.NoSeatAvailable); r.Position != 1 {
			t.Errorf("back after 9 s it is number %d", r.Position)
		}
		time.Sleep(9 * time.Second)
		if _, err := l.do(acquire("bob")); !rejected(err, domain.NoSeatAvailable) { // to ask without waiting is to be there, too
			t.Error(err)
		}
		time.Sleep(9 * time.Second)
		l.sinceIs("queued queued")
		time.Sleep(2 * time.Second)
		l.sinceIs("queued queued dequeued:bob:absent")
		bob = l.wait("bob", 20*time.Second, nil)
		l.release("ada")
		carol.hasSeat(t)
		bob.waits(t)
		bob.hangUp(nil)
	})
}

func TestWhoHangsUpLeavesTheQueue(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		bob, carol := l.wait("bob", time.Minute, nil), l.wait("carol", time.Minute, nil)
		bob.hangUp(nil)
		if bob.answered(); !errors.Is(bob.err, eventstore.ErrUnknown) {
			t.Errorf("bob heard %v", bob.err)
		}
		l.sinceIs("queued queued dequeued:bob:left")
		l.release("ada")
		carol.hasSeat(t)
	})
}

// Two requests of one holder are one waiter: it leaves when both have hung up, and both get its seat.
func TestTwoRequestsOfOneHolderWaitAsOne(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		first, second, third := l.wait("bob", time.Minute, nil), l.wait("bob", time.Minute, nil), l.wait("bob", time.Minute, nil)
		third.hangUp(nil)
		l.release("ada")
		first.hasSeat(t)
		second.hasSeat(t)
		l.sinceIs("queued released acquired")
	})
}

// A caller that only asks again, as one that was handed on does, or the server of which stops, keeps its place.
func TestWaitThatIsInterruptedKeepsItsPlace(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		for _, why := range []error{eventstore.ErrWaiting, eventstore.ErrStopping} {
			bob := l.wait("bob", time.Minute, nil)
			bob.hangUp(why)
			if bob.answered(); !errors.Is(bob.err, why) {
				t.Errorf("interrupted with %v it heard %v", why, bob.err)
			}
			time.Sleep(9 * time.Second)
		}
		l.sinceIs("queued")
		bob := l.wait("bob", time.Minute, nil)
		l.release("ada")
		bob.hasSeat(t)
		l.sinceIs("queued released acquired")
	})
}

// A seat is kept for whoever is next and away for a moment: ten seconds, and not for ever.
func TestSeatIsKeptForWhoIsAwayOnlyForAWhile(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		bob, carol := l.wait("bob", time.Minute, nil), l.wait("carol", time.Minute, nil)
		bob.hangUp(eventstore.ErrWaiting)
		synctest.Wait()
		l.release("ada")
		time.Sleep(9 * time.Second)
		carol.waits(t)
		time.Sleep(2 * time.Second)
		carol.hasSeat(t)
		l.sinceIs("queued queued released dequeued:bob:absent acquired")
	})
}

func TestLicenseThatCannotBeUsedEndsTheWait(t *testing.T) {
	for _, end := range []struct {
		command domain.Command
		code    domain.Code
	}{
		{domain.SuspendLicense{License: "lic"}, domain.LicenseIsOff},
		{domain.RevokeLicense{License: "lic"}, domain.LicenseIsGone},
		{domain.SuspendTenant{}, domain.TenantIsOff},
	} {
		t.Run(string(end.code), func(t *testing.T) {
			queued(t, func(t *testing.T, l *ledger) {
				bob, carol := l.wait("bob", time.Minute, nil), l.wait("carol", time.Minute, nil)
				l.must(end.command)
				bob.refused(t, end.code)
				carol.refused(t, end.code)
				if got := l.since(); strings.Count(got, ":refused denied") != 2 {
					t.Errorf("the journal has %s", got)
				}
			})
		})
	}
}

func TestMoreSeatsAreGivenToWhoWaits(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		bob, carol, dan := l.wait("bob", time.Minute, nil), l.wait("carol", time.Minute, nil), l.wait("dan", time.Minute, nil)
		seats := 3
		l.must(domain.ChangeLicense{License: "lic", Seats: &seats})
		bob.hasSeat(t)
		carol.hasSeat(t)
		dan.waits(t)
		dan.hangUp(nil)
	})
}

// The heartbeat that revives the lease of a holder ends its waiting.
func TestReviveOfAHolderThatWaits(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		revive, lease := 3600, 60
		l.must(domain.ChangeLicense{License: "lic", Policy: domain.PolicyChange{ReviveSeconds: &revive, LeaseSeconds: &lease}})
		l.release("ada")
		l.must(acquire("bob"))
		time.Sleep(61 * time.Second)
		l.must(acquire("carol"))
		bob := l.wait("bob", time.Minute, nil)
		// Bob is called, and before his acquire is decided again his heartbeat comes.
		journal := journalOf(l.store)
		journal.Fail(eventstoretest.Held)
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() { l.must(domain.RenameTenant{Name: fmt.Sprint(i)}) })
			synctest.Wait()
		}
		wg.Go(func() {
			l.must(domain.ReleaseSeats{License: "lic", Leases: []domain.LeaseID{"lease-carol"}})
		})
		synctest.Wait()
		wg.Go(func() {
			l.must(domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{"lease-bob"}})
		})
		synctest.Wait()
		journal.Release()
		wg.Wait()
		bob.hasSeat(t)
		if bob.answer.Lease.ID != "lease-bob" {
			t.Errorf("bob has %s", bob.answer.Lease.ID)
		}
	})
}

// The same key while the wait goes on is one wish: it waits, too, also after a restart; then it gets the recorded answer.
func TestIdempotencyKeyOfAWait(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		key := &eventstore.Idempotency{Key: "aaaaaaaaaaaaaaaaaaaaaa", Fingerprint: "bbbbbbbbbbb"}
		first, again := l.wait("bob", time.Minute, key), l.wait("bob", time.Minute, key)
		again.waits(t)
		if _, err := l.keyed(acquire("bob"), &eventstore.Idempotency{Key: key.Key, Fingerprint: "another"}); !errors.Is(err, eventstore.ErrKeyReused) {
			t.Errorf("the key with another request: %v", err)
		}
		l.stop()
		for _, a := range []*waitingAcquire{first, again} {
			if a.answered(); !errors.Is(a.err, eventstore.ErrStopping) {
				t.Fatalf("heard %v, want ErrStopping", a.err)
			}
		}
		l = start(t, l.store)
		defer l.stop()
		bob := l.wait("bob", time.Minute, key)
		bob.waits(t)
		l.release("ada")
		bob.hasSeat(t)
		l.release("bob")
		answer, err := l.keyed(acquire("bob"), key)
		if err != nil || !answer.Created || answer.Lease.State != domain.LeaseStateActive {
			t.Errorf("repeated it gets %+v, %v; want the recorded answer", answer.Lease, err)
		}
	})
}

// Whoever waits is still in the queue after a restart: who asks again has its place, and who does not leaves.
func TestQueueOutlivesAProcess(t *testing.T) {
	queued(t, func(t *testing.T, l *ledger) {
		l.wait("bob", time.Minute, nil)
		carol := l.wait("carol", time.Minute, nil)
		l.stop()
		if carol.answered(); !errors.Is(carol.err, eventstore.ErrStopping) {
			t.Fatalf("carol heard %v, want ErrStopping", carol.err)
		}
		time.Sleep(time.Hour) // nobody could ask meanwhile
		l = start(t, l.store)
		defer l.stop()
		time.Sleep(9 * time.Second)
		carol = l.wait("carol", time.Minute, nil)
		dan := l.wait("dan", time.Minute, nil)
		l.release("ada")
		carol.waits(t) // it is bob's turn
		time.Sleep(2 * time.Second)
		carol.hasSeat(t)
		dan.waits(t)
		if got := l.since(); !strings.Contains(got, "dequeued:bob:absent") || strings.Count(got, "dequeued") != 1 {
			t.Errorf("the journal has %s", got)
		}
		dan.hangUp(nil)
	})
}

// A Writer that lost its partition without knowing has whoever waits there asked for elsewhere, with nothing lost.
func TestWaitAtAFencedWriterGoesOn(t *testing.T) {
	queued(t, func(t *testing.T, older *ledger) {
		bob := older.wait("bob", time.Hour, nil)
		newer := start(t, older.store)
		time.Sleep(5 * time.Second) // in which they take the partition from each other, more than once
		bob.waits(t)
		newer.release("ada")
		older.must(domain.RenameTenant{Name: "to find out"})
		bob.hasSeat(t)
		newer.stop()
	})
}

func TestWaitIsHandedOnWhenAnotherProcessTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := eventstoretest.NewStore(1)
		first := startReplica(t, store)
		first.awaitOwner(true, "acme")
		first.must("acme", domain.CreateTenant{Tenant: "acme", Name: "Acme"})
		first.must("acme", domain.IssueLicense{License: "lic", Product: "cad", Policy: domain.Policy{LeaseSeconds: 300}, Key: domain.LicenseKey{ID: "key"}})
		heard := make(chan error, 1)
		go func() {
			_, err := first.Execute(context.Background(), eventstore.Request{
				Tenant: "acme", Wait: 5 * time.Minute, Prepare: func(eventstore.Scope) (domain.Command, error) { return acquire("bob"), nil },
			})
			heard <- err
		}()
		synctest.Wait()
		second := startReplica(t, store)
		first.kill()
		second.awaitOwner(true, "acme")
		if err := <-heard; !errors.Is(err, eventstore.ErrElsewhere) && !errors.Is(err, eventstore.ErrStopping) {
			t.Errorf("bob heard %v at the process that is no owner any more", err)
		}
		seats := 1
		second.must("acme", domain.ChangeLicense{License: "lic", Seats: &seats})
		if _, err := second.do("acme", acquire("carol")); !rejected(err, domain.NoSeatAvailable) {
			t.Errorf("carol: %v; the seat is bob's", err)
		}
		if _, err := second.do("acme", acquire("bob")); err != nil {
			t.Errorf("bob: %v", err)
		}
	})
}

// However many wait, the others are served; and not any number can wait.
func TestWaitsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := start(t, eventstoretest.NewStore(1))
		l.license(1, 300)
		for i := range 10 {
			l.must(domain.IssueLicense{License: domain.LicenseID(fmt.Sprint("full", i)), Product: "cad", Policy: domain.Policy{LeaseSeconds: 300}, Key: domain.LicenseKey{ID: domain.KeyID(fmt.Sprint("key", i))}})
		}
		ctx, leave := context.WithCancel(t.Context())
		wait := func(license, user string) error {
			_, err := l.writer.Execute(ctx, eventstore.Request{Tenant: "acme", Wait: time.Minute, Prepare: func(eventstore.Scope) (domain.Command, error) {
				c := acquire(user)
				c.License = domain.LicenseID(license)
				return c, nil
			}})
			return err
		}
		var wg sync.WaitGroup
		for i := range 8192 {
			wg.Go(func() {
				if err := wait(fmt.Sprint("full", i%10), fmt.Sprint("user", i)); !errors.Is(err, eventstore.ErrUnknown) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if err := wait("full0", "one more"); !errors.Is(err, eventstore.ErrOverloaded) {
			t.Errorf("one more: %v, want ErrOverloaded", err)
		}
		l.must(acquire("ada"))
		l.must(domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{"lease-ada"}})
		leave()
		wg.Wait()
		synctest.Wait()
		if queued, left := strings.Count(l.types(), "seat.queued"), strings.Count(l.types(), "seat.dequeued"); queued != 8192 || left != queued {
			t.Errorf("%d queued, and %d left", queued, left)
		}
		l.stop()
	})
}
