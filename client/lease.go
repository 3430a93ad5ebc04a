package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Lease is one seat, held until Close or until it is lost. Its methods are safe for concurrent use and never wait for the
// network, but for Close.
type Lease struct {
	client   *Client
	holder   Holder
	id       string
	license  string
	fence    int64
	features []string
	interval time.Duration // between heartbeats, as the server suggests; of run only

	mu     sync.Mutex
	term   term
	status Status // Until is filled in when it is read

	lost     chan struct{}
	changes  mailbox // for Changes
	notices  mailbox // for the goroutine that logs and calls back
	stop     context.CancelFunc
	stopped  chan struct{} // run has ended
	closing  sync.Once
	closeErr error
}

func newLease(c *Client, h Holder, answer *leaseAnswer, t term) *Lease {
	l := &Lease{
		client: c, holder: h, id: answer.Lease.ID, license: answer.Lease.License, fence: answer.Lease.Fence,
		features: answer.Features, term: t, status: Status{State: Held},
		lost: make(chan struct{}), changes: newMailbox(), notices: newMailbox(), stopped: make(chan struct{}),
	}
	l.beatEvery(answer.HeartbeatSeconds)
	return l
}

func (l *Lease) start() {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go l.notify()
	l.publish()
	go l.run(ctx)
}

// ID returns the id of the lease.
func (l *Lease) ID() string { return l.id }

// License returns the id of the license.
func (l *Lease) License() string { return l.license }

// Fence returns the number that is larger for each lease of a license than for those before: a resource that remembers the
// largest it saw can refuse a late holder.
func (l *Lease) Fence() int64 { return l.fence }

// Features returns what the license entitles to: of Config.Features if there are any, else all.
func (l *Lease) Features() []string { return slices.Clone(l.features) }

// Holder returns who holds the seat, with every field filled in.
func (l *Lease) Holder() Holder { return l.holder }

// Held reports whether the program may use the seat right now.
func (l *Lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status.State.holds() && l.term.remaining(l.client.clock.now()) > 0
}

func (s State) holds() bool { return s == Held || s == AtRisk }

// Status returns how the lease stands.
func (l *Lease) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	if s.State.holds() {
		now := l.client.clock.now()
		s.Until = now.wall.Add(l.term.remaining(now))
	}
	return s
}

// Lost is closed when the seat is lost. It stays open after Close.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Err returns nil while the seat is held, else an *Error with the code Closed or that of a LeaseLost.
func (l *Lease) Err() error {
	switch s := l.Status(); s.State {
	case Lost:
		return s.Err
	case Released:
		return &Error{Code: Closed, Detail: "the lease was closed"}
	}
	return nil
}

// Changes gives the newest status after every change, starting with the first. A slow reader misses what came in between,
// never the last. It is closed after Lost or Released. All calls return the same channel.
func (l *Lease) Changes() <-chan Status { return l.changes }

