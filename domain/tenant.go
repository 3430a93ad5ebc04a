package domain

import (
	"fmt"
	"time"
)

// TenantCreated is the first event of every tenant.
type TenantCreated struct {
	Tenant TenantID `json:"tenant"`
	Name   string   `json:"name"`
}

// TenantRenamed changes the display name.
type TenantRenamed struct {
	Name string `json:"name"`
	Was  string `json:"was"`
}

// TenantSuspended stops all licenses of the tenant: no acquire and no renewal. Running leases run out.
type TenantSuspended struct {
	Reason string `json:"reason,omitempty"`
}

// TenantReinstated ends a suspension.
type TenantReinstated struct {
	Reason string `json:"reason,omitempty"`
}

func (*TenantCreated) EventType() string    { return "ai.coditect.tenant.created.v1" }
func (*TenantRenamed) EventType() string    { return "ai.coditect.tenant.renamed.v1" }
func (*TenantSuspended) EventType() string  { return "ai.coditect.tenant.suspended.v1" }
func (*TenantReinstated) EventType() string { return "ai.coditect.tenant.reinstated.v1" }

func (*TenantCreated) EventSubject() string    { return "" }
func (*TenantRenamed) EventSubject() string    { return "" }
func (*TenantSuspended) EventSubject() string  { return "" }
func (*TenantReinstated) EventSubject() string { return "" }

// TenantStatus is active or suspended.
type TenantStatus string

// The states of a tenant.
const (
	TenantActive     TenantStatus = "active"
	TenantOnSuspense TenantStatus = "suspended"
)

// TenantInfo is what is known of a tenant apart from its licenses.
type TenantInfo struct {
	ID        TenantID
	Name      string
	Status    TenantStatus
	CreatedAt time.Time
}

// Tenant is the aggregate: what one decision must see whole. It is what its events say so far. The zero value with an
// ID is a tenant that was not created yet. It is not safe for concurrent use.
type Tenant struct {
	TenantInfo
	// Version counts the events applied: 1, 2, 3, … without gaps.
	Version uint64
	// SeatsInUse counts the seats in use of all licenses.
	SeatsInUse int
	// OnTheirWay counts the licenses that are moving to another tenant, and are not known to be there yet.
	OnTheirWay int

	licenses map[LicenseID]*License
	keys     map[KeyID]*License
	due      deadlines[*License] // licenses with leases, by the earliest lease deadline
	queues   []*License          // for whose seats somebody waits
	denials  denials

	members    map[Pseudonym]*Member // nil: none yet
	tenantKeys map[KeyID]*TenantKey  // nil: none yet
}

// NewTenant returns the state before the first event.
func NewTenant(id TenantID) *Tenant {
	return &Tenant{
		TenantInfo: TenantInfo{ID: id},
		licenses:   map[LicenseID]*License{},
		keys:       map[KeyID]*License{},
	}
}

// Exists reports whether the tenant was created.
func (t *Tenant) Exists() bool { return t.Status != "" }

// License returns a license, or nil.
func (t *Tenant) License(id LicenseID) *License { return t.licenses[id] }

// LicenseByKey returns the license that a key opens, or nil.
func (t *Tenant) LicenseByKey(id KeyID) *License { return t.keys[id] }

// Licenses calls f for each license, in no order.
func (t *Tenant) Licenses(f func(*License)) {
	for _, l := range t.licenses {
		f(l)
	}
}

// NextDue returns when ExpireSeats may have something to do next: a lease ran out, or refusals are to be recorded; false when
// there is neither. It may be early, never late.
func (t *Tenant) NextDue() (time.Time, bool) {
	next, any := t.denials.due()
	if t.due.len() > 0 {
		if lease := instant(byLease{}.deadline(t.due.top())); !any || lease.Before(next) {
			return lease, true
		}
	}
	return next, any
}

