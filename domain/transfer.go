package domain

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A license moves to another tenant in steps, each an event that is recorded once; whoever owns the partition of the tenant that
// has it goes on after a crash. It is usable in at most one of the two at any time:
//
//	here   LicenseTransferStarted    no new seats; it can be cancelled
//	here   LicenseRevoked            with TransferredTo: it is over here, and there is no way back. Either no lease runs any more, or those
//	                                 that run are kept: they count here no longer, and what they were stays as it is
//	there  LicenseIssued             with Transfer: the same policy, another id and key
//	there  SeatAcquired              of each lease that is kept; when all are there, others can be acquired
//	here   LicenseTransferCompleted  nothing is left to do

// TransferID names one transfer: "trf_…".
type TransferID string

// LicenseTransferStarted stops acquires: the license moves to another tenant when its last lease has ended.
type LicenseTransferStarted struct {
	License  LicenseID  `json:"license"`
	Transfer TransferID `json:"transfer"`
	To       TenantID   `json:"to"`
	As       LicenseID  `json:"as"`  // its id there
	Key      LicenseKey `json:"key"` // that opens it there
	Reason   string     `json:"reason,omitempty"`
}

// LicenseTransferCancelled lets the license stay.
type LicenseTransferCancelled struct {
	License  LicenseID  `json:"license"`
	Transfer TransferID `json:"transfer"`
	Reason   string     `json:"reason,omitempty"`
}

// LicenseTransferCompleted records that the other tenant has the license.
type LicenseTransferCompleted struct {
	License  LicenseID  `json:"license"`
	Transfer TransferID `json:"transfer"`
}

func (*LicenseTransferStarted) EventType() string {
	return "ai.coditect.license.transfer_started.v1"
}
func (*LicenseTransferCancelled) EventType() string {
	return "ai.coditect.license.transfer_cancelled.v1"
}
func (*LicenseTransferCompleted) EventType() string {
	return "ai.coditect.license.transfer_completed.v1"
}

func (e *LicenseTransferStarted) EventSubject() string   { return string(e.License) }
func (e *LicenseTransferCancelled) EventSubject() string { return string(e.License) }
func (e *LicenseTransferCompleted) EventSubject() string { return string(e.License) }

// TransferState is draining, gone or, for good, completed.
type TransferState string

// The states of a transfer.
const (
	TransferDraining  TransferState = "draining"  // leases run here; it can be cancelled
	TransferGone      TransferState = "gone"      // over here, and not known to be there yet
	TransferCompleted TransferState = "completed" // it is there
)

// Transfer is where a license goes, or went. It is replaced, never changed.
type Transfer struct {
	ID    TransferID
	To    TenantID
	As    LicenseID
	Key   LicenseKey
	State TransferState
	At    time.Time // since when
	// Since it is gone: whether it was suspended when it went, and has to be there; the highest fence that can have been given out.
	Suspended bool
	Fences    uint64
	// Of one that kept its leases: how many those are, and how many seats they take; until when the old keys are good for them.
	Kept, InUse int
	OldKeyUntil time.Time
}

func (t *Tenant) applyTransferStarted(at time.Time, e *LicenseTransferStarted) {
	l := t.mustLicense(e.License)
	if l.Status == LicenseOver || l.Transfer != nil {
		broken("transfer of %s of %s, which is over or moves already", l.ID, t.ID)
	}
	t.setTransfer(l, &Transfer{ID: e.Transfer, To: e.To, As: e.As, Key: e.Key, State: TransferDraining, At: at})
}

func (t *Tenant) applyTransferCancelled(e *LicenseTransferCancelled) {
	l := t.mustLicense(e.License)
	if l.Transfer == nil || l.Transfer.ID != e.Transfer || l.Transfer.State != TransferDraining {
		broken("transfer %s of %s cancelled, which does not drain", e.Transfer, l.ID)
	}
	t.setTransfer(l, nil)
}

