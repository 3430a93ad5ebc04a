package domain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// SeatAcquired records that Holder may use one seat of License until ExpiresAt.
type SeatAcquired struct {
	License LicenseID `json:"license"`
	Lease   LeaseID   `json:"lease"`
	Holder
	ExpiresAt time.Time `json:"expires_at"`        // UTC, exclusive: at this instant the seat is free
	Overage   bool      `json:"overage,omitzero"`  // it took a seat beyond those of the license
	Borrowed  bool      `json:"borrowed,omitzero"` // it is held offline until then
	Features  []string  `json:"features,omitzero"` // those that were asked for
	// Fence is that of the lease, on a license that came from another tenant; 0: the tenant's version.
	Fence uint64 `json:"fence,omitzero"`
	// AcquiredAt is when a lease was acquired that came from another tenant with its license; zero: it is acquired now.
	AcquiredAt time.Time `json:"acquired_at,omitzero"`
}

// Arrived reports whether the lease came from another tenant: nobody asked for it here.
func (e *SeatAcquired) Arrived() bool { return !e.AcquiredAt.IsZero() }

// SeatHeartbeat renews leases of one license until ExpiresAt: all that were renewed in one commit.
type SeatHeartbeat struct {
	License   LicenseID `json:"license"`
	Leases    []LeaseID `json:"leases"`
	ExpiresAt time.Time `json:"expires_at"`
}

// SeatRevived records that leases that had run out go on until ExpiresAt, because of a heartbeat that came late.
type SeatRevived struct {
	License   LicenseID `json:"license"`
	Leases    []LeaseID `json:"leases"`
	ExpiresAt time.Time `json:"expires_at"`
}

// SeatEvicted ends leases whose holders did not give them back.
type SeatEvicted struct {
	License LicenseID     `json:"license"`
	Leases  []LeaseID     `json:"leases"`
	Cause   EvictionCause `json:"cause"`
	Reason  string        `json:"reason,omitempty"`
}

// EvictionCause says what ended a lease against the will of its holder.
type EvictionCause string

// The causes of an eviction.
const (
	EvictedByOperator EvictionCause = "operator"
	EvictedByShrink   EvictionCause = "license_shrunk"
)

// SeatReleased records that the seat was given back.
type SeatReleased struct {
	License LicenseID `json:"license"`
	Lease   LeaseID   `json:"lease"`
}

// SeatExpired records that the lease ran out without a heartbeat.
type SeatExpired struct {
	License LicenseID `json:"license"`
	Lease   LeaseID   `json:"lease"`
}

// SeatDenied records refused acquires of one holder: who asked, why the last one was refused and how full the license was.
type SeatDenied struct {
	License LicenseID `json:"license"`
	Holder
	Reason            Code `json:"reason"`
	Seats             int  `json:"seats"`
	InUse             int  `json:"in_use"`
	RetryAfterSeconds int  `json:"retry_after_seconds,omitzero"` // of no_seat_available
	Reserved          int  `json:"reserved,omitzero"`            // of no_seat_available: the free seats, which are kept for others

	// Of no_seat_available: how many wait for a seat, and the seconds until the holder would get one if it waited, too, at the
	// pace at which seats were given back last; 0 when nobody knows.
	Waiting         int `json:"waiting,omitzero"`
	EstimateSeconds int `json:"estimate_seconds,omitzero"`

	Feature string    `json:"feature,omitzero"`  // of feature_not_entitled: the first that is not
	Limit   int       `json:"limit,omitzero"`    // of user_limit_reached, machine_limit_reached and borrow_limit_reached
	ValidAt time.Time `json:"valid_at,omitzero"` // of license_not_started and license_expired: when it starts, or ended; of borrow_too_long the latest end

	// Count is how many refusals it records: all since the event before; 0 is 1. There is one event a minute at most.
	Count int `json:"count,omitzero"`
}

func (*SeatAcquired) EventType() string  { return "ai.coditect.seat.acquired.v1" }
func (*SeatHeartbeat) EventType() string { return "ai.coditect.seat.heartbeat.v1" }
func (*SeatRevived) EventType() string   { return "ai.coditect.seat.revived.v1" }
func (*SeatEvicted) EventType() string   { return "ai.coditect.seat.evicted.v1" }
func (*SeatReleased) EventType() string  { return "ai.coditect.seat.released.v1" }
func (*SeatExpired) EventType() string   { return "ai.coditect.seat.expired.v1" }
func (*SeatDenied) EventType() string    { return "ai.coditect.seat.denied.v1" }

