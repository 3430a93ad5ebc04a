package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Code is the stable code of an error, and itself an error to compare with:
//
//	if errors.Is(err, client.NoSeatAvailable) { … }
//
// A server may answer with codes that are not listed here.
type Code string

// Error returns the code.
func (c Code) Error() string { return string(c) }

// Codes of refusals and of losses.
const (
	// NoSeatAvailable: all seats are in use. Error.RetryAfter says when to ask again, Seats and InUse how full it is.
	NoSeatAvailable Code = "no_seat_available"
	// Unauthorized: the key is mistyped, cut off or not known to this ledger.
	Unauthorized Code = "unauthorized"
	// LicenseSuspended and TenantSuspended: no seats for now. Running leases run out.
	LicenseSuspended Code = "license_suspended"
	TenantSuspended  Code = "tenant_suspended"
	// LicenseRevoked: no seats of this license ever again.
	LicenseRevoked Code = "license_revoked"
	// LicenseNotStarted and LicenseExpired: it is not valid yet, or no more.
	LicenseNotStarted Code = "license_not_started"
	LicenseExpired    Code = "license_expired"
	// UserLimitReached and MachineLimitReached: this user, or this machine, has as many leases as it may.
	UserLimitReached    Code = "user_limit_reached"
	MachineLimitReached Code = "machine_limit_reached"
	// FeatureNotEntitled: the license does not entitle to one of Config.Features.
	FeatureNotEntitled Code = "feature_not_entitled"
	// BorrowNotAllowed, BorrowTooLong and BorrowLimitReached: the license lets no seat be held offline, not for so long, or has as many
	// held offline as it lets.
	BorrowNotAllowed   Code = "borrow_not_allowed"
	BorrowTooLong      Code = "borrow_too_long"
	BorrowLimitReached Code = "borrow_limit_reached"
	// RateLimited: the license key sends more than it may. It is what an Unreachable wraps when it went on for as long as was tried.
	RateLimited Code = "rate_limited"
	// Unreachable: no server gave an answer that says yes or no, for as long as was tried. Unwrap tells what was seen last.
	Unreachable Code = "unreachable"
	// AlreadyHeld: this Client holds a seat for the same Holder. Use that Lease, or set Holder.Process to tell the two apart.
	AlreadyHeld Code = "already_held"
	// Closed: the Lease was closed by the program.
	Closed Code = "closed"

	// LeaseLost is every way in which a seat is lost: errors.Is(err, LeaseLost) holds for each of the codes below.
	LeaseLost Code = "lease_lost"
	// LeaseExpired: no heartbeat was acknowledged for the length of the lease.
	LeaseExpired Code = "lease_expired"
	// LeaseReleased: somebody released the lease, by its id or as the same holder, in another process.
	LeaseReleased Code = "lease_released"
	// LeaseRevoked: the license was revoked.
	LeaseRevoked Code = "lease_revoked"
	// LeaseEvicted: an operator took the seat away, or the license has fewer seats now.
	LeaseEvicted Code = "lease_evicted"
	// LeaseTransferred: the license went to another tenant with the lease, long enough ago that this key is of no use for it any more.
	LeaseTransferred Code = "lease_transferred"
	// LeaseNotFound: the ledger has never heard of the lease, or has forgotten it long after its end.
	LeaseNotFound Code = "lease_not_found"
)

// Error is every error of this package that a program might want to tell apart.
type Error struct {
	Code   Code
	Status int    // HTTP status of a refusal; 0 when no answer was understood
	Title  string // the code in words
	Detail string // one sentence on this occurrence
	Field  string // the part of the request that was wrong
	// RetryAfter is when it may be worth asking again; 0 when nobody said.
	RetryAfter   time.Duration
	Seats, InUse int // of NoSeatAvailable
	// Of NoSeatAvailable: how many wait for a seat, the program's place among them, from 1, or 0 when it does not wait, and when it
	// gets a seat, or would if it waited, at the pace at which seats were given back last; 0 when nobody knows.
	Waiting, Position int
	Estimate          time.Duration
	RequestID         string // to find the request in the server's log

	cause error
}

// Error returns the detail, or what is known instead, and the code.
func (e *Error) Error() string {
	text := e.Detail
	if text == "" {
		text = e.Title
	}
	text = strings.TrimSuffix(text, ".")
	if e.Code == NoSeatAvailable {
		text = fmt.Sprintf("%d of %d seats are in use", e.InUse, e.Seats)
		if e.Position > 0 {
			text = e.Place()
		}
	}
	if text == "" {
		text = "refused"
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return fmt.Sprintf("%s (%s)", text, e.Code)
}

// Place says in words where in the queue the program is, such as "number 3 of 7 in the queue, about 2 min"; empty when it is in
// none.
func (e *Error) Place() string {
	if e.Position == 0 {
		return ""
	}
	place := fmt.Sprintf("number %d of %d in the queue", e.Position, e.Waiting)
	switch about := e.Estimate.Round(time.Minute); {
	case e.Estimate == 0:
		return place
	case e.Estimate < time.Minute:
		return place + ", less than a minute"
	case about < 2*time.Hour:
		return fmt.Sprintf("%s, about %d min", place, about/time.Minute)
	}
	return fmt.Sprintf("%s, about %d h", place, e.Estimate.Round(time.Hour)/time.Hour)
}

// Is reports whether target is the code of e, or LeaseLost when e is a loss.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && (code == e.Code || code == LeaseLost && e.isLoss())
}

// Unwrap returns what led to e, such as a network error; nil when there is nothing.
func (e *Error) Unwrap() error { return e.cause }

// isLoss reports whether e says that a lease has ended. Codes to come are told by their status: only for an ended lease the
// answer is 410.
func (e *Error) isLoss() bool {
	switch e.Code {
	case LeaseExpired, LeaseReleased, LeaseRevoked, LeaseEvicted, LeaseTransferred, LeaseNotFound:
		return true
	}
	return e.Status == http.StatusGone
}

// unreachable returns an error for an attempt that was neither done nor refused, as far as we know.
func unreachable(detail string, cause error) *Error {
	return &Error{Code: Unreachable, Detail: detail, cause: cause}
}

// retryAfter returns how long a server asked to wait; 0 when err is not about that.
func retryAfter(err error) time.Duration {
	var e *Error
	for errors.As(err, &e) {
		if e.RetryAfter > 0 {
			return e.RetryAfter
		}
		err = e.cause
	}
	return 0
}
