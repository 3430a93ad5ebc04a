package domain

import (
	"math"
	"time"
)

// SeatBorrowed records that an active lease is held offline until ExpiresAt, without heartbeats.
type SeatBorrowed struct {
	License   LicenseID `json:"license"`
	Lease     LeaseID   `json:"lease"`
	ExpiresAt time.Time `json:"expires_at"` // later than the lease ended before
}

// EventType implements Event.
func (*SeatBorrowed) EventType() string { return "ai.coditect.seat.borrowed.v1" }

// EventSubject implements Event.
func (e *SeatBorrowed) EventSubject() string { return string(e.Lease) }

func (t *Tenant) applyBorrowed(e *SeatBorrowed) {
	l := t.mustLicense(e.License)
	n, ok := l.leases.active(e.Lease)
	if !ok {
		broken("%s borrowed, which is not an active lease of %s", e.Lease, l.ID)
	}
	if r := l.leases.record(n); !r.borrowed {
		r.borrowed = true
		l.Borrowed++
	}
	if l.leases.renew(n, e.ExpiresAt) {
		t.reschedule(l)
	}
}

// ordinary notes that a lease is not held offline any more.
func (l *License) ordinary(r *leaseRecord) {
	if r.borrowed {
		r.borrowed = false
		l.Borrowed--
	}
}

// borrowMost is how many leases may be borrowed at once: never so many that fewer seats stay online than the low-water mark.
func (l *License) borrowMost() int {
	most := max(0, l.Seats-l.BorrowLowWater)
	if l.BorrowLowWater == 0 {
		most = math.MaxInt
	}
	if l.BorrowMax > 0 {
		most = min(most, l.BorrowMax)
	}
	return most
}

// borrowUntil is the latest end of a lease that is borrowed now.
func (l *License) borrowUntil(now time.Time) time.Time {
	until := now.AddDate(0, 0, l.BorrowDays)
	if end := l.end(); !end.IsZero() && end.Before(until) {
		return end
	}
	return until
}

// refusesBorrow says why a lease cannot be borrowed until a time; empty when it can. again: it is borrowed already, and is
// to be for longer.
func (o *occupancy) refusesBorrow(until, now time.Time, again bool) Code {
	l := o.license
	switch {
	case l.BorrowDays == 0:
		return BorrowNotAllowed
	case until.After(l.borrowUntil(now)):
		return BorrowTooLong
	case !again && o.borrowed >= l.borrowMost():
		return BorrowLimitReached
	}
	return ""
}
