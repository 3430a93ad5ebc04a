package domain

import (
	"cmp"
	"slices"
)

// A license moves to another tenant in four steps, each an event that is recorded once; whoever owns the partition of the tenant that
// has it goes on after a crash. It is usable in at most one of the two at any time:
//
//	here   LicenseTransferStarted    no new seats; it can be cancelled
//	here   LicenseRevoked            with TransferredTo, once no lease runs any more: it is over here, and there is no way back
//	there  LicenseIssued             with Transfer: the same policy, another id and key
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
	// Suspended says that it was suspended when it went, and has to be there.
	Suspended bool
}

func (t *Tenant) applyTransferStarted(e *LicenseTransferStarted) {
	l := t.mustLicense(e.License)
	if l.Status == LicenseOver || l.Transfer != nil {
		broken("transfer of %s of %s, which is over or moves already", l.ID, t.ID)
	}
	t.setTransfer(l, &Transfer{ID: e.Transfer, To: e.To, As: e.As, Key: e.Key, State: TransferDraining})
}

func (t *Tenant) applyTransferCancelled(e *LicenseTransferCancelled) {
	l := t.mustLicense(e.License)
	if l.Transfer == nil || l.Transfer.ID != e.Transfer || l.Transfer.State != TransferDraining {
		broken("transfer %s of %s cancelled, which does not drain", e.Transfer, l.ID)
	}
	t.setTransfer(l, nil)
}

func (t *Tenant) applyTransferCompleted(e *LicenseTransferCompleted) {
	l := t.mustLicense(e.License)
	if l.Transfer == nil || l.Transfer.ID != e.Transfer || l.Transfer.State != TransferGone {
		broken("transfer %s of %s completed, which is not gone", e.Transfer, l.ID)
	}
	done := *l.Transfer
	done.State = TransferCompleted
	t.setTransfer(l, &done)
}

// leave notes what becomes of the transfer of a license that is over: it is gone, or, when that was not why, nothing moves any more.
func (t *Tenant) leave(l *License, e *LicenseRevoked) {
	switch {
	case e.TransferredTo == "":
		t.setTransfer(l, nil)
		return
	case l.Transfer == nil || l.Transfer.ID != e.Transfer || l.Transfer.To != e.TransferredTo || l.Transfer.State != TransferDraining || l.InUse > 0:
		broken("license %s went to %s, but has leases or was not to go there", l.ID, e.TransferredTo)
	}
	gone := *l.Transfer
	gone.State, gone.Suspended = TransferGone, l.Status == LicenseOnSuspense
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

// StartTransfer moves a license to another tenant, as soon as no lease of it runs. One that is on its way there leaves nothing.
//
// Refused, the first that applies: tenant_not_found, license_not_found, license_already_revoked, license_transferring (to yet another tenant).
type StartTransfer struct {
	License  LicenseID
	Transfer TransferID // new
	To       TenantID   // another one, that exists
	As       LicenseID  // new
	Key      LicenseKey // new
	Reason   string
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
		return nil, nil
	}
	events := t.expire(now, noLimit)
	empty := l.without(expiredOf(events, l.ID)).inUse == 0
	events = append(events, &LicenseTransferStarted{License: c.License, Transfer: c.Transfer, To: c.To, As: c.As, Key: c.Key, Reason: c.Reason})
	if empty {
		events = append(events, &LicenseRevoked{License: c.License, TransferredTo: c.To, Transfer: c.Transfer})
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

// ReceiveLicense gives the tenant a license that comes from another one. One that it received already leaves nothing.
//
// Refused: tenant_not_found.
type ReceiveLicense struct {
	IssueLicense
	Transfer  TransferID
	Suspended bool
}

// Decide implements Command.
func (c ReceiveLicense) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil || t.licenses[c.License] != nil {
		return nil, err
	}
	events := []Event{&LicenseIssued{License: c.License, Product: c.Product, Seats: c.Seats, Policy: c.Policy, Key: c.Key, Transfer: c.Transfer}}
	if c.Suspended {
		events = append(events, &LicenseSuspended{License: c.License})
	}
	return events, nil
}

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
