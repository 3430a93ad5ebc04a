package domain

import "time"

// SeatAcquired records that Holder may use one seat of License until ExpiresAt.
type SeatAcquired struct {
	License LicenseID `json:"license"`
	Lease   LeaseID   `json:"lease"`
	Holder
	ExpiresAt time.Time `json:"expires_at"` // UTC, exclusive: at this instant the seat is free
}

// SeatHeartbeat renews leases of one license until ExpiresAt: all that were renewed in one commit.
type SeatHeartbeat struct {
	License   LicenseID `json:"license"`
	Leases    []LeaseID `json:"leases"`
	ExpiresAt time.Time `json:"expires_at"`
}

// SeatReleased records that the holder gave the seat back.
type SeatReleased struct {
	License LicenseID `json:"license"`
	Lease   LeaseID   `json:"lease"`
}

// SeatExpired records that the lease ran out without a heartbeat.
type SeatExpired struct {
	License LicenseID `json:"license"`
	Lease   LeaseID   `json:"lease"`
}

// SeatDenied records a refused acquire: who asked, why it was refused and how full the license was.
type SeatDenied struct {
	License LicenseID `json:"license"`
	Holder
	Reason            Code `json:"reason"`
	Seats             int  `json:"seats"`
	InUse             int  `json:"in_use"`
	RetryAfterSeconds int  `json:"retry_after_seconds,omitzero"` // of no_seat_available
}

func (*SeatAcquired) EventType() string  { return "ai.coditect.seat.acquired.v1" }
func (*SeatHeartbeat) EventType() string { return "ai.coditect.seat.heartbeat.v1" }
func (*SeatReleased) EventType() string  { return "ai.coditect.seat.released.v1" }
func (*SeatExpired) EventType() string   { return "ai.coditect.seat.expired.v1" }
func (*SeatDenied) EventType() string    { return "ai.coditect.seat.denied.v1" }

func (e *SeatAcquired) EventSubject() string  { return string(e.Lease) }
func (e *SeatHeartbeat) EventSubject() string { return string(e.License) }
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
)

// Lease is one holder's hold on one seat, from acquire to its end.
type Lease struct {
	ID         LeaseID
	License    LicenseID
	Fence      uint64 // the tenant's version at its acquire: only grows per license
	Holder     Holder
	State      LeaseState
	AcquiredAt time.Time
	ExpiresAt  time.Time // exclusive
	EndedAt    time.Time // zero while active
}

// rejection says why an ended lease is of no use.
func (l *Lease) rejection() *Rejection {
	switch l.State {
	case LeaseStateExpired:
		return rejectf(LeaseExpired, "The lease ran out without a heartbeat; acquire a new seat.")
	case LeaseStateReleased:
		return rejectf(LeaseReleased, "The lease was released; acquire a new seat.")
	case LeaseStateRevoked:
		return rejectf(LeaseRevoked, "The license was revoked.")
	case LeaseStateActive:
	}
	return nil
}

func (t *Tenant) applyAcquired(at time.Time, e *SeatAcquired) {
	l := t.mustLicense(e.License)
	if l.InUse >= l.Seats {
		broken("seat %d of %d acquired on %s", l.InUse+1, l.Seats, l.ID)
	}
	_, known := l.leases.find(e.Lease)
	if _, holds := l.leases.heldBy(e.Holder); known || holds {
		broken("lease %s, or a second one of its holder, acquired on %s", e.Lease, l.ID)
	}
	l.leases.add(e.Lease, e.Holder, t.Version, at, e.ExpiresAt)
	l.InUse++
	t.SeatsInUse++
	t.reschedule(l)
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
	}
}

func (t *Tenant) endLease(at time.Time, license LicenseID, id LeaseID, state LeaseState) {
	l := t.mustLicense(license)
	n, ok := l.leases.active(id)
	if !ok {
		broken("%s of %s, which is not an active lease of %s", state, id, license)
	}
	// How many are remembered depends on state alone: every replay remembers the same.
	l.leases.end(n, state, at, max(endedMin, l.Seats))
	l.InUse--
	t.SeatsInUse--
	t.reschedule(l)
}

// endedMin is how many ended leases of a license are remembered at least, so that a late call hears how its lease
// ended. As many as there are seats, so that it holds even when all of them end at once.
const endedMin = 256

// AcquireSeat asks for one seat of License for Holder. A holder that already has one gets the same lease and leaves no
// events.
//
// Refused, the first that applies: tenant_not_found, license_not_found; and, recorded as SeatDenied: tenant_suspended,
// license_revoked, license_suspended, no_seat_available.
type AcquireSeat struct {
	License LicenseID
	Lease   LeaseID // new; used when a seat is granted
	Holder  Holder
}

// Decide implements Command.
func (c AcquireSeat) Decide(t *Tenant, now Moment) ([]Event, error) {
	l, err := t.findLicense(c.License)
	if err != nil {
		return nil, err
	}
	events := t.expire(now, noLimit)
	expired := expiredOf(events, l.ID)
	inUse := l.InUse - len(expired)
	denied := &SeatDenied{License: c.License, Holder: c.Holder, Reason: t.notInForce(l), Seats: l.Seats, InUse: inUse}
	if denied.Reason == "" {
		if held, ok := l.leases.heldBy(c.Holder); ok && !expired[l.leases.record(held).id()] {
			// Not even what ran out elsewhere: from such events nobody could tell later which lease the answer named.
			return nil, nil
		}
		if inUse >= l.Seats {
			denied.Reason, denied.RetryAfterSeconds = NoSeatAvailable, t.retryAfterSeconds(l, now, expired)
		}
	}
	if denied.Reason != "" {
		return append(events, denied), denied.rejection()
	}
	return append(events, &SeatAcquired{
		License: c.License, Lease: c.Lease, Holder: c.Holder, ExpiresAt: now.At.Add(l.lease()),
	}), nil
}

