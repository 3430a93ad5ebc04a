package domain

import (
	"cmp"
	"time"
)

// LicenseIssued gives the tenant a license.
type LicenseIssued struct {
	License LicenseID `json:"license"`
	Product string    `json:"product"`
	Seats   int       `json:"seats"`
	Policy
	Key LicenseKey `json:"key"`
	// Transfer is by which it came from another tenant; empty: it is new.
	Transfer TransferID `json:"transfer,omitempty"`
	// Of Transfer: no fence above Fences was given out before; and so many running leases come along, in so many seats. They are
	// acquired here one by one; until the last is, no other can be.
	Fences uint64 `json:"fences,omitzero"`
	Leases int    `json:"leases,omitzero"`
	InUse  int    `json:"in_use,omitzero"`
}

// LicenseKey is what the ledger keeps of a license key.
type LicenseKey = StoredKey

// LicenseKeyRotated gives the license another key. The one before opens it until OldUntil.
type LicenseKeyRotated struct {
	License  LicenseID  `json:"license"`
	Key      LicenseKey `json:"key"`
	OldKey   KeyID      `json:"old_key"`
	OldUntil time.Time  `json:"old_until"` // UTC, exclusive
}

// LicenseResized changes the number of seats. What happens when fewer remain than are in use, the policy says.
type LicenseResized struct {
	License LicenseID `json:"license"`
	Seats   int       `json:"seats"`
	Was     int       `json:"was"`
}

// LicenseSuspended stops acquires and renewals. Running leases run out.
type LicenseSuspended struct {
	License LicenseID `json:"license"`
	Reason  string    `json:"reason,omitempty"`
}

// LicenseReinstated ends a suspension.
type LicenseReinstated struct {
	License LicenseID `json:"license"`
	Reason  string    `json:"reason,omitempty"`
}

// LicenseRevoked ends the license for good and with it, at the same instant, all its active leases. There is no event
// per lease: the one fact ends them all.
type LicenseRevoked struct {
	License LicenseID `json:"license"`
	Reason  string    `json:"reason,omitempty"`
	// TransferredTo says that it is over here because it goes on at another tenant; empty: it is over for good.
	TransferredTo TenantID   `json:"transferred_to,omitempty"`
	Transfer      TransferID `json:"transfer,omitempty"` // of TransferredTo
	// Kept is how many leases, all that were active, go on there. Who has a key of the license from before is heard there for
	// them until OldKeyUntil.
	Kept        int       `json:"kept,omitzero"`
	OldKeyUntil time.Time `json:"old_key_until,omitzero"` // UTC, exclusive
}

// LeasesEnd is how the leases end that are active: there is no event for each.
func (e *LicenseRevoked) LeasesEnd() LeaseState {
	if e.TransferredTo != "" {
		return LeaseStateTransferred
	}
	return LeaseStateRevoked
}

func (*LicenseIssued) EventType() string     { return "ai.coditect.license.issued.v1" }
func (*LicenseResized) EventType() string    { return "ai.coditect.license.resized.v1" }
func (*LicenseSuspended) EventType() string  { return "ai.coditect.license.suspended.v1" }
func (*LicenseReinstated) EventType() string { return "ai.coditect.license.reinstated.v1" }
func (*LicenseRevoked) EventType() string    { return "ai.coditect.license.revoked.v1" }
func (*LicenseKeyRotated) EventType() string { return "ai.coditect.license.key_rotated.v1" }

func (e *LicenseIssued) EventSubject() string     { return string(e.License) }
func (e *LicenseResized) EventSubject() string    { return string(e.License) }
func (e *LicenseSuspended) EventSubject() string  { return string(e.License) }
func (e *LicenseReinstated) EventSubject() string { return string(e.License) }
func (e *LicenseRevoked) EventSubject() string    { return string(e.License) }
func (e *LicenseKeyRotated) EventSubject() string { return string(e.License) }

// LicenseStatus is active, suspended or, for good, revoked.
type LicenseStatus string

// The states of a license.
const (
	LicenseActive     LicenseStatus = "active"
	LicenseOnSuspense LicenseStatus = "suspended"
	LicenseOver       LicenseStatus = "revoked"
)

// LicenseInfo is what is known of a license apart from its leases.
type LicenseInfo struct {
	ID      LicenseID
	Tenant  TenantID
	Product string
	Seats   int // how many may be in use at once, without overage
	InUse   int // how many are; beyond what the policy allows only after a change below use
	// Borrowed is how many of the active leases are held offline.
	Borrowed int
	Policy
	Status   LicenseStatus
	IssuedAt time.Time
	Key      LicenseKey
	// OldKey opens the license too, until OldKeyUntil; zero when there is none.
	OldKey      LicenseKey
	OldKeyUntil time.Time
	// Transfer is where it goes, or went; nil: nowhere.
	Transfer *Transfer
	// ReceivedBy is the transfer by which it came from another tenant; empty: it was issued here.
	ReceivedBy TransferID
	// Arriving is how many leases are still to come along from the tenant that had it before.
	Arriving int
}

