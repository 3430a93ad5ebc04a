package client

import "time"

// State is how a lease stands.
type State string

// The states of a Lease.
const (
	// Held: the last heartbeat was acknowledged.
	Held State = "held"
	// AtRisk: heartbeats are not acknowledged, or are refused while a license is suspended. The seat is still held, until
	// Status.Until; when an acknowledgment comes before that, it is Held again.
	AtRisk State = "at_risk"
	// Lost: the seat is gone for good. Acquire again to get one.
	Lost State = "lost"
	// Released: the program closed the lease.
	Released State = "released"
)

// Status is how a lease stands at one moment.
type Status struct {
	State State
	// Until is when the seat is lost unless a heartbeat is acknowledged before; of a lost or released one, when it ended.
	Until time.Time
	// Err is why it is AtRisk (Unreachable, LicenseSuspended, …) or Lost (a LeaseLost); else nil.
	Err error
}

// mailbox holds the newest status for one reader. Putting never blocks.
type mailbox chan Status

func newMailbox() mailbox { return make(mailbox, 1) }

// put replaces what was not read yet. Only one goroutine at a time may put.
func (m mailbox) put(s Status) {
	select {
	case <-m:
	default:
	}
	m <- s
}
