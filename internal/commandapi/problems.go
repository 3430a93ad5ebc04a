package commandapi

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// statuses says which HTTP status a refusal of the domain is.
var statuses = map[domain.Code]int{
	domain.TenantExists:        http.StatusConflict,
	domain.TenantNotFound:      http.StatusNotFound,
	domain.TenantIsOff:         http.StatusForbidden,
	domain.LicenseNotFound:     http.StatusNotFound,
	domain.LicenseIsOff:        http.StatusForbidden,
	domain.LicenseIsGone:       http.StatusForbidden,
	domain.LicenseUnchangeable: http.StatusConflict,
	domain.MemberNotFound:      http.StatusNotFound,
	domain.MemberExists:        http.StatusConflict,
	domain.KeyNotFound:         http.StatusNotFound,
	domain.KeyIsOver:           http.StatusConflict,
	domain.LastOwnerKey:        http.StatusConflict,
	domain.NoSeatAvailable:     http.StatusConflict,
	domain.LeaseNotFound:       http.StatusNotFound,
	domain.LeaseExpired:        http.StatusGone,
	domain.LeaseReleased:       http.StatusGone,
	domain.LeaseRevoked:        http.StatusGone,
	domain.LeaseEvicted:        http.StatusGone,
	domain.LeaseTransferred:    http.StatusGone,
	domain.FenceIsStale:        http.StatusGone,
	domain.FeatureNotEntitled:  http.StatusForbidden,
	domain.LicenseNotStarted:   http.StatusForbidden,
	domain.LicenseExpired:      http.StatusForbidden,
	domain.UserLimitReached:    http.StatusConflict,
	domain.MachineLimitReached: http.StatusConflict,
	domain.BorrowNotAllowed:    http.StatusForbidden,
	domain.BorrowTooLong:       http.StatusForbidden,
	domain.BorrowLimitReached:  http.StatusConflict,
	domain.LicenseTransferring: http.StatusConflict,
	domain.LicenseTransferred:  http.StatusForbidden,
	domain.LicenseArriving:     http.StatusServiceUnavailable,
	domain.LeasesMovedBefore:   http.StatusConflict,
	domain.PolicyInvalid:       http.StatusUnprocessableEntity,
}

// titles says in words what a refusal of the domain is.
var titles = map[domain.Code]string{
	domain.TenantExists:        "The tenant exists already",
	domain.TenantNotFound:      "No such tenant",
	domain.TenantIsOff:         "The tenant is suspended",
	domain.LicenseNotFound:     "No such license",
	domain.LicenseIsOff:        "The license is suspended",
	domain.LicenseIsGone:       "The license was revoked",
	domain.LicenseUnchangeable: "The license was revoked",
	domain.MemberNotFound:      "No such member",
	domain.MemberExists:        "The user is a member already",
	domain.KeyNotFound:         "No such key",
	domain.KeyIsOver:           "The key was revoked or replaced",
	domain.LastOwnerKey:        "It is the last owner key",
	domain.NoSeatAvailable:     "No seat is available",
	domain.LeaseNotFound:       "No such lease",
	domain.LeaseExpired:        "The lease has expired",
	domain.LeaseReleased:       "The lease was released",
	domain.LeaseRevoked:        "The license was revoked",
	domain.LeaseEvicted:        "The seat was taken back",
	domain.LeaseTransferred:    "The lease is held at another tenant",
	domain.FenceIsStale:        "The lease has another fence",
	domain.FeatureNotEntitled:  "The license does not include the feature",
	domain.LicenseNotStarted:   "The license is not valid yet",
	domain.LicenseExpired:      "The license has expired",
	domain.UserLimitReached:    "The user has as many leases as it may",
	domain.MachineLimitReached: "The machine has as many leases as it may",
	domain.BorrowNotAllowed:    "Seats of this license cannot be borrowed",
	domain.BorrowTooLong:       "A seat cannot be borrowed for so long",
	domain.BorrowLimitReached:  "As many seats as may are borrowed",
	domain.LicenseTransferring: "The license is about to be transferred",
	domain.LicenseTransferred:  "The license was transferred",
	domain.LicenseArriving:     "The license is arriving from another tenant",
	domain.LeasesMovedBefore:   "The leases came from another tenant",
	domain.PolicyInvalid:       "The policy contradicts itself",
}

// codeUnknown is the code of an outcome that nobody knows yet.
const codeUnknown = "outcome_unknown"

// problemOf returns the answer for an error of the ledger.
func problemOf(err error) *serve.Problem {
	var rejection *domain.Rejection
	var problem *serve.Problem
	unavailable := func(code, title, detail string) *serve.Problem {
		p := serve.NewProblem(http.StatusServiceUnavailable, code, title, detail)
		p.RetryAfterSeconds = 1
		return p
	}
	switch {
	case errors.As(err, &rejection):
		return problemOfRejection(rejection)
	case errors.As(err, &problem):
		return problem
	case errors.Is(err, eventstore.ErrKeyReused):
		return serve.NewProblem(http.StatusUnprocessableEntity, "idempotency_key_reused", "The Idempotency-Key was used for another request",
			"This Idempotency-Key came before with another method, path or body. Use a new key for a new request.")
	case errors.Is(err, eventstore.ErrOverloaded):
		p := unavailable("overloaded", "Too many requests at once", "Nothing was done. Try again in a moment.")
		p.RetryAfterSeconds = 1 + rand.IntN(3) // a full queue is worked off within a second or two; not all are to come back at once
		return p
	case errors.Is(err, eventstore.ErrStopping):
		return unavailable("stopping", "The service is stopping", "Nothing was done. Try again in a moment.")
	case errors.Is(err, eventstore.ErrElsewhere):
		return unavailable("no_owner", "No process owns this part of the ledger right now",
			"Nothing was done. Another process takes over within seconds; try again in a moment.")
	case errors.Is(err, eventstore.ErrUnknown):
		return unavailable(codeUnknown, "It is not known yet whether this was done",
			"Repeat the request with the same Idempotency-Key: it is done once, however often you ask.")
	}
	return serve.NewProblem(http.StatusInternalServerError, "internal", "Something went wrong here", "")
}

// nothingDone reports whether err tells a client that nothing was done.
func nothingDone(err error) bool {
	p := problemOf(err)
	return p.Status == http.StatusServiceUnavailable && p.Code != codeUnknown
}

// afterPart returns the error of a request of which some may be done already: err, unless that says that nothing was.
func afterPart(err error) error {
	if nothingDone(err) {
		return problemOf(eventstore.ErrUnknown)
	}
	return err
}

func problemOfRejection(r *domain.Rejection) *serve.Problem {
	status, ok := statuses[r.Code]
	if !ok {
		panic(fmt.Sprintf("no status for the code %s", r.Code))
	}
	p := serve.NewProblem(status, string(r.Code), titles[r.Code], r.Detail)
	if status == http.StatusServiceUnavailable {
		p.RetryAfterSeconds = 1
	}
	if r.Code == domain.NoSeatAvailable {
		p.Seats, p.InUse, p.RetryAfterSeconds = &r.Seats, &r.InUse, r.RetryAfterSeconds
		p.Waiting, p.Position, p.EstimateSeconds = &r.Waiting, r.Position, r.EstimateSeconds
	}
	return p
}

// errorFor returns the problem as the handler's error, or, where it says no more than "internal", the cause itself, so
// that it is logged.
func errorFor(p *serve.Problem, cause error) error {
	if p.Status == http.StatusInternalServerError {
		return cause
	}
	return p
}