func (t *Tenant) applyTransferCompleted(at time.Time, e *LicenseTransferCompleted) {
	l := t.mustLicense(e.License)
	if l.Transfer == nil || l.Transfer.ID != e.Transfer || l.Transfer.State != TransferGone {
		broken("transfer %s of %s completed, which is not gone", e.Transfer, l.ID)
	}
	done := *l.Transfer
	done.State, done.At = TransferCompleted, at
	t.setTransfer(l, &done)
	l.leases.remember(l.remembered())
}

// leave notes what becomes of the transfer of a license that is over: it is gone, or, when that was not why, nothing moves any more.
func (t *Tenant) leave(at time.Time, l *License, e *LicenseRevoked) {
	switch {
	case e.TransferredTo == "":
		t.setTransfer(l, nil)
		return
	case l.Transfer == nil || l.Transfer.ID != e.Transfer || l.Transfer.To != e.TransferredTo || l.Transfer.State != TransferDraining || l.leases.due.len() != e.Kept:
		broken("license %s went to %s with %d leases, but has others or was not to go there", l.ID, e.TransferredTo, e.Kept)
	}
	gone := *l.Transfer
	gone.State, gone.At, gone.Suspended, gone.Fences = TransferGone, at, l.Status == LicenseOnSuspense, l.fences+t.Version
	gone.Kept, gone.InUse, gone.OldKeyUntil = e.Kept, l.InUse, e.OldKeyUntil
	t.setTransfer(l, &gone)
}

// setTransfer keeps count of the licenses that are on their way.
func (t *Tenant) setTransfer(l *License, to *Transfer) {
	if l.onItsWay() {
		t.OnTheirWay--
	}
	if l.Transfer = to; l.onItsWay() {
		t.OnTheirWay++
	}
}

func (l *License) onItsWay() bool { return l.Transfer != nil && l.Transfer.State != TransferCompleted }

// leaving returns the leases that go along with a license that is gone, by fence; none when they are known to be there.
func (l *License) leaving() []leaseNumber {
	if l.Transfer == nil || l.Transfer.State != TransferGone {
		return nil
	}
	return l.leases.ended[len(l.leases.ended)-l.Transfer.Kept:] // nothing ends on a license that is over
}

// mustArrive holds, where a lease comes from another tenant, that it was to come, and that there are never more seats in use than
// there may be, or were where they come from.
func (l *License) mustArrive(e *SeatAcquired) {
	if l.Arriving == 0 || e.Fence == 0 || e.Fence > l.fences {
		broken("lease %s comes to %s, which waits for none, or none with the fence %d", e.Lease, l.ID, e.Fence)
	}
	l.mustHaveRoom(e.Holder, max(l.Limit(), l.seatsCome))
}

// arrive notes that a lease has come.
func (l *License) arrive(at time.Time) {
	if l.Arriving--; l.Arriving == 0 {
		l.seatsCome, l.arrivedAt = 0, at
		l.mark()
	}
}

// Moved reports whether a lease came with the license from the tenant that had it before.
func (l *License) Moved(lease Lease) bool { return lease.Fence <= l.fences }

// MovedUntil returns where a license went with leases that its old keys are still good for at a time; nil otherwise.
func (l *License) MovedUntil(now time.Time) *Transfer {
	if l.Status != LicenseOver || l.Transfer == nil || !now.Before(l.Transfer.OldKeyUntil) {
		return nil
	}
	return l.Transfer
}

// onTheMove reports whether somebody holds a lease that is going to another tenant, or has come from one with a license of which not
// all leases have.
func (t *Tenant) onTheMove(p Pseudonym) bool {
	for _, l := range t.licenses {
		moving := l.leaving()
		if l.Arriving > 0 {
			moving = l.leases.due.items
		}
		for _, n := range moving {
			if h := l.leases.record(n).holder(); p == h.User || p == h.Machine || p == h.Process {
				return true
			}
		}
	}
	return false
}

// StartTransfer moves a license to another tenant: with its leases, at once, or as soon as none runs. One that is on its way there
// leaves nothing, unless it is to go at once now.
//
// Refused, the first that applies: tenant_not_found, license_not_found, license_arriving, license_already_revoked, license_transferring
// (to yet another tenant), leases_moved_before.
type StartTransfer struct {
	License  LicenseID
	Transfer TransferID // new
	To       TenantID   // another one, that exists
	As       LicenseID  // new
	Key      LicenseKey // new
	Reason   string
	// Keep says that running leases go along. A lease does so once: its id is to be found once at a tenant.
	Keep    bool
	Overlap time.Duration // of Keep: how long the present keys are good for those
}