func (e *SeatAcquired) EventSubject() string  { return string(e.Lease) }
func (e *SeatHeartbeat) EventSubject() string { return string(e.License) }
func (e *SeatRevived) EventSubject() string   { return string(e.License) }
func (e *SeatEvicted) EventSubject() string   { return string(e.License) }
func (e *SeatReleased) EventSubject() string  { return string(e.Lease) }
func (e *SeatExpired) EventSubject() string   { return string(e.Lease) }
func (e *SeatDenied) EventSubject() string    { return string(e.License) }

// Holder is who uses a seat. The same holder of the same license has one lease, never two.
type Holder struct {
	User    Pseudonym `json:"user"`
	Machine Pseudonym `json:"machine"`
	Process Pseudonym `json:"process,omitempty"` // tells several programs of one user on one machine apart; may be empty
}

// LeaseState is active, or how the lease ended.
type LeaseState string

// The states of a lease.
const (
	LeaseStateActive   LeaseState = "active"
	LeaseStateReleased LeaseState = "released"
	LeaseStateExpired  LeaseState = "expired"
	LeaseStateRevoked  LeaseState = "revoked"
	LeaseStateEvicted  LeaseState = "evicted"
	// LeaseStateTransferred: it goes on at another tenant.
	LeaseStateTransferred LeaseState = "transferred"
)

// Lease is one holder's hold on one seat, from acquire to its end.
type Lease struct {
	ID         LeaseID
	License    LicenseID
	Fence      uint64 // only grows per license, also when that moves: the tenant's version at its acquire, above all fences given before the move
	Holder     Holder
	State      LeaseState
	Overage    bool // it took a seat beyond those of the license
	Borrowed   bool // it is, or was, held offline: it needs no heartbeats
	AcquiredAt time.Time
	ExpiresAt  time.Time // exclusive
	EndedAt    time.Time // zero while active
}

// rejection says why a lease that has ended so is of no use.
func (s LeaseState) rejection() *Rejection {
	switch s {
	case LeaseStateExpired:
		return rejectf(LeaseExpired, "The lease ran out without a heartbeat; acquire a new seat.")
	case LeaseStateReleased:
		return rejectf(LeaseReleased, "The lease was released; acquire a new seat.")
	case LeaseStateRevoked:
		return rejectf(LeaseRevoked, "The license was revoked.")
	case LeaseStateEvicted:
		return rejectf(LeaseEvicted, "The seat was taken back; save your work, and acquire a new one.")
	case LeaseStateTransferred:
		return rejectf(LeaseTransferred, "The lease went to another tenant with its license, and is held there; use the new key of the license.")
	case LeaseStateActive:
	}
	return nil
}

func (t *Tenant) applyAcquired(at time.Time, e *SeatAcquired) {
	l := t.mustLicense(e.License)
	_, known := l.leases.find(e.Lease)
	if known {
		broken("lease %s acquired again on %s", e.Lease, e.License)
	}
	t.dequeue(l, e.Holder)
	fence, acquiredAt := cmp.Or(e.Fence, t.Version), at
	if e.Arrived() {
		l.mustArrive(e)
		acquiredAt = e.AcquiredAt
	} else {
		l.mustAdmit(e.Holder)
		if fence <= l.fences {
			broken("lease %s of %s has the fence %d, and %d was given out before", e.Lease, l.ID, fence, l.fences)
		}
	}
	l.leases.add(e.Lease, e.Holder, fence, acquiredAt, e.ExpiresAt, e.Overage, e.Borrowed)
	if e.Borrowed {
		l.Borrowed++
	}
	l.enter(e.Holder, fence)
	if e.Arrived() {
		l.arrive(at)
	}
	t.count(l)
	t.reschedule(l)
}

func (t *Tenant) applyRevived(e *SeatRevived) {
	l := t.mustLicense(e.License)
	for _, id := range e.Leases {
		n, ok := l.leases.find(id)
		if !ok || l.leases.record(n).state != stateExpired {
			broken("lease %s revived, which had not run out on %s", id, e.License)
		}
		h := l.leases.record(n).holder()
		l.mustAdmit(h)
		l.leases.revive(n, e.ExpiresAt)
		l.leases.record(n).borrowed = false
		l.enter(h, l.leases.record(n).fence)
		t.count(l)
		t.reschedule(l)
	}
}

