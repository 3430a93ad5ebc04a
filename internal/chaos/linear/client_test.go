package linear

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// load is clients that work on one license after the other of one tenant: a license whose history is as long as can be
// checked is replaced by a new one.
type load struct {
	t       *testing.T
	tenant  string
	seats   int           // of each license
	lease   time.Duration // of each license
	perHist int           // operations until the next license; some more are under way then
	lasting bool          // no lease can run out
	dawdle  time.Duration // how long clients keep some leases without a heartbeat, at most, and leave others for good; 0: they do not
	// issue makes a license and returns its id and its key.
	issue func(n int) (id, key string)
	// targets are the addresses where the API is, or was.
	targets func() []string
	// rank reads a Ledger-Position as Answer.Position.
	rank func(position string) int64
	// forced says that a process takes partitions by force. The one before then trusts for up to 2 s that it still owns them,
	// and may give answers that leave no events, and are behind: clients ask again for a lease that it does not know, use no
	// holder twice, and do not believe that a holder is refused who may have been refused before.
	forced bool
	// several says that a process may not know by its Idempotency-Key what another one refused.
	several bool

	acked                   ledgertest.Acknowledged
	unknown, undone, denied atomic.Int64

	mu   sync.Mutex
	sold []*sold
}

// sold is a license that clients use.
type sold struct {
	id, key string
	history *History
	lost    atomic.Int64 // how often a client gave up
}

// current returns the license to use now.
func (l *load) current() *sold {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.sold)
	if n == 0 || l.sold[n-1].history.Len() >= l.perHist {
		id, key := l.issue(n)
		l.sold = append(l.sold, &sold{
			id: id, key: key,
			// domain.endedMin
			history: NewHistory(fmt.Sprintf("%s/%s/license-%d", l.t.Name(), l.tenant, n), License{Seats: l.seats, Remembers: max(256, l.seats), Lasting: l.lasting}),
		})
		n++
	}
	return l.sold[n-1]
}

// operations returns how many were recorded.
func (l *load) operations() (n int) {
	for _, s := range l.sold {
		n += s.history.Len()
	}
	return n
}

// check reports every history that is not linearizable. order is what the server says of a license.
func (l *load) check(order func(license string) Order) {
	l.t.Helper()
	for _, s := range l.sold {
		if err := s.history.Check(order(s.id), 20*time.Second); err != nil {
			l.t.Error(err)
		}
	}
}

// client is one of the clients, which uses one seat after the other.
type client struct {
	*load
	number int
	random *rand.Rand
	http   *ledgertest.Client

	// The present holder.
	sold   *sold
	holder string
	names  int
	ghost  int64 // see Call.Ghost
	unsure bool  // the holder may have been refused, and the client did not hear of it
}

// run starts n clients, which begin no session any more when ctx ends, and returns a function that waits for their last answers.
func (l *load) run(ctx context.Context, n int, seed uint64) (wait func()) {
	var wg sync.WaitGroup
	for i := range n {
		c := &client{load: l, number: i, random: rand.New(rand.NewPCG(seed, uint64(i))), http: &ledgertest.Client{}}
		wg.Go(func() {
			for ctx.Err() == nil && !l.t.Failed() {
				c.session()
			}
		})
	}
	return func() {
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(ledgertest.Patience):
			l.t.Errorf("clients have waited %v for an answer", ledgertest.Patience)
			<-done
		}
	}
}

// session is one lease, from acquire to release and a bit later.
func (c *client) session() {
	s := c.current()
	if c.sold != s || c.ghost != 0 || c.forced || c.chance(0.5) {
		c.sold = s
		c.rename()
	}
	key := ""
	if c.chance(0.5) {
		key = uuid.NewString()
	}
	id := c.acquire(key)
	if id == "" {
		return
	}
	for c.chance(0.6) {
		switch {
		case c.chance(0.2):
			if c.acquire("") == "" {
				return
			}
			continue
		case c.dawdle > 0 && c.chance(0.3):
			time.Sleep(time.Duration(c.random.Int64N(int64(c.dawdle))))
		}
		if !c.heartbeat(id) {
			return
		}
	}
	if c.dawdle > 0 && c.chance(0.1) { // as a program that dies
		c.rename()
		return
	}
	if !c.release(id, true) {
		return
	}
	switch {
	case c.chance(0.1):
		c.heartbeat(id)
	case c.chance(0.1):
		c.release(id, false)
	}
}