// Answer implements Command.
func (c AcquireSeat) Answer(t *Tenant, events []Event) Answer {
	l := t.licenses[c.License]
	created := false
	if len(events) > 0 {
		_, created = events[len(events)-1].(*SeatAcquired)
	}
	held, _ := l.leases.heldBy(c.Holder)
	return acquireAnswer(l, held, created)
}

func acquireAnswer(l *License, n leaseNumber, created bool) Answer {
	lease, license := l.leases.get(n, l.ID), l.LicenseInfo
	return Answer{Created: created, Lease: &lease, License: &license}
}

// HeartbeatSeats renews leases. Each is answered by itself: lease_not_found, lease_expired, lease_released and
// lease_revoked refuse one lease, not the others.
//
// Refused as a whole, the first that applies: tenant_not_found, license_not_found, tenant_suspended,
// license_suspended. On a revoked license each lease is answered lease_revoked.
type HeartbeatSeats struct {
	License LicenseID
	Leases  []LeaseID // 1 or more; one named twice is renewed once
}

// Decide implements Command.
func (c HeartbeatSeats) Decide(t *Tenant, now Moment) ([]Event, error) {
	l, err := t.findLicense(c.License)
	if err != nil {
		return nil, err
	}
	if code := t.notInForce(l); code != "" && code != LicenseIsGone {
		return nil, refusal(code)
	}
	events := t.expire(now, noLimit)
	expired := expiredOf(events, l.ID)
	beat := &SeatHeartbeat{License: c.License, ExpiresAt: now.At.Add(l.lease())}
	for _, id := range distinct(c.Leases) {
		n, ok := l.leases.active(id)
		// A second heartbeat in the same commit moves nothing, so it leaves nothing.
		if !ok || expired[id] || l.leases.record(n).expiresAt == millis(beat.ExpiresAt) {
			continue
		}
		beat.Leases = append(beat.Leases, id)
	}
	if len(beat.Leases) == 0 {
		return events, nil
	}
	return append(events, beat), nil
}

// Answer implements Command.
func (c HeartbeatSeats) Answer(t *Tenant, _ []Event) Answer {
	return outcomes(t.licenses[c.License], c.Leases, LeaseStateActive)
}

// ReleaseSeats gives seats back. Each lease is answered by itself; one that was released before is released. Allowed
// while suspended: giving back is never wrong.
//
// Refused as a whole, the first that applies: tenant_not_found, license_not_found.
type ReleaseSeats struct {
	License LicenseID
	Leases  []LeaseID // 1 or more
}

// Decide implements Command.
func (c ReleaseSeats) Decide(t *Tenant, now Moment) ([]Event, error) {
	l, err := t.findLicense(c.License)
	if err != nil {
		return nil, err
	}
	events := t.expire(now, noLimit)
	expired := expiredOf(events, l.ID)
	for _, id := range distinct(c.Leases) {
		if _, ok := l.leases.active(id); ok && !expired[id] {
			events = append(events, &SeatReleased{License: c.License, Lease: id})
		}
	}
	return events, nil
}

// Answer implements Command.
func (c ReleaseSeats) Answer(t *Tenant, _ []Event) Answer {
	return outcomes(t.licenses[c.License], c.Leases, LeaseStateReleased)
}

// ExpireSeats ends leases that ran out, oldest deadline first, at most Max of them. Every seat command that leaves events
// does the same first, for all that are due; this one serves a tenant that nobody calls, and takes a large number in
// several commits.
type ExpireSeats struct{ Max int }

// Decide implements Command.
func (c ExpireSeats) Decide(t *Tenant, now Moment) ([]Event, error) { return t.expire(now, c.Max), nil }

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
// renewed since, or a writer took over meanwhile.
func (l *License) runsOut(lease *leaseRecord, now Moment) int64 {
	return max(lease.expiresAt, millis(now.Epoch.Add(l.heartbeat())))
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
	case l.Status == LicenseOver:
		return LicenseIsGone
	case l.Status == LicenseOnSuspense:
		return LicenseIsOff
	}
	return ""
}

// refusal is the rejection for a code of notInForce.
func refusal(code Code) *Rejection {
	switch code {
	case TenantIsOff:
		return rejectf(code, "The tenant is suspended; ask your administrator.")
	case LicenseIsGone:
		return rejectf(code, "The license was revoked; ask your administrator for a new one.")
	}
	return rejectf(code, "The license is suspended; ask your administrator.")
}

// rejection is what the one who was denied is told.
func (e *SeatDenied) rejection() *Rejection {
	if e.Reason != NoSeatAvailable {
		return refusal(e.Reason)
	}
	r := rejectf(NoSeatAvailable, "All %d seats are in use.", e.Seats)
	r.Seats, r.InUse, r.RetryAfterSeconds = e.Seats, e.InUse, e.RetryAfterSeconds
	return r
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
	results, held := make([]LeaseOutcome, len(ids)), make([]Lease, len(ids))
	for i, id := range ids {
		results[i].ID = id
		n, ok := l.leases.find(id)
		if !ok {
			results[i].Rejected = rejectf(LeaseNotFound, "This license has no lease %q.", id)
			continue
		}
		held[i] = l.leases.get(n, l.ID)
		results[i].Lease = &held[i]
		if held[i].State != wanted {
			results[i].Rejected = held[i].rejection()
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