// mustAdmit holds the promise of all promises: there is a free seat for whoever gets one, and no holder gets two.
func (l *License) mustAdmit(h Holder) { l.mustHaveRoom(h, l.Limit()) }

// mustHaveRoom holds it where so many seats may be taken.
func (l *License) mustHaveRoom(h Holder, seats int) {
	if _, holds := l.leases.heldBy(h); holds {
		broken("second lease of a holder on %s", l.ID)
	}
	if l.place(h) > 0 {
		broken("a holder has a seat of %s and waits for one", l.ID)
	}
	o := occupancy{license: l, inUse: l.InUse}
	if !o.has(h) && o.inUse >= seats {
		broken("seat %d of %d taken on %s", l.InUse+1, seats, l.ID)
	}
}

func (t *Tenant) applyHeartbeat(e *SeatHeartbeat) {
	l := t.mustLicense(e.License)
	for _, id := range e.Leases {
		n, ok := l.leases.active(id)
		if !ok {
			broken("heartbeat for %s, which is not an active lease of %s", id, l.ID)
		}
		if l.leases.renew(n, e.ExpiresAt) {
			t.reschedule(l)
		}
		l.ordinary(l.leases.record(n))
	}
}

func (t *Tenant) endLease(at time.Time, license LicenseID, id LeaseID, state LeaseState) {
	l := t.mustLicense(license)
	n, ok := l.leases.active(id)
	if !ok {
		broken("%s of %s, which is not an active lease of %s", state, id, license)
	}
	h := l.leases.record(n).holder()
	if l.leases.record(n).borrowed {
		l.Borrowed--
	}
	// How many are remembered depends on state alone: every replay remembers the same. Those that went elsewhere are all remembered
	// until they are known to be there.
	remembered := l.remembered()
	if state == LeaseStateTransferred {
		remembered = noLimit
	}
	l.leases.end(n, state, at, remembered)
	l.leave(h)
	t.count(l)
	t.reschedule(l)
}

// endedMin is how many ended leases of a license are remembered at least, so that a late call hears how its lease
// ended. As many as there are seats, so that it holds even when all of them end at once.
const endedMin = 256

func (l *License) remembered() int { return max(endedMin, l.Seats) }

// AcquireSeat asks for one seat of License for Holder. A holder that already has one gets the same lease and leaves no
// events; unless it wants to borrow it for longer than it has it.
//
// Refused, the first that applies: tenant_not_found, license_not_found, license_arriving; and, recorded as SeatDenied, but at most once a
// minute for each holder: tenant_suspended, license_transferred, license_revoked, license_suspended, feature_not_entitled; and, unless the holder
// has what it asks for already, license_transferring, license_not_started, license_expired, borrow_not_allowed, borrow_too_long,
// borrow_limit_reached; and, unless it has a lease, user_limit_reached, machine_limit_reached, no_seat_available.
//
// With Queue the last of these is no refusal: the holder is put in the queue, or stays where it is in it, and the command is
// to be decided again when it is called; see Tenant.Called. While it is there an acquire without Queue is answered
// no_seat_available, which is no denial yet and leaves nothing. Any other refusal ends the waiting.
type AcquireSeat struct {
	License  LicenseID
	Lease    LeaseID // new; used when a seat is granted
	Holder   Holder
	Features []string // that the license must entitle to; may be empty
	// BorrowUntil is until when the lease is to be held without heartbeats, UTC, after now; zero: it is not borrowed.
	BorrowUntil time.Time
	// Queue asks to wait for a seat when there is none.
	Queue bool
}