func (c *client) chance(p float64) bool { return c.random.Float64() < p }

// rename makes the client another holder, whom no earlier call named.
func (c *client) rename() {
	c.names++
	c.holder, c.ghost, c.unsure = fmt.Sprintf("c%d-%d", c.number, c.names), 0, false
}

// givesUp says whether the client leaves it at an unknown outcome. Some do, but not more than a license can bear: what was
// lost may hold a seat for good.
func (c *client) givesUp() bool {
	return c.chance(0.4) && c.sold.lost.Add(1) <= int64(c.seats/3)
}

// acquire asks until it is answered, and returns the lease; empty when the answer was no, or the client gave up. With an
// Idempotency-Key it takes a seat once, however often it is sent; but a refusal that left no event is not remembered by
// another process. Without a key it is the holder that is the same, whose attempts may all be done.
func (c *client) acquire(key string) string {
	var unknown time.Time // when the first attempt was sent whose outcome is not known
	for {
		sent := time.Now()
		a, certain := c.ask("acquire", ledgertest.Holder(c.holder), key)
		switch certain {
		case notAnswered:
			return ""
		case notDone:
			continue
		case outcomeUnknown:
			if unknown.IsZero() {
				unknown = sent
			}
			c.unsure = true
			if key == "" && c.ghost == 0 {
				c.ghost = sent.Add(c.lease).UnixMilli()
			}
			if key == "" && c.givesUp() {
				c.sold.history.Add(c.number, unknown, Call{Kind: LostAcquire, Holder: c.holder, Ghost: c.ghost}, Answer{Outcome: None})
				c.rename()
				return ""
			}
			continue
		}
		call := Call{Kind: Acquire, Holder: c.holder, Ghost: c.ghost}
		answer := Answer{By: c.latest(), Lease: a.At("lease.id"), At: c.millis(a, "lease.acquired_at"), Expires: c.millis(a, "lease.expires_at")}
		switch {
		case a.Status == http.StatusCreated:
			answer.Outcome = Granted
		case a.Status == http.StatusOK:
			answer.Outcome = Held
		case a.Code() == "no_seat_available":
			c.denied.Add(1)
			answer = Answer{Outcome: Denied, By: answer.By, Position: c.rank(a.Position)}
			if call.Ghost == 0 && !unknown.IsZero() && c.several { // what was sent before may still be done
				call.Ghost = unknown.Add(c.lease).UnixMilli()
			}
			if c.forced && c.unsure {
				call.Kind, call.Ghost = LostAcquire, cmp.Or(call.Ghost, sent.Add(c.lease).UnixMilli())
				answer = Answer{Outcome: None}
			}
		default:
			c.t.Errorf("acquire: %d %v", a.Status, a.Body)
			return ""
		}
		if !unknown.IsZero() && (key != "" || answer.Outcome == Held || answer.Outcome == None) {
			sent = unknown // the answer may be to the first attempt
		}
		c.sold.history.Add(c.number, sent, call, answer)
		if answer.Lease == "" {
			c.pause()
			if call.Ghost != 0 {
				c.rename()
			}
			return ""
		}
		c.acked.Acquired(answer.Lease)
		return answer.Lease
	}
}

// heartbeat asks until it is answered, and reports whether the lease goes on.
func (c *client) heartbeat(id string) bool {
	for {
		sent := time.Now()
		a, certain := c.ask("heartbeat", ledgertest.Lease(id), "")
		switch certain {
		case notAnswered:
			return false
		case notDone, outcomeUnknown:
			continue
		}
		answer, ok := c.answer(a, Renewed)
		if !ok {
			continue
		}
		c.sold.history.Add(c.number, sent, Call{Kind: Heartbeat, Lease: id, Ghost: c.ghost}, answer)
		if answer.Outcome == Renewed {
			c.acked.Heartbeat(id, time.UnixMilli(answer.Expires))
		}
		return answer.Outcome == Renewed
	}
}

