package commandapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

const (
	// waitSecondsMax is the longest wait for a seat. Contract: api/openapi.yaml.
	waitSecondsMax = 300
	// waitHop is how long a request that was handed on waits at the owner before it is asked for again. So the owner learns
	// within that time, and the 10 s for which a place is kept, that the process in between died, and its client with it.
	waitHop = 5 * time.Second
)

// waitUntil is the key, in the context of a request that was handed on, of when its wait is over: the time.Time was fixed when
// its client asked.
type waitUntil struct{}

// wait notes that the caller waits for a seat.
func (c *call) wait(w http.ResponseWriter, atMost time.Duration) {
	c.waits = true
	until, handedOn := c.Context().Value(waitUntil{}).(time.Time)
	if !handedOn {
		until = time.Now().Add(atMost)
		serve.Patiently(w, atMost)
	}
	c.until = until
}

// patience returns how long a call waits for a seat, and a context for all of it. That ends with eventstore.ErrStopping as its
// cause when the server begins to stop while the call waits, and with eventstore.ErrWaiting when it is to be asked for again.
func (c *call) patience() (time.Duration, context.Context, context.CancelFunc) {
	wait := time.Duration(0)
	if c.waits {
		wait = max(0, time.Until(c.until))
	}
	ctx, cancel := context.WithTimeout(c.Context(), executeFor+wait)
	if wait == 0 {
		return 0, ctx, cancel
	}
	hop := (<-chan time.Time)(nil)
	if handedOver(c.Request) && wait > waitHop {
		hop = time.After(waitHop)
	}
	ctx, interrupt := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-serve.Stopping(ctx):
			interrupt(eventstore.ErrStopping)
		case <-hop:
			interrupt(eventstore.ErrWaiting)
		case <-ctx.Done():
		}
	}()
	return wait, ctx, func() { interrupt(nil); cancel() }
}

// hangUps are the requests of other processes that wait here, by their id. It is safe for concurrent use.
type hangUps struct {
	mu sync.Mutex
	of map[string]context.CancelFunc
}

// listen returns a context that ends when the client of the request hangs up.
func (h *hangUps) listen(ctx context.Context, id string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of[id] = cancel
	return ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.of, id)
		cancel()
	}
}

func (h *hangUps) hungUp(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if cancel := h.of[id]; cancel != nil {
		cancel()
	}
}