// Decide implements Command.
func (c AcquireSeat) Decide(t *Tenant, now Moment) ([]Event, error) {
	l, err := t.findWhole(c.License)
	if err != nil {
		return nil, err
	}
	events := t.expire(now, noLimit)
	expired := expiredOf(events, l.ID)
	occupied := l.without(expired)
	held, holds := l.leases.heldBy(c.Holder)
	holds = holds && !expired[l.leases.record(held).id()]
	denied := &SeatDenied{License: c.License, Holder: c.Holder, Reason: t.notInForce(l), Seats: l.Seats, InUse: occupied.inUse}
	if denied.Reason == "" {
		if denied.Feature = l.lacks(c.Features); denied.Feature != "" {
			denied.Reason = FeatureNotEntitled
		}
	}
	if denied.Reason == "" && holds && !c.borrowsLonger(l.leases.record(held)) {
		// Not even what ran out elsewhere: from such events nobody could tell later which lease the answer named.
		return nil, nil
	}
	if denied.Reason == "" {
		denied.Reason, denied.ValidAt = l.notValid(now.At)
	}
	if denied.Reason == "" && c.borrows() {
		denied.Reason = occupied.refusesBorrow(c.BorrowUntil, now.At, holds && l.leases.record(held).borrowed)
	}
	if denied.Reason == "" && !holds {
		denied.Reason = occupied.turn(c.Holder)
	}
	place := l.place(c.Holder)
	if denied.Reason == NoSeatAvailable && c.Queue {
		switch {
		case place > 0:
			return nil, nil
		case len(l.queue) < queueMax:
			priority := l.priority(c.Holder.User)
			return append(events, &SeatQueued{License: c.License, Holder: c.Holder, Priority: priority, Position: l.behind(priority) + 1}), nil
		}
	}
	if denied.Reason == NoSeatAvailable && place > 0 {
		return nil, l.stillWaits(place, occupied.inUse, now.At)
	}
	if denied.Reason != "" {
		switch denied.Reason {
		case UserLimitReached:
			denied.Limit = l.MaxPerUser
		case MachineLimitReached:
			denied.Limit = l.MaxPerMachine
		case BorrowTooLong:
			denied.ValidAt = l.borrowUntil(now.At)
		case BorrowLimitReached:
			denied.Limit = l.borrowMost()
		case NoSeatAvailable:
			denied.RetryAfterSeconds = t.retryAfterSeconds(l, now, expired)
			denied.Reserved = min(occupied.free(), occupied.kept(c.Holder.User))
			denied.Waiting = len(l.queue)
			denied.EstimateSeconds = l.estimateSeconds(l.behind(l.priority(c.Holder.User))+1, now.At)
		}
		if place > 0 {
			events = append(events, &SeatDequeued{License: c.License, Holder: c.Holder, Cause: DequeuedByRefusal, Reason: denied.Reason})
		}
		if t.denials.note(denied, now.At) == nil && place == 0 {
			return nil, denied.rejection() // nor what ran out, for the same reason
		}
		return append(events, denied), denied.rejection()
	}
	if holds {
		return append(events, &SeatBorrowed{License: c.License, Lease: l.leases.record(held).id(), ExpiresAt: c.BorrowUntil}), nil
	}
	until := l.runsUntil(now.At)
	if c.borrows() {
		until = c.BorrowUntil
	}
	return append(events, &SeatAcquired{
		License: c.License, Lease: c.Lease, Holder: c.Holder, ExpiresAt: until, Borrowed: c.borrows(),
		Overage: !occupied.has(c.Holder) && occupied.inUse >= l.Seats, Features: c.Features, Fence: l.fenceAt(t.Version + uint64(len(events)) + 1),
	}), nil
}

// fenceAt is what an event has to say of the fence of a lease that is acquired at a version of the tenant.
func (l *License) fenceAt(version uint64) uint64 {
	if l.fences == 0 {
		return 0
	}
	return l.fences + version
}

func (c AcquireSeat) borrows() bool { return !c.BorrowUntil.IsZero() }

// borrowsLonger reports whether the holder of a lease asks to have it for longer.
func (c AcquireSeat) borrowsLonger(r *leaseRecord) bool {
	return c.borrows() && millis(c.BorrowUntil) > r.expiresAt
}

// Answer implements Command.
func (c AcquireSeat) Answer(t *Tenant, events []Event) Answer {
	l := t.licenses[c.License]
	created := false
	if len(events) > 0 {
		_, created = events[len(events)-1].(*SeatAcquired)
	}
	held, holds := l.leases.heldBy(c.Holder)
	if !holds {
		return Answer{Queued: true}
	}
	return acquireAnswer(l, held, created)
}

func acquireAnswer(l *License, n leaseNumber, created bool) Answer {
	lease, license := l.leases.get(n, l.ID), l.LicenseInfo
	return Answer{Created: created, Lease: &lease, License: &license}
}

