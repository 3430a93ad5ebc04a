package domain

import "time"

// Event is a fact about one tenant. Events are stored for ever: add fields, never rename or reuse one.
type Event interface {
	// EventType is the versioned CloudEvents type. It never changes once an event of it was stored.
	EventType() string
	// EventSubject is the license, lease or pseudonym that the event is about; empty when it is about the tenant.
	EventSubject() string
}

// NewEvent returns an empty event of the given type to decode into, or nil when the type is unknown.
func NewEvent(eventType string) Event {
	switch eventType {
	case "ai.coditect.tenant.created.v1":
		return &TenantCreated{}
	case "ai.coditect.tenant.renamed.v1":
		return &TenantRenamed{}
	case "ai.coditect.tenant.suspended.v1":
		return &TenantSuspended{}
	case "ai.coditect.tenant.reinstated.v1":
		return &TenantReinstated{}
	case "ai.coditect.license.issued.v1":
		return &LicenseIssued{}
	case "ai.coditect.license.resized.v1":
		return &LicenseResized{}
	case "ai.coditect.license.suspended.v1":
		return &LicenseSuspended{}
	case "ai.coditect.license.reinstated.v1":
		return &LicenseReinstated{}
	case "ai.coditect.license.revoked.v1":
		return &LicenseRevoked{}
	case "ai.coditect.license.policy_changed.v1":
		return &PolicyChanged{}
	case "ai.coditect.license.renewed.v1":
		return &LicenseRenewed{}
	case "ai.coditect.license.trial_converted.v1":
		return &TrialConverted{}
	case "ai.coditect.license.key_rotated.v1":
		return &LicenseKeyRotated{}
	case "ai.coditect.member.invited.v1":
		return &MemberInvited{}
	case "ai.coditect.member.role_changed.v1":
		return &MemberRoleChanged{}
	case "ai.coditect.member.removed.v1":
		return &MemberRemoved{}
	case "ai.coditect.key.created.v1":
		return &TenantKeyCreated{}
	case "ai.coditect.key.rotated.v1":
		return &TenantKeyRotated{}
	case "ai.coditect.key.revoked.v1":
		return &TenantKeyRevoked{}
	case "ai.coditect.seat.acquired.v1":
		return &SeatAcquired{}
	case "ai.coditect.seat.borrowed.v1":
		return &SeatBorrowed{}
	case "ai.coditect.seat.heartbeat.v1":
		return &SeatHeartbeat{}
	case "ai.coditect.seat.revived.v1":
		return &SeatRevived{}
	case "ai.coditect.seat.evicted.v1":
		return &SeatEvicted{}
	case "ai.coditect.seat.released.v1":
		return &SeatReleased{}
	case "ai.coditect.seat.expired.v1":
		return &SeatExpired{}
	case "ai.coditect.seat.denied.v1":
		return &SeatDenied{}
	case "ai.coditect.license.transfer_started.v1":
		return &LicenseTransferStarted{}
	case "ai.coditect.license.transfer_cancelled.v1":
		return &LicenseTransferCancelled{}
	case "ai.coditect.license.transfer_completed.v1":
		return &LicenseTransferCompleted{}
	case "ai.coditect.person.forgotten.v1":
		return &PersonForgotten{}
	case "ai.coditect.staff.read.v1":
		return &StaffRead{}
	case "ai.coditect.seat.queued.v1":
		return &SeatQueued{}
	case "ai.coditect.seat.dequeued.v1":
		return &SeatDequeued{}
	}
	return nil
}

// Moment is what a decision knows of time.
type Moment struct {
	// At is the time of the commit that will hold the events, UTC, in whole milliseconds. It never runs backwards.
	At time.Time
	// Epoch is when the present writer took over. Heartbeats could not be recorded before it, so no lease is expired
	// until one heartbeat interval of its license has passed since: no seat dies because a server did.
	Epoch time.Time
}

// Command is a wish about one tenant.
type Command interface {
	// Decide says which events the command leaves, or refuses with a *Rejection. Both may be returned: a refused acquire
	// leaves a SeatDenied. It does not change t.
	Decide(t *Tenant, now Moment) ([]Event, error)
	// Answer reads from t what the caller is told, after events, those that Decide returned, were applied. It is not
	// asked when Decide refused. The answer shares nothing with t that changes.
	Answer(t *Tenant, events []Event) Answer
}

// Answer is what a command tells its caller. The fields that fit the command are set.
type Answer struct {
	Created bool         // something new stands there; false when the command found it done already
	Tenant  *TenantInfo  // tenant commands
	License *LicenseInfo // license commands, and the license of AcquireSeat
	Member  *Member      // member commands
	Key     *TenantKey   // commands about keys of the tenant's people
	Lease   *Lease       // AcquireSeat
	Queued  bool         // AcquireSeat: there is no seat yet, and its holder waits for one
	// Gone is the licenses that AdvanceTransfers finds to be handed over, Leaving the leases of one that go along.
	Gone    []LicenseInfo
	Leaving []Lease
	// Forgotten is whose name ForgetPerson deletes; empty when nobody's.
	Forgotten Pseudonym
	Leases    []LeaseOutcome // HeartbeatSeats, ReleaseSeats and EvictLease, in the order asked; of ReleaseHolder those it released
}

// LeaseOutcome is what became of one lease of a command about leases.
type LeaseOutcome struct {
	ID        LeaseID
	State     LeaseState // empty when the lease is not known
	ExpiresAt time.Time  // zero when the lease is not known
	Rejected  *Rejection // nil when what was wanted is so
	Lease     *Lease     // all of it, where one lease was asked for; nil when it is not known
}