// Limit is how many seats may be in use at once, overage included.
func (l *LicenseInfo) Limit() int { return l.limit(l.Seats) }

// License is one license with its leases.
type License struct {
	LicenseInfo

	leases leases
	inDue  int32 // place in the tenant's due

	// The active leases of each user and each machine; nil when the policy does not ask.
	users, machines map[Pseudonym]tally
	// What the users of each of the policy's reservations have, and whose reservation is whose; nil when there are none.
	reserved    []reserved
	reservedFor map[Pseudonym]int
	// evictFrom is the fence from which on seats were taken that no longer fitted when the license shrank; 0: none.
	evictFrom uint64
	counted   int // of InUse, in the tenant's SeatsInUse
	// queue is who waits for a seat: by priority, highest first, and then as they came.
	queue []waiter

	// Of one that came from another tenant: no lease acquired there has a higher fence; how many seats come along, while they do;
	// when the last lease had come.
	fences    uint64
	seatsCome int
	arrivedAt time.Time
}

// Lease returns a copy of a lease that is active or was not long ago; false when it is unknown.
func (l *License) Lease(id LeaseID) (Lease, bool) {
	n, ok := l.leases.find(id)
	if !ok {
		return Lease{}, false
	}
	return l.leases.get(n, l.ID), true
}

// Leases calls f for each active lease, in no order.
func (l *License) Leases(f func(Lease)) {
	for _, n := range l.leases.due.items {
		f(l.leases.get(n, l.ID))
	}
}

// byLease orders the licenses that have active leases by the earliest deadline of one.
type byLease struct{}

func (byLease) deadline(l *License) int64 { return l.leases.deadline(l.leases.due.top()) }
func (byLease) place(l *License) *int32   { return &l.inDue }

func (t *Tenant) applyIssued(at time.Time, e *LicenseIssued) {
	if t.licenses[e.License] != nil || t.keys[e.Key.ID] != nil {
		broken("license %s or key %s of %s issued twice", e.License, e.Key.ID, t.ID)
	}
	l := &License{
		LicenseInfo: LicenseInfo{
			ID: e.License, Tenant: t.ID, Product: e.Product, Seats: e.Seats, Policy: e.Policy,
			Status: LicenseActive, IssuedAt: at, Key: e.Key, ReceivedBy: e.Transfer, Arriving: e.Leases,
		},
		inDue: absent, fences: e.Fences, seatsCome: e.InUse,
	}
	l.recount()
	t.licenses[e.License] = l
	t.keys[e.Key.ID] = l
}

func (t *Tenant) applyResized(e *LicenseResized) {
	l := t.mustLicense(e.License)
	l.Seats = e.Seats
	l.mark()
}

func (t *Tenant) applyKeyRotated(e *LicenseKeyRotated) {
	l := t.mustLicense(e.License)
	if t.keys[e.Key.ID] != nil {
		broken("key %s of %s given out twice", e.Key.ID, t.ID)
	}
	delete(t.keys, l.OldKey.ID) // at most two open a license
	l.OldKey, l.OldKeyUntil, l.Key = l.Key, e.OldUntil, e.Key
	t.keys[e.Key.ID] = l
}

func (t *Tenant) applyRevoked(at time.Time, e *LicenseRevoked) {
	l := t.mustLicense(e.License)
	t.leave(at, l, e)
	l.Status, l.Arriving = LicenseOver, 0
	// In the order of their acquires, not of the heap: which of them are remembered must be the same in every replay.
	for _, n := range l.leases.inOrder() {
		t.endLease(at, l.ID, l.leases.record(n).id(), e.LeasesEnd())
	}
}

// mustLicense returns a license that an event names.
func (t *Tenant) mustLicense(id LicenseID) *License {
	l := t.licenses[id]
	if l == nil {
		broken("event for the license %q, which %s does not have", id, t.ID)
	}
	return l
}

// IssueLicense gives the tenant a license.
//
// Refused, the first that applies: tenant_not_found, policy_invalid.
type IssueLicense struct {
	License LicenseID // new
	Product string
	Seats   int
	Policy
	Key LicenseKey // new
}

// Decide implements Command.
func (c IssueLicense) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil {
		return nil, err
	}
	if err := cmp.Or(c.Policy.check(), c.Policy.checkReserved(c.Seats)); err != nil {
		return nil, err
	}
	return []Event{&LicenseIssued{License: c.License, Product: c.Product, Seats: c.Seats, Policy: c.Policy, Key: c.Key}}, nil
}

