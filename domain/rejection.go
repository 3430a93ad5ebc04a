package domain

import "fmt"

// Code says why a command was refused. Stable: clients switch on it.
type Code string

// The codes of the domain.
const (
	TenantExists    Code = "tenant_exists"
	TenantNotFound  Code = "tenant_not_found"
	TenantIsOff     Code = "tenant_suspended"
	LicenseNotFound Code = "license_not_found"
	LicenseIsOff    Code = "license_suspended"
	LicenseIsGone   Code = "license_revoked"
	NoSeatAvailable Code = "no_seat_available"
	LeaseNotFound   Code = "lease_not_found"
	LeaseExpired    Code = "lease_expired"
	LeaseReleased   Code = "lease_released"
	LeaseRevoked    Code = "lease_revoked"
	LeaseEvicted    Code = "lease_evicted"
	// LeaseTransferred refuses a lease that went to another tenant with its license.
	LeaseTransferred Code = "lease_transferred"
	// FenceIsStale refuses a call that names a lease with the fence of another.
	FenceIsStale Code = "fence_stale"

	MemberNotFound Code = "member_not_found"
	MemberExists   Code = "member_exists"
	KeyNotFound    Code = "key_not_found"
	KeyIsOver      Code = "key_over"
	// LastOwnerKey refuses what would lock the tenant's people out.
	LastOwnerKey Code = "last_owner_key"

	FeatureNotEntitled  Code = "feature_not_entitled"
	LicenseNotStarted   Code = "license_not_started"
	LicenseExpired      Code = "license_expired"
	UserLimitReached    Code = "user_limit_reached"
	MachineLimitReached Code = "machine_limit_reached"
	BorrowNotAllowed    Code = "borrow_not_allowed"
	BorrowTooLong       Code = "borrow_too_long"
	BorrowLimitReached  Code = "borrow_limit_reached"
	// LicenseTransferring refuses seats of a license that is about to move to another tenant, and to move it elsewhere meanwhile.
	LicenseTransferring Code = "license_transferring"
	// LicenseTransferred refuses to use one that has moved.
	LicenseTransferred Code = "license_transferred"
	// LicenseArriving refuses what has to wait until all leases of a license have arrived from another tenant, or left for one.
	LicenseArriving Code = "license_arriving"
	// LeasesMovedBefore refuses to move leases a second time.
	LeasesMovedBefore Code = "leases_moved_before"
	PolicyInvalid     Code = "policy_invalid"
	// LicenseUnchangeable refuses to change a revoked license, where LicenseIsGone refuses to use one.
	LicenseUnchangeable Code = "license_already_revoked"
)

// Rejection is a command understood and refused on purpose. It is an answer, not a failure: nothing is logged.
type Rejection struct {
	Code   Code
	Detail string // one sentence for a person, with what to do next where there is something

	// Of NoSeatAvailable only.
	Seats, InUse      int
	RetryAfterSeconds int // when the next lease runs out unless its holder heartbeats, or 1 for who waits; at least 1
	Waiting           int // how many wait for a seat
	Position          int // of the holder among them, from 1; 0: it does not wait
	EstimateSeconds   int // until it gets one, or would if it waited, at the pace at which seats were given back last; 0: nobody knows
}

// Error returns the code and the detail.
func (r *Rejection) Error() string { return string(r.Code) + ": " + r.Detail }

func rejectf(code Code, format string, args ...any) *Rejection {
	return &Rejection{Code: code, Detail: fmt.Sprintf(format, args...)}
}