// release asks until it is answered, or the client gives up, if it may; and reports whether it was answered.
func (c *client) release(id string, mayGiveUp bool) bool {
	var unknown time.Time
	for {
		sent := time.Now()
		a, certain := c.ask("release", ledgertest.Lease(id), "")
		switch certain {
		case notAnswered:
			return false
		case notDone:
			continue
		case outcomeUnknown:
			if unknown.IsZero() {
				unknown = sent
			}
			if mayGiveUp && c.givesUp() {
				c.sold.history.Add(c.number, unknown, Call{Kind: LostRelease, Lease: id, Ghost: c.ghost}, Answer{Outcome: None})
				c.rename()
				return false
			}
			continue
		}
		answer, ok := c.answer(a, Released)
		if !ok {
			continue
		}
		if !unknown.IsZero() {
			sent = unknown
		}
		c.sold.history.Add(c.number, sent, Call{Kind: Release, Lease: id, Ghost: c.ghost}, answer)
		if answer.Outcome == Released {
			c.acked.Released(id)
		}
		return true
	}
}

// answer reads what became of a heartbeat or a release; false when it is to be asked again.
func (c *client) answer(a ledgertest.Answer, yes Outcome) (Answer, bool) {
	answer := Answer{By: c.latest()}
	switch code := Outcome(a.Code()); {
	case a.Status == http.StatusOK:
		answer.Outcome = yes
		if yes == Renewed {
			answer.Expires = c.millis(a, "lease.expires_at")
		}
	case code == UnknownLease && c.forced:
		c.pause()
		return answer, false
	case code == WasReleased, code == WasExpired, code == UnknownLease:
		answer.Outcome = code
	default:
		c.t.Errorf("%s: %d %v", yes, a.Status, a.Body)
	}
	return answer, true
}

// certainty is what a client knows of a request.
type certainty int

const (
	answered       certainty = iota
	notDone                  // the API says so, or it was never sent
	outcomeUnknown           // it may have been done, or be done later
	notAnswered              // nobody answers any more: the test has failed
)

// ask sends a request once, to any of the targets.
func (c *client) ask(call string, body map[string]any, key string) (ledgertest.Answer, certainty) {
	targets := c.targets()
	c.http.Commands = targets[c.random.IntN(len(targets))]
	headers := map[string]string{}
	if key != "" {
		headers["Idempotency-Key"] = key
	}
	patience := []time.Duration{300 * time.Millisecond, 2 * time.Second, 15 * time.Second}[c.random.IntN(3)]
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	a, err := c.http.Do(ctx, "POST", "/api/v1/licenses/"+call, c.sold.key, body, headers)
	switch {
	case err == nil:
		return a, answered
	case c.t.Context().Err() != nil || c.t.Failed():
		return a, notAnswered
	case a.Status == 0 && errors.Is(err, syscall.ECONNREFUSED) && key == "": // with a key net/http may have sent it before
	case a.Status == http.StatusServiceUnavailable && (a.Code() == "no_owner" || a.Code() == "overloaded" || a.Code() == "starting" || a.Code() == "stopping"):
	case a.Status != 0 && a.Status != http.StatusServiceUnavailable:
		c.t.Errorf("%s: %v", call, err)
		return a, notAnswered
	default:
		c.unknown.Add(1)
		c.pause()
		return a, outcomeUnknown
	}
	c.undone.Add(1)
	c.pause()
	return a, notDone
}

// pause lets the others go on.
func (c *client) pause() { time.Sleep(time.Duration(c.random.Int64N(int64(40 * time.Millisecond)))) }

// latest is the latest that the ledger's clock can show now, in milliseconds: where it counts no clock jumps.
func (c *client) latest() int64 { return time.Now().UnixMilli() }

// millis reads a time of an answer.
func (c *client) millis(a ledgertest.Answer, path string) int64 {
	if a.Status >= 300 {
		return 0
	}
	at, err := time.Parse(time.RFC3339, a.At(path))
	if err != nil {
		c.t.Error(err)
	}
	return at.UnixMilli()
}