// Answer implements Command.
func (c IssueLicense) Answer(t *Tenant, _ []Event) Answer { return licenseAnswer(t, c.License, true) }

// RotateKey gives the license another key. The present one opens it for Overlap longer; one from before that no more.
//
// Refused, the first that applies: tenant_not_found, license_not_found, license_already_revoked.
type RotateKey struct {
	License LicenseID
	Key     LicenseKey    // new
	Overlap time.Duration // 0: the present key is of no use any more
}

// Decide implements Command.
func (c RotateKey) Decide(t *Tenant, now Moment) ([]Event, error) {
	l, err := t.changeable(c.License)
	if err != nil {
		return nil, err
	}
	return []Event{&LicenseKeyRotated{License: c.License, Key: c.Key, OldKey: l.Key.ID, OldUntil: now.At.Add(c.Overlap)}}, nil
}

// Answer implements Command.
func (c RotateKey) Answer(t *Tenant, _ []Event) Answer { return licenseAnswer(t, c.License, true) }

// SuspendLicense stops a license; a suspended one stays as it is.
//
// Refused, the first that applies: tenant_not_found, license_not_found, license_already_revoked.
type SuspendLicense struct {
	License LicenseID
	Reason  string
}

// Decide implements Command.
func (c SuspendLicense) Decide(t *Tenant, _ Moment) ([]Event, error) {
	l, err := t.changeable(c.License)
	if err != nil || l.Status == LicenseOnSuspense {
		return nil, err
	}
	return []Event{&LicenseSuspended{License: c.License, Reason: c.Reason}}, nil
}

// Answer implements Command.
func (c SuspendLicense) Answer(t *Tenant, _ []Event) Answer {
	return licenseAnswer(t, c.License, false)
}

// ReinstateLicense ends a suspension; an active license stays as it is.
//
// Refused, the first that applies: tenant_not_found, license_not_found, license_already_revoked.
type ReinstateLicense struct {
	License LicenseID
	Reason  string
}

// Decide implements Command.
func (c ReinstateLicense) Decide(t *Tenant, _ Moment) ([]Event, error) {
	l, err := t.changeable(c.License)
	if err != nil || l.Status == LicenseActive {
		return nil, err
	}
	return []Event{&LicenseReinstated{License: c.License, Reason: c.Reason}}, nil
}

// Answer implements Command.
func (c ReinstateLicense) Answer(t *Tenant, _ []Event) Answer {
	return licenseAnswer(t, c.License, false)
}

// RevokeLicense ends a license and all its leases; a revoked one stays as it is.
//
// Refused, the first that applies: tenant_not_found, license_not_found.
type RevokeLicense struct {
	License LicenseID
	Reason  string
}

// Decide implements Command.
func (c RevokeLicense) Decide(t *Tenant, _ Moment) ([]Event, error) {
	l, err := t.findLicense(c.License)
	if err != nil || l.Status == LicenseOver {
		return nil, err
	}
	return []Event{&LicenseRevoked{License: c.License, Reason: c.Reason}}, nil
}

// Answer implements Command.
func (c RevokeLicense) Answer(t *Tenant, _ []Event) Answer { return licenseAnswer(t, c.License, false) }

func licenseAnswer(t *Tenant, id LicenseID, created bool) Answer {
	info := t.licenses[id].LicenseInfo
	return Answer{Created: created, License: &info}
}

func (t *Tenant) findLicense(id LicenseID) (*License, error) {
	if err := t.mustExist(); err != nil {
		return nil, err
	}
	l := t.licenses[id]
	if l == nil {
		return nil, rejectf(LicenseNotFound, "The tenant %q has no license %q.", t.ID, id)
	}
	return l, nil
}

// findWhole finds a license all of whose leases are here.
func (t *Tenant) findWhole(id LicenseID) (*License, error) {
	l, err := t.findLicense(id)
	if err == nil && l.Arriving > 0 {
		return nil, rejectf(LicenseArriving, "The license is just arriving from another tenant with its leases; try again in a moment.")
	}
	return l, err
}

// changeable finds a license that is not revoked. Refused: tenant_not_found, license_not_found, license_arriving, license_already_revoked.
func (t *Tenant) changeable(id LicenseID) (*License, error) {
	l, err := t.findWhole(id)
	if err != nil {
		return nil, err
	}
	if l.Status == LicenseOver && l.Transfer != nil {
		return nil, rejectf(LicenseUnchangeable, "The license %q was transferred to the tenant %q, where it is %q.", id, l.Transfer.To, l.Transfer.As)
	}
	if l.Status == LicenseOver {
		return nil, rejectf(LicenseUnchangeable, "The license %q was revoked; issue a new one.", id)
	}
	return l, nil
}
