package queryapi

import (
	"context"
	"sync"
	"time"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// waiting lets queries wait for a position. However many wait, one goroutine looks where the rows stand; none does while
// nobody waits.
type waiting struct {
	look func(context.Context) (map[eventstore.Partition]stand, error)

	mu      sync.Mutex
	waiters map[*waiter]struct{}
}

type waiter struct {
	least   eventstore.Position
	reached chan struct{}
}

// lookEvery is the time between two looks. A query that comes just behind its command waits about that long.
const lookEvery = 5 * time.Millisecond

// until returns nil when the rows reflect least, else ctx.Err().
func (w *waiting) until(ctx context.Context, least eventstore.Position) error {
	me := &waiter{least: least, reached: make(chan struct{})}
	w.mu.Lock()
	if len(w.waiters) == 0 {
		w.waiters = map[*waiter]struct{}{}
		go w.watch()
	}
	w.waiters[me] = struct{}{}
	w.mu.Unlock()
	select {
	case <-me.reached:
		return nil
	case <-ctx.Done():
		w.mu.Lock()
		delete(w.waiters, me)
		w.mu.Unlock()
		return ctx.Err()
	}
}

// watch looks until nobody waits any more. When the database does not answer, those who wait give up by themselves.
func (w *waiting) watch() {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), waitMax)
		stands, err := w.look(ctx)
		cancel()
		if err != nil {
			stands = nil
		}
		if w.wake(stands) == 0 {
			return
		}
		time.Sleep(lookEvery)
	}
}

// wake lets those go on whose position is reached and returns how many go on waiting.
func (w *waiting) wake(stands map[eventstore.Partition]stand) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for waiter := range w.waiters {
		if stands[waiter.least.Partition].seq >= waiter.least.Seq {
			close(waiter.reached)
			delete(w.waiters, waiter)
		}
	}
	return len(w.waiters)
}