// HeartbeatSeats renews leases. Each is answered by itself: lease_not_found, fence_stale, lease_expired, lease_released,
// lease_evicted and lease_revoked refuse one lease, not the others.
//
// A lease that ran out not long ago goes on, if the policy says so and an acquire of its holder would get a seat now. One
// whose seat no longer fits ends, if the policy says so.
//
// Refused as a whole, the first that applies: tenant_not_found, license_not_found, license_arriving, tenant_suspended,
// license_suspended. On a revoked license each lease is answered lease_revoked; on one that moved, those that went along
// lease_transferred.
type HeartbeatSeats struct {
	License LicenseID
	Leases  []LeaseID // 1 or more; one named twice is renewed once
	Fence   uint64    // that the lease must have; 0: any. For one lease
}

// Decide implements Command.
func (c HeartbeatSeats) Decide(t *Tenant, now Moment) ([]Event, error) {
	l, err := t.findWhole(c.License)
	if err != nil {
		return nil, err
	}
	moved := l.Status == LicenseOver && l.Transfer != nil // then it is no matter any more whether the tenant is suspended
	if code := t.notInForce(l); code != "" && code != LicenseIsGone && !moved {
		return nil, refusal(code)
	}
	events := t.expire(now, noLimit)
	expired := expiredOf(events, l.ID)
	until := l.runsUntil(now.At)
	beat := &SeatHeartbeat{License: c.License, ExpiresAt: until}
	revived := &SeatRevived{License: c.License, ExpiresAt: until}
	evicted := &SeatEvicted{License: c.License, Cause: EvictedByShrink}
	occupied := l.without(expired)
	for _, id := range distinct(c.Leases) {
		n, ok := l.leases.find(id)
		if !ok {
			continue
		}
		switch r := l.leases.record(n); {
		case c.Fence != 0 && r.fence != c.Fence:
		case r.state == stateActive && !expired[id]:
			switch {
			case l.evicts(r, &occupied):
				evicted.Leases = append(evicted.Leases, id)
				occupied.leave(r.holder())
			// A second heartbeat in the same commit moves nothing, so it leaves nothing; a license that has ended since takes back
			// nothing that was promised; and a lease that is held offline for longer stays so.
			case r.expiresAt != millis(until) && until.After(now.At) && (!r.borrowed || r.expiresAt < millis(until)):
				beat.Leases = append(beat.Leases, id)
			}
		case l.revives(r, expired, revived.Leases, &occupied, now):
			revived.Leases = append(revived.Leases, id)
			occupied.enter(r.holder())
			if l.place(r.holder()) > 0 {
				events = append(events, &SeatDequeued{License: c.License, Holder: r.holder(), Cause: DequeuedByRevival})
			}
		}
	}
	if len(evicted.Leases) > 0 {
		events = append(events, evicted)
	}
	if len(revived.Leases) > 0 {
		events = append(events, revived)
	}
	if len(beat.Leases) > 0 {
		events = append(events, beat)
	}
	return events, nil
}

// evicts reports whether the seat of an active lease is one that no longer fits.
func (l *License) evicts(r *leaseRecord, occupied *occupancy) bool {
	return l.OnShrink == ShrinkEvictsNewest && l.evictFrom != 0 && occupied.inUse > l.Limit() && l.takenSince(r) >= l.evictFrom
}

// revives reports whether a lease that has ended, or runs out now, goes on by a heartbeat. Those in revived are about to.
func (l *License) revives(r *leaseRecord, expired map[LeaseID]bool, revived []LeaseID, occupied *occupancy, now Moment) bool {
	ended := instant(r.changesAt)
	switch {
	case l.ReviveSeconds == 0 || l.Status == LicenseOver:
		return false
	case expired[r.id()]:
		ended = now.At
	case r.state != stateExpired:
		return false
	}
	if now.At.Sub(ended) > time.Duration(l.ReviveSeconds)*time.Second {
		return false
	}
	if code, _ := l.notValid(now.At); code != "" || occupied.turn(r.holder()) != "" {
		return false
	}
	if held, ok := l.leases.heldBy(r.holder()); ok && !expired[l.leases.record(held).id()] {
		return false
	}
	return !slices.ContainsFunc(revived, func(id LeaseID) bool {
		n, _ := l.leases.find(id)
		return l.leases.record(n).holder() == r.holder()
	})
}

// Answer implements Command.
func (c HeartbeatSeats) Answer(t *Tenant, _ []Event) Answer {
	return fenced(outcomes(t.licenses[c.License], c.Leases, LeaseStateActive), c.Fence)
}

