package eventstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// wallClock is a clock that somebody sets.
type wallClock struct{ offset atomic.Int64 }

func (c *wallClock) now() time.Time       { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *wallClock) jump(d time.Duration) { c.offset.Add(int64(d)) }

const (
	leaseLen  = 300 * time.Second
	beatEvery = leaseLen / 3
	// graceful is what a lease may last at most when nobody heartbeats: the slowest clock, and a moment to notice.
	graceful = leaseLen + leaseLen/15 + time.Second
	// shortest is what it lasts at least.
	shortest = leaseLen - leaseLen/256 - time.Second
)

// jumps are what happens to clocks: an hour, a leap second, a day, a start at the beginning of 1970.
var jumps = []time.Duration{time.Hour, -time.Hour, time.Second, -time.Second, 24 * time.Hour, -24 * time.Hour, -1 << 60}

// seated reports whether a lease is active.
func (l *ledger) seated(id domain.LeaseID) bool {
	l.t.Helper()
	ended := false
	for _, e := range l.journal() {
		if x, ok := e.Data.(*domain.SeatExpired); ok && x.Lease == id {
			ended = true
		}
	}
	return !ended
}

// Whatever the wall clock does while a Writer runs, a lease lasts as long as it should.
func TestClockThatJumpsEndsNoLeaseEarlyAndKeepsNoneForEver(t *testing.T) {
	t.Parallel()
	for _, jump := range jumps {
		t.Run(jump.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				clock := &wallClock{}
				l := startAt(t, eventstoretest.NewStore(1), clock.now)
				l.license(2, int(leaseLen.Seconds()))
				time.Sleep(time.Hour) // beyond the grace after the take-over
				silent := l.must(acquire("silent")).Lease.ID
				began := time.Now()
				time.Sleep(time.Second)
				clock.jump(jump)
				time.Sleep(time.Until(began.Add(shortest)))
				if !l.seated(silent) {
					t.Fatal("lost the seat early")
				}
				time.Sleep(time.Until(began.Add(graceful)))
				if l.seated(silent) {
					t.Fatalf("still has the seat after %v", graceful)
				}
				l.stop()
			})
		})
	}
}

// A Writer whose clock is wrong, and then one whose clock is right: in between the ledger's time does not stand still.
func TestTakeOverWithAnotherClock(t *testing.T) {
	t.Parallel()
	for _, jump := range jumps {
		t.Run(jump.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := eventstoretest.NewStore(1)
				l := start(t, store)
				l.license(9, int(leaseLen.Seconds()))
				time.Sleep(time.Hour)
				beating := l.must(acquire("beating")).Lease.ID
				beat := func() {
					t.Helper()
					if o := l.must(domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{beating}}).Leases[0]; o.Rejected != nil {
						t.Fatalf("heartbeat in time: %v", o.Rejected)
					}
				}
				wrong := &wallClock{}
				wrong.jump(jump)
				for i, wall := range []func() time.Time{wrong.now, time.Now} {
					l.stop()
					l = startAt(t, store, wall)
					silent := l.must(acquire(fmt.Sprint("silent", i))).Lease.ID
					began := time.Now()
					for time.Since(began) < graceful {
						time.Sleep(beatEvery - time.Second)
						beat()
						if time.Since(began) < shortest && !l.seated(silent) {
							t.Fatal("lost the seat early")
						}
					}
					if l.seated(silent) {
						t.Fatalf("still has the seat after %v", time.Since(began))
					}
				}
				l.stop()
			})
		})
	}
}

// The clock is jumped at random moments, and Writers come and go: a holder that heartbeats keeps the seat, and the commits'
// times never run backwards.
func TestClockJumpsAtRandom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(-1, len(jumps)-1), 1, 20).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			clock, store := &wallClock{}, eventstoretest.NewStore(1)
			l := startAt(t, store, clock.now)
			l.license(9, int(leaseLen.Seconds()))
			lease := l.must(acquire("ada")).Lease.ID
			for _, step := range steps {
				if step < 0 {
					l.stop()
					l = startAt(t, store, clock.now)
				} else {
					clock.jump(jumps[step])
				}
				time.Sleep(beatEvery - time.Second)
				if o := l.must(domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{lease}}).Leases[0]; o.Rejected != nil {
					t.Fatalf("heartbeat in time: %v", o.Rejected)
				}
			}
			var last time.Time
			for _, e := range l.journal() {
				if e.Time.Before(last) {
					t.Fatalf("%s at %v follows %v", e.Type, e.Time, last)
				}
				last = e.Time
			}
			l.stop()
		})
	})
}