// Decide implements Command.
func (c StartTransfer) Decide(t *Tenant, now Moment) ([]Event, error) {
	l, err := t.changeable(c.License)
	if err != nil {
		return nil, err
	}
	if l.Transfer != nil {
		if l.Transfer.To != c.To {
			return nil, rejectf(LicenseTransferring, "The license %q is on its way to another tenant, %q; cancel that first.", c.License, l.Transfer.To)
		}
		if !c.Keep {
			return nil, nil
		}
		c.Transfer = l.Transfer.ID
	}
	events := t.expire(now, noLimit)
	expired := expiredOf(events, l.ID)
	left := l.leases.due.len() - len(expired)
	if c.Keep && l.fences > 0 {
		for _, n := range l.leases.due.items {
			if r := l.leases.record(n); r.fence <= l.fences && !expired[r.id()] {
				return nil, rejectf(LeasesMovedBefore, "The lease %s came with the license from another tenant; a lease moves once. Wait until such leases have ended, or transfer it without them.", r.id())
			}
		}
	}
	if l.Transfer == nil {
		events = append(events, &LicenseTransferStarted{License: c.License, Transfer: c.Transfer, To: c.To, As: c.As, Key: c.Key, Reason: c.Reason})
	}
	switch {
	case left == 0:
		events = append(events, &LicenseRevoked{License: c.License, TransferredTo: c.To, Transfer: c.Transfer})
	case c.Keep:
		events = append(events, &LicenseRevoked{License: c.License, TransferredTo: c.To, Transfer: c.Transfer, Kept: left, OldKeyUntil: now.At.Add(c.Overlap)})
	}
	return events, nil
}

// Answer implements Command.
func (c StartTransfer) Answer(t *Tenant, _ []Event) Answer { return licenseAnswer(t, c.License, false) }

// CancelTransfer lets a license stay that is on its way. One that does not move leaves nothing.
//
// Refused, the first that applies: tenant_not_found, license_not_found, license_already_revoked, which one that has gone is.
type CancelTransfer struct {
	License LicenseID
	Reason  string
}

// Decide implements Command.
func (c CancelTransfer) Decide(t *Tenant, _ Moment) ([]Event, error) {
	l, err := t.changeable(c.License)
	if err != nil || l.Transfer == nil {
		return nil, err
	}
	return []Event{&LicenseTransferCancelled{License: c.License, Transfer: l.Transfer.ID, Reason: c.Reason}}, nil
}

// Answer implements Command.
func (c CancelTransfer) Answer(t *Tenant, _ []Event) Answer {
	return licenseAnswer(t, c.License, false)
}

// AdvanceTransfers does what can be done here for licenses that are on their way: it ends those that have no leases any more. Its answer
// has all that are to be handed over. Refused: tenant_not_found.
type AdvanceTransfers struct{}

// Decide implements Command.
func (AdvanceTransfers) Decide(t *Tenant, now Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil || t.OnTheirWay == 0 {
		return nil, err
	}
	events := t.expire(now, noLimit)
	var gone []Event
	for _, l := range t.moving(TransferDraining) {
		if l.without(expiredOf(events, l.ID)).inUse == 0 {
			gone = append(gone, &LicenseRevoked{License: l.ID, TransferredTo: l.Transfer.To, Transfer: l.Transfer.ID})
		}
	}
	if gone == nil {
		return nil, nil
	}
	return append(events, gone...), nil
}

// Answer implements Command.
func (AdvanceTransfers) Answer(t *Tenant, _ []Event) Answer {
	var a Answer
	for _, l := range t.moving(TransferGone) {
		a.Gone = append(a.Gone, l.LicenseInfo)
	}
	return a
}