// fenced refuses, in the answer, the lease that has another fence than the caller named.
func fenced(a Answer, fence uint64) Answer {
	for i, o := range a.Leases {
		if fence != 0 && o.Lease != nil && o.Lease.Fence != fence {
			a.Leases[i].Rejected = rejectf(FenceIsStale, "The lease %s has another fence than %d: this call is of another holder, or another time.", o.ID, fence)
		}
	}
	return a
}

// ReleaseSeats gives seats back. Each lease is answered by itself; one that was released before is released. Allowed
// while suspended: giving back is never wrong.
//
// Refused as a whole, the first that applies: tenant_not_found, license_not_found, license_arriving.
type ReleaseSeats struct {
	License LicenseID
	Leases  []LeaseID // 1 or more
	Fence   uint64    // that the lease must have; 0: any. For one lease
}

// Decide implements Command.
func (c ReleaseSeats) Decide(t *Tenant, now Moment) ([]Event, error) {
	l, err := t.findWhole(c.License)
	if err != nil {
		return nil, err
	}
	events := t.expire(now, noLimit)
	expired := expiredOf(events, l.ID)
	for _, id := range distinct(c.Leases) {
		if n, ok := l.leases.active(id); ok && !expired[id] && (c.Fence == 0 || l.leases.record(n).fence == c.Fence) {
			events = append(events, &SeatReleased{License: c.License, Lease: id})
		}
	}
	return events, nil
}

// Answer implements Command.
func (c ReleaseSeats) Answer(t *Tenant, _ []Event) Answer {
	return fenced(outcomes(t.licenses[c.License], c.Leases, LeaseStateReleased), c.Fence)
}

// EvictLease takes one seat back. A lease that has ended stays as it is, and is answered as that.
//
// Refused, the first that applies: tenant_not_found, license_not_found, lease_not_found in the outcome.
type EvictLease struct {
	License LicenseID
	Lease   LeaseID
	Reason  string
}

// Decide implements Command.
func (c EvictLease) Decide(t *Tenant, now Moment) ([]Event, error) {
	l, err := t.findLicense(c.License)
	if err != nil {
		return nil, err
	}
	events := t.expire(now, noLimit)
	if _, ok := l.leases.active(c.Lease); ok && !expiredOf(events, l.ID)[c.Lease] {
		events = append(events, &SeatEvicted{License: c.License, Leases: []LeaseID{c.Lease}, Cause: EvictedByOperator, Reason: c.Reason})
	}
	return events, nil
}

// Answer implements Command.
func (c EvictLease) Answer(t *Tenant, _ []Event) Answer {
	a := outcomes(t.licenses[c.License], []LeaseID{c.Lease}, LeaseStateEvicted)
	if a.Leases[0].Lease != nil {
		a.Leases[0].Rejected = nil
	}
	return a
}

// ReleaseHolder gives back the seats of a user, or of a machine, on all licenses: at most Max, those of the first licenses.
// It is repeated until it leaves nothing.
//
// Refused: tenant_not_found.
type ReleaseHolder struct {
	User, Machine Pseudonym // one of them; the other is empty
	Max           int
}

// Decide implements Command.
func (c ReleaseHolder) Decide(t *Tenant, now Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil {
		return nil, err
	}
	events := t.expire(now, noLimit)
	released := 0
	for _, id := range slices.Sorted(maps.Keys(t.licenses)) {
		l := t.licenses[id]
		expired := expiredOf(events, id)
		for _, n := range l.leases.inOrder() {
			h, lease := l.leases.record(n).holder(), l.leases.record(n).id()
			if (h.User != c.User && h.Machine != c.Machine) || expired[lease] {
				continue
			}
			if released == c.Max {
				return events, nil
			}
			events = append(events, &SeatReleased{License: id, Lease: lease})
			released++
		}
	}
	return events, nil
}

// Answer implements Command.
func (c ReleaseHolder) Answer(t *Tenant, events []Event) Answer {
	var a Answer
	for _, event := range events {
		if e, ok := event.(*SeatReleased); ok {
			a.Leases = append(a.Leases, outcomes(t.licenses[e.License], []LeaseID{e.Lease}, LeaseStateReleased).Leases...)
		}
	}
	return a
}

