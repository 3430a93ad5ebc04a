package domain

import (
	"slices"
	"time"
)

// SeatQueued records that Holder waits for a seat of License: first come, first served among those of one priority.
type SeatQueued struct {
	License LicenseID `json:"license"`
	Holder
	Priority int `json:"priority,omitzero"` // of the holder's reservation when it came; those with a higher one come first
	Position int `json:"position"`          // in the queue; 1 is next
}

// SeatDequeued records that Holder waits no more. Who acquires a seat leaves the queue by that, without it.
type SeatDequeued struct {
	License LicenseID `json:"license"`
	Holder
	Cause  DequeueCause `json:"cause"`
	Reason Code         `json:"reason,omitzero"` // of DequeuedByRefusal
}

// DequeueCause says why a holder waits no more.
type DequeueCause string

// The causes of leaving the queue without an acquire.
const (
	// DequeuedByCaller: the caller hung up.
	DequeuedByCaller DequeueCause = "left"
	// DequeuedByAbsence: the time to wait was over, or a server died, and the caller did not ask again soon.
	DequeuedByAbsence DequeueCause = "absent"
	// DequeuedByRefusal: there will be no seat, such as for a license that was suspended.
	DequeuedByRefusal DequeueCause = "refused"
	// DequeuedByRevival: a late heartbeat revives a lease that the holder had.
	DequeuedByRevival DequeueCause = "revived"
)

func (*SeatQueued) EventType() string   { return "ai.coditect.seat.queued.v1" }
func (*SeatDequeued) EventType() string { return "ai.coditect.seat.dequeued.v1" }

func (e *SeatQueued) EventSubject() string   { return string(e.License) }
func (e *SeatDequeued) EventSubject() string { return string(e.License) }

// waiter is a holder in the queue of a license.
type waiter struct {
	holder   Holder
	priority int
}

// queueMax is how many may wait for a seat of one license. Whoever comes then is refused.
const queueMax = 1000

// place returns where a holder is in the queue, from 1; 0 when it is not there.
func (l *License) place(h Holder) int {
	return slices.IndexFunc(l.queue, func(w waiter) bool { return w.holder == h }) + 1
}

// behind returns how many of the queue come before somebody who comes now.
func (l *License) behind(priority int) int {
	n := slices.IndexFunc(l.queue, func(w waiter) bool { return w.priority < priority })
	if n < 0 {
		return len(l.queue)
	}
	return n
}

// priority is the place in the queue of a user, among others.
func (l *License) priority(user Pseudonym) int {
	if i, has := l.reservedFor[user]; has {
		return l.Reservations[i].Priority
	}
	return 0
}

func (t *Tenant) applyQueued(e *SeatQueued) {
	l := t.mustLicense(e.License)
	if _, holds := l.leases.heldBy(e.Holder); holds || l.place(e.Holder) > 0 {
		broken("a holder waits for a seat of %s that has one, or waits already", l.ID)
	}
	if len(l.queue) == 0 {
		t.queues = append(t.queues, l)
	}
	l.queue = slices.Insert(l.queue, l.behind(e.Priority), waiter{e.Holder, e.Priority})
}

func (t *Tenant) applyDequeued(e *SeatDequeued) {
	l := t.mustLicense(e.License)
	if l.place(e.Holder) == 0 {
		broken("a holder leaves the queue of %s that is not in it", l.ID)
	}
	t.dequeue(l, e.Holder)
}

// dequeue takes a holder out of the queue, if it is there.
func (t *Tenant) dequeue(l *License, h Holder) {
	n := l.place(h)
	if n == 0 {
		return
	}
	l.queue = slices.Delete(l.queue, n-1, n)
	if len(l.queue) == 0 {
		l.queue = nil
		t.queues = slices.DeleteFunc(t.queues, func(other *License) bool { return other == l })
	}
}

