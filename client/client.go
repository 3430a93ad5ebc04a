package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Config says which license of which ledger. Server and LicenseKey are needed.
type Config struct {
	// Server is the base address of the ledger, such as https://ledger.example.com; several are separated by commas.
	Server string
	// LicenseKey is what the vendor handed out: lk_…
	LicenseKey string
	// Features are what the license must entitle to; else the program gets no seat, but FeatureNotEntitled.
	Features []string
	// Patience is how long Acquire goes on while no server answers. Default 30 s.
	Patience time.Duration
	// HTTPClient replaces the Client's own. It should have no timeout: each attempt has one already.
	HTTPClient *http.Client
	// Logger hears of every change of a lease. Default: nobody does.
	Logger *slog.Logger
	// OnChange is called after every change of a lease, one call at a time, on a goroutine of its own for each lease: it may
	// block. It may then miss changes in between, never the last.
	OnChange func(*Lease, Status)
}

// Client acquires seats of one license. It is safe for concurrent use.
type Client struct {
	config  Config
	caller  *Caller
	process string // the Process of holders that name none
	clock   clock

	mu   sync.Mutex
	held map[Holder]bool // what this Client holds, or is about to
}

// New returns a Client. It sends nothing yet.
func New(config Config) (*Client, error) {
	if strings.TrimSpace(config.LicenseKey) == "" {
		return nil, errors.New("client: Config.LicenseKey is empty")
	}
	caller, err := NewCaller(config.Server, config.LicenseKey, config.HTTPClient)
	if err != nil {
		return nil, fmt.Errorf("client: Config.Server: %w", err)
	}
	if config.Patience == 0 {
		config.Patience = 30 * time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{config: config, caller: caller, process: newProcess(), clock: newClock(), held: map[Holder]bool{}}, nil
}

// Acquire takes a seat for h; see Holder for what empty fields mean. The Lease keeps itself alive, also when ctx ends,
// until Close.
//
// The same holder has one lease: a program that lost its seat while the ledger was away gets the same one again.
// While no server answers it tries for Config.Patience or until ctx ends; however often it asks, it takes one seat.
//
// Errors: *Error, with a code such as NoSeatAvailable (at once; see Wait), Unauthorized, LicenseSuspended, AlreadyHeld or
// Unreachable. After Unreachable a seat may be taken; nobody keeps it alive, so that it expires.
func (c *Client) Acquire(ctx context.Context, h Holder) (*Lease, error) {
	return c.acquireIn(ctx, h, 0)
}

// acquireIn is Acquire, but waits for a seat so long, in whole seconds.
func (c *Client) acquireIn(ctx context.Context, h Holder, wait time.Duration) (*Lease, error) {
	h, err := h.complete(c.process)
	if err != nil {
		return nil, err
	}
	if !c.reserve(h) {
		return nil, &Error{Code: AlreadyHeld, Detail: "this program holds a seat for the same holder already; set Holder.Process to tell the two apart"}
	}
	ctx, cancel := c.patiently(ctx, wait)
	defer cancel()
	for {
		lease, err := c.acquire(ctx, h, wait)
		var e *Error
		if errors.As(err, &e) && e.isLoss() && sleep(ctx, pauseMin) {
			continue // an older lease of this holder ended just when we came for it
		}
		if err != nil {
			c.free(h)
			return nil, err
		}
		lease.start()
		return lease, nil
	}
}

// patiently bounds how long is tried while no server answers, beside what it is asked to wait.
func (c *Client) patiently(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.config.Patience+wait, fmt.Errorf("gave up after %v", c.config.Patience+wait))
}

func (c *Client) acquire(ctx context.Context, h Holder, wait time.Duration) (*Lease, error) {
	// The attempt that was heard may be any of them, so that the lease counts from the first.
	sent := c.clock.now()
	answer, err := c.caller.Do(ctx, Call{
		Method: http.MethodPost, Path: "/api/v1/licenses/acquire", IdempotencyKey: NewIdempotencyKey(), Wait: wait,
		Body: acquireRequest{User: h.User, Machine: h.Machine, Process: h.Process, Features: c.config.Features, WaitSeconds: int(wait / time.Second)},
	})
	if err != nil {
		return nil, err
	}
	var body leaseAnswer
	if err := json.Unmarshal(answer.Body, &body); err != nil {
		return nil, unreachable("the answer is none of a ledger", err)
	}
	if body.Lease.ID == "" {
		return nil, unreachable("the answer is none of a ledger: it names no lease", nil)
	}
	l := newLease(c, h, &body, term{sent: sent, length: body.length()})
	if l.term.elapsed(c.clock.now()) < l.term.length/2 {
		return l, nil
	}
	// Little is left, because the answer was long in coming or this is an older lease of the holder.
	for attempt := 0; ; attempt++ {
		err := l.heartbeat(ctx, attemptMax)
		if !errors.Is(err, Unreachable) {
			return l, err
		}
		if !sleep(ctx, max(backoff(attempt, pauseMin, pauseMax), retryAfter(err))) {
			return nil, err
		}
	}
}

const (
	// waitFirst is how long the first acquire of Wait waits, so that the program soon hears its place, and waitTurn the others:
	// as often it hears it again.
	waitFirst, waitTurn = time.Second, 15 * time.Second
	// pollMax bounds the pause between two acquires of Wait where there is no place in the queue.
	pollMax = 5 * time.Second
)

// Wait waits in the license's queue for a seat, first come, first served, until ctx ends. It calls waiting, unless that is nil, at
// first and every 15 s with the reason: NoSeatAvailable, with Position, Waiting and Estimate, or Unreachable. A program that is
// not heard of for 10 s loses its place; a restart of the server is no reason for that.
//
// Errors: as of Acquire. When ctx ended, the last reason.
func (c *Client) Wait(ctx context.Context, h Holder, waiting func(*Error)) (*Lease, error) {
	var reason *Error
	for turn := waitFirst; ; turn = waitTurn {
		if deadline, ok := ctx.Deadline(); ok {
			turn = min(turn, max(0, time.Until(deadline)).Truncate(time.Second))
		}
		asked := time.Now()
		lease, err := c.acquireIn(ctx, h, turn)
		var e *Error
		switch {
		case !errors.As(err, &e) || (e.Code != NoSeatAvailable && e.Code != Unreachable):
			return lease, err
		case ctx.Err() != nil && reason != nil:
			return nil, reason // and not that the last attempt was cut short
		case ctx.Err() != nil:
			return nil, err
		}
		reason = e
		if waiting != nil {
			waiting(reason)
		}
		if reason.Position > 0 && turn > 0 && time.Since(asked) >= turn/2 {
			continue // its place is kept for whoever asks again
		}
		pause := min(max(reason.RetryAfter, time.Second), pollMax)
		if !sleep(ctx, pause*3/4+rand.N(pause/2)) {
			return nil, reason
		}
	}
}

// reserve notes that c is to hold a seat for h; false when it does.
func (c *Client) reserve(h Holder) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[h] {
		return false
	}
	c.held[h] = true
	return true
}

func (c *Client) free(h Holder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, h)
}