// ExpireSeats ends leases that ran out, oldest deadline first, at most Max of them. Every seat command that leaves events
// does the same first, for all that are due; this one serves a tenant that nobody calls, and takes a large number in
// several commits. It also records the refusals that no event tells of yet, once they are a minute old.
type ExpireSeats struct{ Max int }

// Decide implements Command.
func (c ExpireSeats) Decide(t *Tenant, now Moment) ([]Event, error) {
	events := t.expire(now, c.Max)
	return append(events, t.denials.report(now.At, c.Max-len(events))...), nil
}

// Answer implements Command.
func (c ExpireSeats) Answer(*Tenant, []Event) Answer { return Answer{} }

const noLimit = 1 << 30

// expire returns a SeatExpired for each lease that ran out at now, at most limit. It reorders the deadline heaps, which
// are a cache: what they say of the leases does not change.
func (t *Tenant) expire(now Moment, limit int) []Event {
	type hold struct {
		license *License
		lease   leaseNumber
	}
	var events []Event
	var gone []hold
	for len(events) < limit && t.due.len() > 0 {
		l := t.due.top()
		n := l.leases.due.top()
		lease := l.leases.record(n)
		if lease.changesAt > millis(now.At) {
			break
		}
		if due := l.runsOut(lease, now); due > lease.changesAt {
			l.leases.postpone(n, due)
			t.reschedule(l)
			continue
		}
		events = append(events, &SeatExpired{License: l.ID, Lease: lease.id()})
		gone = append(gone, hold{l, n})
		l.leases.due.remove(&l.leases, n)
		t.reschedule(l)
	}
	// Back in: whether they are gone is for Apply to say.
	for _, g := range gone {
		g.license.leases.due.put(&g.license.leases, g.lease)
		t.reschedule(g.license)
	}
	return events
}

// runsOut is when an active lease ends without a further heartbeat. Its entry in the heap may be earlier: the lease was
// renewed since, or a writer took over or the license arrived from another tenant meanwhile: nobody could be heard before.
func (l *License) runsOut(lease *leaseRecord, now Moment) int64 {
	heard := now.Epoch
	if l.arrivedAt.After(heard) {
		heard = l.arrivedAt
	}
	if l.Arriving > 0 {
		heard = now.At
	}
	return max(lease.expiresAt, millis(heard.Add(l.heartbeat())))
}

// reschedule puts the license where its earliest lease belongs in the tenant's deadlines.
func (t *Tenant) reschedule(l *License) {
	if l.leases.due.len() == 0 {
		t.due.remove(byLease{}, l)
	} else {
		t.due.put(byLease{}, l)
	}
}

// notInForce says why nobody may use the license now; empty when it may be used.
func (t *Tenant) notInForce(l *License) Code {
	switch {
	case t.Status == TenantOnSuspense:
		return TenantIsOff
	case l.Status == LicenseOver && l.Transfer != nil:
		return LicenseTransferred
	case l.Status == LicenseOver:
		return LicenseIsGone
	case l.Status == LicenseOnSuspense:
		return LicenseIsOff
	}
	return ""
}

// notValid says why no seat can be acquired at a time: the license is about to move, has not started, or is over; and when that
// was, or is.
func (l *License) notValid(now time.Time) (Code, time.Time) {
	switch {
	case l.Transfer != nil:
		return LicenseTransferring, time.Time{}
	case now.Before(l.StartsAt):
		return LicenseNotStarted, l.StartsAt
	case !l.Policy.ExpiresAt.IsZero() && !now.Before(l.Policy.ExpiresAt):
		return LicenseExpired, l.Policy.ExpiresAt
	}
	return "", time.Time{}
}

// refusal is the rejection for a code of notInForce.
func refusal(code Code) *Rejection {
	switch code {
	case TenantIsOff:
		return rejectf(code, "The tenant is suspended; ask your administrator.")
	case LicenseIsGone:
		return rejectf(code, "The license was revoked; ask your administrator for a new one.")
	case LicenseTransferred:
		return rejectf(code, "The license was transferred, and has another key now; ask your administrator for it.")
	}
	return rejectf(code, "The license is suspended; ask your administrator.")
}

