package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// load is clients that take seats, heartbeat and give back, and insist on an answer to each: with the same
// Idempotency-Key, at any of the services.
type load struct {
	t        *testing.T
	services []*ledgertest.Client
	key      string

	acked   ledgertest.Acknowledged
	unknown atomic.Int64

	mu      sync.Mutex
	last    time.Time     // when something was acknowledged last
	longest time.Duration // between two acknowledgements, since stall was asked last
	acks    int
}

// run starts n clients, which end after their last answer when ctx does, and returns a function that waits for them.
func (l *load) run(ctx context.Context, n int) (wait func()) {
	l.last = time.Now()
	var wg sync.WaitGroup
	for i := range n {
		random := rand.New(rand.NewPCG(uint64(i), 1))
		wg.Go(func() {
			for round := 0; ctx.Err() == nil && !l.t.Failed(); round++ {
				l.session(random, fmt.Sprintf("user-%d-%d", i, round))
			}
		})
	}
	return wg.Wait
}

func (l *load) session(random *rand.Rand, user string) {
	a, ok := l.insist(random, "acquire", ledgertest.Holder(user), http.StatusCreated)
	if !ok {
		return
	}
	lease := a.At("lease.id")
	l.acked.Acquired(lease)
	for range random.IntN(4) {
		a, ok := l.insist(random, "heartbeat", ledgertest.Lease(lease), http.StatusOK)
		if !ok {
			return
		}
		expires, err := time.Parse(time.RFC3339, a.At("lease.expires_at"))
		if err != nil {
			l.t.Error(err)
		}
		l.acked.Heartbeat(lease, expires)
	}
	if _, ok := l.insist(random, "release", ledgertest.Lease(lease), http.StatusOK); ok {
		l.acked.Released(lease)
	}
}

// insist asks until there is an answer, and reports whether there was: none comes any more when the test has failed.
func (l *load) insist(random *rand.Rand, call string, body map[string]any, want int) (ledgertest.Answer, bool) {
	headers := map[string]string{"Idempotency-Key": uuid.NewString()}
	for deadline := time.Now().Add(2 * ledgertest.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		a, err := l.services[random.IntN(len(l.services))].Do(ctx, http.MethodPost, "/api/v1/licenses/"+call, l.key, body, headers)
		cancel()
		switch {
		case err == nil && a.Status == want:
			l.acknowledged()
			return a, true
		case err == nil:
			l.t.Errorf("%s: %d %v", call, a.Status, a.Body)
			return a, false
		case l.t.Failed():
			return a, false
		}
		l.unknown.Add(1)
	}
	l.t.Errorf("%s: no answer within %v", call, 2*ledgertest.Patience)
	return ledgertest.Answer{}, false
}

func (l *load) acknowledged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.longest = max(l.longest, now.Sub(l.last))
	l.last = now
	l.acks++
}

// count returns how many answers there were.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks
}

// stall returns the longest time between two answers since it was asked before.
func (l *load) stall() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := l.longest
	l.longest = 0
	return longest
}
