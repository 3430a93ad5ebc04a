package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Borrowed is a seat that is held without a server until a time. It can be stored, as JSON, for the program that starts
// offline later.
type Borrowed struct {
	Lease  string    `json:"lease"`
	Fence  int64     `json:"fence"`
	Holder Holder    `json:"holder"`
	Until  time.Time `json:"until"`
	// Features are those that were asked for; all of the license when none were.
	Features []string `json:"features"`
}

// Held reports whether the seat is the holder's at an instant of this machine's wall clock. Offline there is no other clock:
// who sets it back keeps the program longer, and not the seat.
func (b Borrowed) Held(at time.Time) bool { return at.Before(b.Until) }

// Borrow takes a seat for h and holds it until a time without heartbeats, so that the program can be used offline; see
// Holder for what empty fields mean. A program that starts later as the same user and machine needs a Process that is the same
// again. Who holds a seat may borrow it, and may borrow it for longer: for less is nothing new, Return it to give it back.
//
// Errors: as of Acquire, and BorrowNotAllowed, BorrowTooLong, BorrowLimitReached.
func (c *Client) Borrow(ctx context.Context, h Holder, until time.Time) (Borrowed, error) {
	h, err := h.complete(c.process)
	if err != nil {
		return Borrowed{}, err
	}
	ctx, cancel := c.patiently(ctx, 0)
	defer cancel()
	answer, err := c.caller.Do(ctx, Call{
		Method: http.MethodPost, Path: "/api/v1/licenses/acquire", IdempotencyKey: NewIdempotencyKey(),
		Body: acquireRequest{User: h.User, Machine: h.Machine, Process: h.Process, Features: c.config.Features, BorrowUntil: until.UTC().Truncate(time.Millisecond)},
	})
	if err != nil {
		return Borrowed{}, err
	}
	var body leaseAnswer
	if err := json.Unmarshal(answer.Body, &body); err != nil || body.Lease.ID == "" {
		return Borrowed{}, unreachable("the answer is none of a ledger", err)
	}
	return Borrowed{Lease: body.Lease.ID, Fence: body.Lease.Fence, Holder: h, Until: body.Lease.ExpiresAt, Features: body.Features}, nil
}

// Return gives a borrowed seat back before its time. One that is over already is no error.
func (c *Client) Return(ctx context.Context, b Borrowed) error {
	ctx, cancel := c.patiently(ctx, 0)
	defer cancel()
	_, err := c.caller.Do(ctx, Call{
		Method: http.MethodPost, Path: "/api/v1/licenses/release", Body: leaseRequest{b.Lease}, IdempotencyKey: NewIdempotencyKey(),
	})
	if e, isError := err.(*Error); isError && e.isLoss() {
		return nil
	}
	return err
}