// Apply folds an event of the commit at time at into t. It never refuses: an event is a fact. It panics with an error
// when the fact breaks an invariant, because then the journal itself is wrong.
func (t *Tenant) Apply(at time.Time, event Event) {
	if !t.Exists() {
		_, may := event.(*TenantCreated)
		if t.ID == Staff {
			_, may = event.(*StaffRead)
		}
		if !may {
			broken("%s before the tenant %s was created", event.EventType(), t.ID)
		}
	}
	t.Version++
	switch e := event.(type) {
	case *TenantCreated:
		if t.Exists() || e.Tenant != t.ID {
			broken("tenant %s created again as %s", t.ID, e.Tenant)
		}
		t.Name, t.Status, t.CreatedAt = e.Name, TenantActive, at
	case *TenantRenamed:
		t.Name = e.Name
	case *TenantSuspended:
		t.Status = TenantOnSuspense
	case *TenantReinstated:
		t.Status = TenantActive
	case *LicenseIssued:
		t.applyIssued(at, e)
	case *LicenseResized:
		t.applyResized(e)
	case *PolicyChanged:
		t.applyPolicy(e.License, e.Policy)
	case *LicenseRenewed:
		t.mustLicense(e.License).Policy.ExpiresAt = e.ExpiresAt
	case *TrialConverted:
		t.mustLicense(e.License).Trial = false
	case *LicenseKeyRotated:
		t.applyKeyRotated(e)
	case *LicenseSuspended:
		t.mustLicense(e.License).Status = LicenseOnSuspense
	case *LicenseReinstated:
		t.mustLicense(e.License).Status = LicenseActive
	case *LicenseRevoked:
		t.applyRevoked(at, e)
	case *MemberInvited:
		t.applyMemberInvited(e)
	case *MemberRoleChanged:
		t.applyMemberRoleChanged(e)
	case *MemberRemoved:
		t.applyMemberRemoved(e)
	case *TenantKeyCreated:
		t.applyTenantKey(TenantKey{StoredKey: e.Key, Name: e.Name, Role: e.Role, Member: e.Member, CreatedAt: at})
	case *TenantKeyRotated:
		t.applyTenantKeyRotated(at, e)
	case *TenantKeyRevoked:
		t.mustTenantKey(e.Key).revoke()
	case *SeatAcquired:
		t.applyAcquired(at, e)
	case *SeatBorrowed:
		t.applyBorrowed(e)
	case *SeatHeartbeat:
		t.applyHeartbeat(e)
	case *SeatRevived:
		t.applyRevived(e)
	case *SeatEvicted:
		for _, id := range e.Leases {
			t.endLease(at, e.License, id, LeaseStateEvicted)
		}
	case *SeatReleased:
		t.endLease(at, e.License, e.Lease, LeaseStateReleased)
	case *SeatExpired:
		t.endLease(at, e.License, e.Lease, LeaseStateExpired)
	case *SeatQueued:
		t.applyQueued(e)
	case *SeatDequeued:
		t.applyDequeued(e)
	case *SeatDenied:
		t.mustLicense(e.License)
		t.denials.recorded(e, at)
	case *LicenseTransferStarted:
		t.applyTransferStarted(at, e)
	case *LicenseTransferCancelled:
		t.applyTransferCancelled(e)
	case *LicenseTransferCompleted:
		t.applyTransferCompleted(at, e)
	case *StaffRead:
		// Reading changes nothing.
	case *PersonForgotten:
		// Whom its pseudonym stands for is in no state.
	default:
		broken("unknown event %T", event)
	}
}

// broken panics: the journal holds a fact that cannot be.
func broken(format string, args ...any) {
	panic(fmt.Errorf("invariant broken: "+format, args...))
}

// CreateTenant makes a tenant. Refused: tenant_exists.
type CreateTenant struct {
	Tenant TenantID
	Name   string
}

// Decide implements Command.
func (c CreateTenant) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if t.Exists() {
		return nil, rejectf(TenantExists, "The tenant %q exists already.", c.Tenant)
	}
	return []Event{&TenantCreated{Tenant: c.Tenant, Name: c.Name}}, nil
}

// Answer implements Command.
func (c CreateTenant) Answer(t *Tenant, _ []Event) Answer { return tenantAnswer(t, true) }

// RenameTenant changes the display name; the present name again leaves nothing. Refused: tenant_not_found.
type RenameTenant struct{ Name string }

// Decide implements Command.
func (c RenameTenant) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil {
		return nil, err
	}
	if t.Name == c.Name {
		return nil, nil
	}
	return []Event{&TenantRenamed{Name: c.Name, Was: t.Name}}, nil
}

// Answer implements Command.
func (c RenameTenant) Answer(t *Tenant, _ []Event) Answer { return tenantAnswer(t, false) }

// SuspendTenant stops the tenant's licenses; a suspended tenant stays as it is. Refused: tenant_not_found.
type SuspendTenant struct{ Reason string }

// Decide implements Command.
func (c SuspendTenant) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil {
		return nil, err
	}
	if t.Status == TenantOnSuspense {
		return nil, nil
	}
	return []Event{&TenantSuspended{Reason: c.Reason}}, nil
}

// Answer implements Command.
func (c SuspendTenant) Answer(t *Tenant, _ []Event) Answer { return tenantAnswer(t, false) }

// ReinstateTenant ends a suspension; an active tenant stays as it is. Refused: tenant_not_found.
type ReinstateTenant struct{ Reason string }

// Decide implements Command.
func (c ReinstateTenant) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil {
		return nil, err
	}
	if t.Status == TenantActive {
		return nil, nil
	}
	return []Event{&TenantReinstated{Reason: c.Reason}}, nil
}

// Answer implements Command.
func (c ReinstateTenant) Answer(t *Tenant, _ []Event) Answer { return tenantAnswer(t, false) }

func tenantAnswer(t *Tenant, created bool) Answer {
	info := t.TenantInfo
	return Answer{Created: created, Tenant: &info}
}

// mustExist returns a rejection, as an error that is nil when the tenant exists.
func (t *Tenant) mustExist() error {
	if t.Exists() {
		return nil
	}
	return rejectf(TenantNotFound, "There is no tenant %q.", t.ID)
}