// Context returns a context that ends with parent, and when the seat is lost: then context.Cause is the same as Err.
// Call cancel when the work is done.
func (l *Lease) Context(parent context.Context) (_ context.Context, cancel context.CancelFunc) {
	ctx, end := context.WithCancelCause(parent)
	go func() {
		select {
		case <-l.lost:
			end(l.Err())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { end(nil) }
}

const (
	// releaseFor is how long Close tries at most, and lastTry what it takes although ctx had ended before.
	releaseFor, lastTry = 5 * time.Second, time.Second
)

// Close gives the seat back. From its call on Held says no. It takes 5 s at most, less if ctx ends; of a ctx that had ended
// already, as it has after Ctrl-C, it takes no notice for the first second. Closing again does nothing and returns the same.
//
// Errors: *Error with the code Unreachable when no server answered: the seat comes free by itself at Status.Until. Closing a
// lease that is lost sends nothing and returns nil.
func (l *Lease) Close(ctx context.Context) error {
	l.closing.Do(func() {
		l.stop()
		<-l.stopped
		l.mu.Lock()
		held := l.status.State.holds()
		now := l.client.clock.now()
		remaining := l.term.remaining(now)
		if held {
			l.status = Status{State: Released, Until: now.wall}
		}
		l.mu.Unlock()
		if !held {
			return // The same holder may have a new seat by now, perhaps with the same id.
		}
		l.client.free(l.holder)
		l.end()
		most := min(releaseFor, max(remaining, lastTry)) // after that it is free anyway
		if ctx.Err() != nil {
			ctx, most = context.WithoutCancel(ctx), lastTry
		}
		ctx, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		_, err := l.client.caller.Do(ctx, Call{Method: http.MethodPost, Path: "/api/v1/licenses/release", Body: leaseRequest{l.id}})
		var e *Error
		if errors.As(err, &e) && e.isLoss() {
			err = nil // the seat is free
		}
		l.closeErr = err
	})
	return l.closeErr
}

// watch is how often run looks at the clocks: so much later at most it finds out that the machine slept.
const watch = time.Second

// run sends heartbeats until the lease is lost or ctx ends. It takes no lock but its own, for an instant, and calls nothing
// of the program but its HTTP client.
func (l *Lease) run(ctx context.Context) {
	defer close(l.stopped)
	beatAt := l.jittered() // in time elapsed of the term
	failures := 0
	for {
		now := l.client.clock.now()
		elapsed, length := l.term.elapsed(now), l.term.length
		if l.term.over(now) {
			l.lose(l.expired())
			return
		}
		if elapsed < beatAt && elapsed < length {
			if !sleep(ctx, min(beatAt-elapsed, length-elapsed, watch)) {
				return
			}
			continue
		}
		// When the lease is over by the wall clock alone, this is the one heartbeat that can still save it.
		err := l.heartbeat(ctx, attemptFor(length))
		var e *Error
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			beatAt, failures = l.jittered(), 0
			l.change(Status{State: Held})
		case errors.As(err, &e) && e.isLoss():
			l.lose(e)
			return
		default:
			l.change(Status{State: AtRisk, Err: err})
			now := l.client.clock.now()
			remaining := l.term.remaining(now)
			if remaining <= 0 {
				l.lose(l.expired())
				return
			}
			// A server may ask us to wait, but not until it is too late: half of what is left leaves room for more tries.
			pause := max(backoff(failures, pauseMin, min(pauseMax, length/6)), retryAfter(err))
			if !errors.Is(err, Unreachable) {
				pause = l.interval // refused, such as while the license is suspended: no reason to hurry
			}
			beatAt = l.term.elapsed(now) + max(min(pause, remaining/2), pauseMin)
			failures++
		}
	}
}

// attemptFor returns how long one heartbeat may take: short enough for several before the lease ends.
func attemptFor(length time.Duration) time.Duration {
	return min(max(length/6, time.Second), attemptMax)
}

// heartbeat sends one and starts a new term when it is acknowledged. Errors: as of Caller.once.
func (l *Lease) heartbeat(ctx context.Context, timeout time.Duration) error {
	sent := l.client.clock.now()
	if left := l.term.length - (sent.monotonic - l.term.sent.monotonic); left > 0 {
		timeout = min(timeout, left) // an answer after that is too late
	}
	// No Idempotency-Key: its repetition would get the old answer, and not renew.
	answer, err := l.client.caller.once(ctx, timeout, Call{Method: http.MethodPost, Path: "/api/v1/licenses/heartbeat", Body: leaseRequest{l.id}})
	if err != nil {
		return err
	}
	var body leaseAnswer
	switch err := json.Unmarshal(answer.Body, &body); {
	case err != nil || body.Lease.ID != l.id:
		return unreachable("the answer is none of a ledger", err)
	case body.length() <= 0 && body.Lease.State == "active":
		return unreachable("the answer is none of a ledger: it does not say how long the lease runs", nil)
	case body.Lease.State != "active":
		return &Error{Code: Code("lease_" + body.Lease.State), Status: http.StatusGone, Detail: "the lease has ended"}
	}
	l.beatEvery(body.HeartbeatSeconds)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term = term{sent: sent, length: body.length()}
	return nil
}

// beatEvery takes the server's suggestion, if there is one.
func (l *Lease) beatEvery(seconds int) {
	if seconds > 0 {
		l.interval = time.Duration(seconds) * time.Second
	}
}

// jittered returns when to send the next heartbeat after the last: a bit before the server suggests, each time another bit,
// so that a thousand programs that started together spread; and never later than half of the lease, so that there is time
// for more.
func (l *Lease) jittered() time.Duration {
	interval := l.term.length / 3
	if l.interval > 0 {
		interval = min(l.interval, l.term.length/2)
	}
	return interval - rand.N(interval/5+1)
}

// expired returns the error of a lease that ended by time.
func (l *Lease) expired() *Error {
	return &Error{Code: LeaseExpired, Detail: fmt.Sprintf("no heartbeat was acknowledged for %v", l.term.length), cause: l.Status().Err}
}

func (l *Lease) lose(e *Error) {
	l.change(Status{State: Lost, Until: l.client.clock.wall(), Err: e})
	l.client.free(l.holder) // first: whoever hears of the loss acquires at once
	close(l.lost)
	l.end()
}

// end tells the last status.
func (l *Lease) end() {
	l.publish()
	close(l.changes)
	close(l.notices)
}

// change notes a status, and tells it when it is another one.
func (l *Lease) change(s Status) {
	l.mu.Lock()
	changed := l.status.State != s.State
	l.status = s
	l.mu.Unlock()
	if changed && s.State != Lost {
		l.publish()
	}
}

func (l *Lease) publish() {
	s := l.Status()
	l.changes.put(s)
	l.notices.put(s)
}

// notify logs and calls back. A log handler may block just as a callback may.
func (l *Lease) notify() {
	log := l.client.config.Logger.With("lease", l.id)
	for s := range l.notices {
		switch s.State {
		case Held, Released:
			log.Info("seat "+string(s.State), "until", s.Until)
		case AtRisk:
			log.Warn("seat at risk: heartbeats are not acknowledged", "held_until", s.Until, "error", s.Err)
		case Lost:
			log.Error("seat lost", "error", s.Err)
		}
		if l.client.config.OnChange != nil {
			l.client.config.OnChange(l, s)
		}
	}
}