// turn says why a holder can have no further lease now; empty when it can. Of the free seats, those before it in the queue get
// theirs first, also while their callers are away: a newcomer overtakes nobody.
func (o *occupancy) turn(h Holder) Code {
	l := o.license
	code := o.refuses(h)
	if code != "" || len(l.queue) == 0 {
		return code
	}
	before := l.place(h) - 1
	if before < 0 {
		before = l.behind(l.priority(h.User))
	}
	left := o.clone()
	left.offer(l.queue[:before])
	if left.refuses(h) != "" {
		return NoSeatAvailable
	}
	return ""
}

// offer gives seats to those who wait, as far as there are, and returns who got one.
func (o *occupancy) offer(to []waiter) (got []Holder) {
	for _, w := range to {
		if o.license.SeatPer == SeatPerProcess && o.free() == 0 {
			break
		}
		if o.refuses(w.holder) == "" {
			o.enter(w.holder)
			got = append(got, w.holder)
		}
	}
	return got
}

// Waiter is a holder who waits for a seat.
type Waiter struct {
	License LicenseID
	Holder  Holder
}

// Waiters returns all who wait for seats of the tenant, those of one license in their order.
func (t *Tenant) Waiters() []Waiter {
	var all []Waiter
	for _, l := range t.queues {
		for _, w := range l.queue {
			all = append(all, Waiter{l.ID, w.holder})
		}
	}
	return all
}

// Called returns those waiters for whom there is a seat, and those for whom there will be none because their license cannot
// be used: their acquires are to be decided again, in this order.
func (t *Tenant) Called(now Moment) []Waiter {
	var called []Waiter
	for _, l := range t.queues {
		code, _ := l.notValid(now.At)
		if t.notInForce(l) != "" || code != "" {
			for _, w := range l.queue {
				called = append(called, Waiter{l.ID, w.holder})
			}
			continue
		}
		free := l.without(nil)
		for _, h := range free.offer(l.queue) {
			called = append(called, Waiter{l.ID, h})
		}
	}
	return called
}

// estimateFrom is from how many leases that ended last the wait is estimated.
const estimateFrom = 32

// estimateSeconds is how long until so many seats are free, if leases go on ending as the last ones did; at least 1, and 0
// when none has ended yet.
func (l *License) estimateSeconds(seats int, now time.Time) int {
	ended := l.leases.ended[max(0, len(l.leases.ended)-estimateFrom):]
	if len(ended) == 0 {
		return 0
	}
	// In milliseconds: a quiet year times a long queue is more than a time.Duration holds.
	since, pace := millis(now)-l.leases.record(ended[0]).changesAt, int64(1000*len(ended))
	return max(1, int((since*int64(seats)+pace-1)/pace))
}

// stillWaits answers a holder that is in the queue and asks whether there is a seat now. It may ask again at once: that
// costs it nothing, and not to ask for long costs it its place.
func (l *License) stillWaits(place, inUse int, now time.Time) *Rejection {
	r := rejectf(NoSeatAvailable, "%d of %d seats are in use; you are number %d of %d in the queue.", inUse, l.Seats, place, len(l.queue))
	r.Seats, r.InUse, r.RetryAfterSeconds = l.Seats, inUse, 1
	r.Waiting, r.Position, r.EstimateSeconds = len(l.queue), place, l.estimateSeconds(place, now)
	return r
}

// LeaveQueue takes a holder out of the queue of a license. One that does not wait there leaves nothing.
//
// Refused, the first that applies: tenant_not_found, license_not_found.
type LeaveQueue struct {
	License LicenseID
	Holder  Holder
	Cause   DequeueCause
}

// Decide implements Command.
func (c LeaveQueue) Decide(t *Tenant, _ Moment) ([]Event, error) {
	l, err := t.findLicense(c.License)
	if err != nil || l.place(c.Holder) == 0 {
		return nil, err
	}
	return []Event{&SeatDequeued{License: c.License, Holder: c.Holder, Cause: c.Cause}}, nil
}

// Answer implements Command.
func (c LeaveQueue) Answer(*Tenant, []Event) Answer { return Answer{} }