// rejection is what the one who was denied is told.
func (e *SeatDenied) rejection() *Rejection {
	switch e.Reason {
	case FeatureNotEntitled:
		return rejectf(e.Reason, "The license does not include the feature %q; ask your administrator.", e.Feature)
	case LicenseTransferring:
		return rejectf(e.Reason, "The license is about to be transferred: there are no new seats; ask your administrator for its new key.")
	case LicenseNotStarted:
		return rejectf(e.Reason, "The license is valid from %s.", e.ValidAt.Format(time.RFC3339))
	case LicenseExpired:
		return rejectf(e.Reason, "The license was valid until %s; ask your administrator to renew it.", e.ValidAt.Format(time.RFC3339))
	case UserLimitReached:
		return rejectf(e.Reason, "This user has %d leases already, which is the most; release one.", e.Limit)
	case MachineLimitReached:
		return rejectf(e.Reason, "This machine has %d leases already, which is the most; release one.", e.Limit)
	case BorrowNotAllowed:
		return rejectf(e.Reason, "Seats of this license cannot be borrowed; acquire one without borrow_until.")
	case BorrowTooLong:
		return rejectf(e.Reason, "A seat can be borrowed until %s at most.", e.ValidAt.Format(time.RFC3339))
	case BorrowLimitReached:
		return rejectf(e.Reason, "%d seats are borrowed already, which is the most; wait until one is returned, or work online.", e.Limit)
	case NoSeatAvailable:
		r := rejectf(NoSeatAvailable, "All %d seats are in use.", e.Seats)
		switch {
		case e.Reserved > 0:
			r.Detail = fmt.Sprintf("%d seats are in use, and the other %d are kept for other users.", e.InUse, e.Reserved)
		case e.Waiting > 0:
			r.Detail = fmt.Sprintf("%d of %d seats are in use, and %d wait for one.", e.InUse, e.Seats, e.Waiting)
		}
		r.Seats, r.InUse, r.RetryAfterSeconds = e.Seats, e.InUse, e.RetryAfterSeconds
		r.Waiting, r.EstimateSeconds = e.Waiting, e.EstimateSeconds
		return r
	}
	return refusal(e.Reason)
}

// retryAfterSeconds is when the next lease runs out unless its holder heartbeats: at least 1, at most a whole lease.
// Those that expired now do not count. Like expire it reorders the heaps only.
func (t *Tenant) retryAfterSeconds(l *License, now Moment, expired map[LeaseID]bool) int {
	wait := l.lease()
	var gone []leaseNumber
	for l.leases.due.len() > 0 {
		n := l.leases.due.top()
		lease := l.leases.record(n)
		if expired[lease.id()] {
			l.leases.due.remove(&l.leases, n)
			gone = append(gone, n)
			continue
		}
		due := l.runsOut(lease, now)
		if due <= lease.changesAt {
			wait = instant(due).Sub(now.At)
			break
		}
		l.leases.postpone(n, due)
	}
	for _, n := range gone {
		l.leases.due.put(&l.leases, n)
	}
	t.reschedule(l)
	return min(max(1, int((wait+time.Second-1)/time.Second)), max(1, l.LeaseSeconds))
}

// outcomes reads what became of each lease of a call that wished it to be in state wanted.
func outcomes(l *License, ids []LeaseID, wanted LeaseState) Answer {
	results := make([]LeaseOutcome, len(ids))
	for i, id := range ids {
		results[i].ID = id
		n, ok := l.leases.find(id)
		if !ok {
			results[i].Rejected = rejectf(LeaseNotFound, "This license has no lease %q.", id)
			continue
		}
		r := l.leases.record(n)
		results[i].State, results[i].ExpiresAt = leaseStates[r.state], instant(r.expiresAt)
		if results[i].State != wanted {
			results[i].Rejected = results[i].State.rejection()
		}
		if len(ids) == 1 {
			lease := l.leases.get(n, l.ID)
			results[i].Lease = &lease
		}
	}
	return Answer{Leases: results}
}

// expiredOf returns the leases of one license that events expire.
func expiredOf(events []Event, license LicenseID) map[LeaseID]bool {
	var expired map[LeaseID]bool
	for _, event := range events {
		if e, ok := event.(*SeatExpired); ok && e.License == license {
			if expired == nil {
				expired = map[LeaseID]bool{}
			}
			expired[e.Lease] = true
		}
	}
	return expired
}

// distinct returns ids without repetitions, in order.
func distinct(ids []LeaseID) []LeaseID {
	if len(ids) < 2 {
		return ids
	}
	seen := make(map[LeaseID]bool, len(ids))
	kept := make([]LeaseID, 0, len(ids))
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			kept = append(kept, id)
		}
	}
	return kept
}