// moving returns the licenses whose transfer is in a state, by id.
func (t *Tenant) moving(state TransferState) []*License {
	var all []*License
	for _, l := range t.licenses {
		if l.Transfer != nil && l.Transfer.State == state {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b *License) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// LeavingLeases asks for leases that go along with a license that is gone. It leaves nothing; there are none any more once they are
// known to be there.
//
// Refused, the first that applies: tenant_not_found, license_not_found.
type LeavingLeases struct {
	License LicenseID
	From    int // of them, by fence
	Max     int
}

// Decide implements Command.
func (c LeavingLeases) Decide(t *Tenant, _ Moment) ([]Event, error) {
	_, err := t.findLicense(c.License)
	return nil, err
}

// Answer implements Command.
func (c LeavingLeases) Answer(t *Tenant, _ []Event) Answer {
	l := t.licenses[c.License]
	all := l.leaving()
	var a Answer
	for _, n := range all[min(c.From, len(all)):min(c.From+c.Max, len(all))] {
		a.Leaving = append(a.Leaving, l.leases.get(n, l.ID))
	}
	return a
}

// ReceiveLicense gives the tenant a license that comes from another one. One that it received already leaves nothing.
//
// Refused: tenant_not_found.
type ReceiveLicense struct {
	IssueLicense
	Transfer      TransferID
	Suspended     bool
	Fences        uint64 // no higher one was given out there
	Leases, InUse int    // that come along with ReceiveLeases, and the seats that they take
}

// Decide implements Command.
func (c ReceiveLicense) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil || t.licenses[c.License] != nil {
		return nil, err
	}
	events := []Event{&LicenseIssued{License: c.License, Product: c.Product, Seats: c.Seats, Policy: c.Policy, Key: c.Key, Transfer: c.Transfer, Fences: c.Fences, Leases: c.Leases, InUse: c.InUse}}
	if c.Suspended {
		events = append(events, &LicenseSuspended{License: c.License})
	}
	return events, nil
}

// ReceiveLeases gives a license that comes from another tenant leases that it has there: some, in their order. Those that are here
// already, and those of a license that was revoked meanwhile, leave nothing.
//
// Refused, the first that applies: tenant_not_found, license_not_found. Any other error: those before them have not come yet.
type ReceiveLeases struct {
	License LicenseID
	Leases  []Lease // as they are there, with pseudonyms of this tenant
	Left    int     // how many come after them
}

// Decide implements Command.
func (c ReceiveLeases) Decide(t *Tenant, _ Moment) ([]Event, error) {
	l, err := t.findLicense(c.License)
	if err != nil {
		return nil, err
	}
	here := c.Left + len(c.Leases) - l.Arriving
	if here < 0 {
		return nil, fmt.Errorf("leases of %s came before others that are to come first", c.License)
	}
	var events []Event
	for _, lease := range c.Leases[min(here, len(c.Leases)):] {
		events = append(events, &SeatAcquired{
			License: c.License, Lease: lease.ID, Holder: lease.Holder, ExpiresAt: lease.ExpiresAt,
			Overage: lease.Overage, Borrowed: lease.Borrowed, Fence: lease.Fence, AcquiredAt: lease.AcquiredAt,
		})
	}
	return events, nil
}

// Answer implements Command.
func (c ReceiveLeases) Answer(t *Tenant, _ []Event) Answer { return licenseAnswer(t, c.License, false) }

// CompleteTransfer notes that the other tenant has the license. Any but one that has gone leaves nothing.
//
// Refused, the first that applies: tenant_not_found, license_not_found.
type CompleteTransfer struct {
	License  LicenseID
	Transfer TransferID
}

// Decide implements Command.
func (c CompleteTransfer) Decide(t *Tenant, _ Moment) ([]Event, error) {
	l, err := t.findLicense(c.License)
	if err != nil || l.Transfer == nil || l.Transfer.ID != c.Transfer || l.Transfer.State != TransferGone {
		return nil, err
	}
	return []Event{&LicenseTransferCompleted{License: c.License, Transfer: c.Transfer}}, nil
}

// Answer implements Command.
func (c CompleteTransfer) Answer(t *Tenant, _ []Event) Answer {
	return licenseAnswer(t, c.License, false)
}
