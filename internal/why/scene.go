package why

import (
	"cmp"
	"slices"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
)

// Scene is what the decision saw.
type Scene struct {
	At     time.Time // of the decision
	Status domain.TenantStatus
	// License is the one that was asked for, and Leases are its active leases, in any order. Of the license its seats, its policy and its
	// status count.
	License domain.LicenseInfo
	Leases  []domain.Lease
	Waiting []Waiter // for a seat of it, the next one first
	Denied  domain.SeatDenied

	request domain.AcquireSeat // made of Denied
}

// Waiter is a holder in the queue.
type Waiter struct {
	Holder   domain.Holder
	Priority int
}

// Reproduces reports whether the domain refuses again, for the recorded reason and at the recorded use.
func (s Scene) Reproduces() bool {
	s.request = s.asked()
	denied, refused := s.decide(s.fold())
	return refused && denied.Reason == s.Denied.Reason && denied.Seats == s.Denied.Seats && denied.InUse == s.Denied.InUse
}

// asked returns the acquire that was refused, as far as its denial tells: features beside the one that was refused, and how long a seat
// was to be borrowed, are not in it.
func (s Scene) asked() domain.AcquireSeat {
	c := domain.AcquireSeat{License: s.License.ID, Lease: "asked", Holder: s.Denied.Holder}
	switch s.Denied.Reason {
	case domain.FeatureNotEntitled:
		c.Features = []string{s.Denied.Feature}
	case domain.BorrowNotAllowed:
		c.BorrowUntil = s.At.AddDate(0, 0, 1)
	case domain.BorrowTooLong:
		c.BorrowUntil = s.Denied.ValidAt.Add(time.Second)
	case domain.BorrowLimitReached:
		// As short as can be: what is refused is the number, not the length.
		c.BorrowUntil = s.At.Add(time.Millisecond)
	}
	return c
}

// fold returns a tenant in the state of the scene, by events that lead there: no other state is one the domain can be in.
func (s Scene) fold() *domain.Tenant {
	const tenant = "scene"
	t := domain.NewTenant(tenant)
	t.Apply(s.At, &domain.TenantCreated{Tenant: tenant})
	// Any number of leases is let in while they come: there may be more than seats by now.
	roomy := s.License.Policy
	roomy.Overage, roomy.OveragePercent = domain.OverageUnlimited, 0
	t.Apply(s.At, &domain.LicenseIssued{License: s.License.ID, Seats: s.License.Seats, Policy: roomy})
	for _, l := range slices.SortedFunc(slices.Values(s.Leases), func(a, b domain.Lease) int { return cmp.Compare(a.Fence, b.Fence) }) {
		t.Apply(l.AcquiredAt, &domain.SeatAcquired{License: s.License.ID, Lease: l.ID, Holder: l.Holder, ExpiresAt: l.ExpiresAt, Overage: l.Overage, Borrowed: l.Borrowed})
	}
	t.Apply(s.At, &domain.PolicyChanged{License: s.License.ID, Policy: s.License.Policy, Was: roomy})
	for i, w := range s.Waiting {
		t.Apply(s.At, &domain.SeatQueued{License: s.License.ID, Holder: w.Holder, Priority: w.Priority, Position: i + 1})
	}
	switch s.License.Status {
	case domain.LicenseOnSuspense:
		t.Apply(s.At, &domain.LicenseSuspended{License: s.License.ID})
	case domain.LicenseOver:
		t.Apply(s.At, &domain.LicenseRevoked{License: s.License.ID})
	}
	if s.Status == domain.TenantOnSuspense {
		t.Apply(s.At, &domain.TenantSuspended{})
	}
	return t
}

// decide lets the domain decide the request; when it refuses it says why.
func (s Scene) decide(t *domain.Tenant) (denied domain.SeatDenied, refused bool) {
	// A writer that has just begun expires nobody: whoever had run out at that moment is not in the scene any more.
	events, err := s.request.Decide(t, domain.Moment{At: s.At, Epoch: s.At})
	if err == nil {
		return denied, false
	}
	if n := len(events); n > 0 {
		if e, ok := events[n-1].(*domain.SeatDenied); ok {
			return *e, true
		}
	}
	return denied, true
}
