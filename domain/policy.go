package domain

import (
	"math"
	"slices"
	"time"
)

// Policy is the rules of a license beside its number of seats. The zero value of each field is its default, so that an
// event from before a field was there means what it meant.
type Policy struct {
	// LeaseSeconds is how long a lease runs after its last heartbeat.
	LeaseSeconds int `json:"lease_seconds"`
	// HeartbeatSeconds is the suggested time between heartbeats; 0: a third of the lease.
	HeartbeatSeconds int `json:"heartbeat_seconds,omitzero"`
	// SeatPer is what takes one seat. Several leases of one machine, or user, then share it until the last of them ends.
	SeatPer SeatPer `json:"seat_per,omitzero"`
	// Overage is how many seats may be in use beyond the license's, and OveragePercent the number for OveragePercent: of the
	// license's seats, rounded down.
	Overage        Overage `json:"overage,omitzero"`
	OveragePercent int     `json:"overage_percent,omitzero"`
	// ReviveSeconds is how long after it ran out a heartbeat revives a lease, if an acquire would get a seat. 0: never.
	ReviveSeconds int `json:"revive_seconds,omitzero"`
	// MaxPerUser and MaxPerMachine are how many leases one user, or one machine, may have at once; 0: any number.
	MaxPerUser    int `json:"max_per_user,omitzero"`
	MaxPerMachine int `json:"max_per_machine,omitzero"`
	// Reservations keep seats for some users.
	Reservations []Reservation `json:"reservations,omitzero"`
	// BorrowDays is how long a lease may be held offline, in days; 0: not at all. BorrowMax is how many leases may be at once,
	// 0: any number; and BorrowLowWater how many seats stay online whatever is borrowed.
	BorrowDays     int `json:"borrow_days,omitzero"`
	BorrowMax      int `json:"borrow_max,omitzero"`
	BorrowLowWater int `json:"borrow_low_water,omitzero"`
	// Features are what the license entitles to: sorted, each once.
	Features []string `json:"features,omitzero"`
	// StartsAt and ExpiresAt are when seats can be acquired, UTC, the end exclusive; zero: always. Leases run on for GraceDays
	// after that.
	StartsAt  time.Time `json:"starts_at,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	GraceDays int       `json:"grace_days,omitzero"`
	// OnShrink is what happens when fewer seats remain than are in use.
	OnShrink OnShrink `json:"on_shrink,omitzero"`
	// Trial marks a trial.
	Trial bool `json:"trial,omitzero"`
}

// SeatPer is what takes one seat.
type SeatPer string

// What takes one seat.
const (
	SeatPerProcess SeatPer = "" // each lease
	SeatPerMachine SeatPer = "machine"
	SeatPerUser    SeatPer = "user"
)

// Overage is whether seats beyond those of the license can be acquired.
type Overage string

// How far a license can be overdrawn.
const (
	OverageNone      Overage = ""
	OveragePercent   Overage = "percent"
	OverageUnlimited Overage = "unlimited"
)

// OnShrink is what happens to leases when fewer seats remain than are in use.
type OnShrink string

// What happens when a license shrinks below its use.
const (
	ShrinkDrains OnShrink = "" // nobody is cut off; nobody gets a seat until enough are free
	// ShrinkEvictsNewest ends the leases of the seats that were taken last at their next heartbeat, until the rest fit.
	ShrinkEvictsNewest OnShrink = "evict_newest"
)

// equal reports whether two policies say the same.
func (p Policy) equal(q Policy) bool {
	return string(p.appendBinary(nil)) == string(q.appendBinary(nil))
}

// check refuses what contradicts itself; the range of each field is for the caller to check.
func (p Policy) check() error {
	switch {
	case p.HeartbeatSeconds >= max(2, p.LeaseSeconds):
		return rejectf(PolicyInvalid, "heartbeat_seconds must be less than lease_seconds (%d), not %d.", p.LeaseSeconds, p.HeartbeatSeconds)
	case p.Overage == OveragePercent && p.OveragePercent == 0:
		return rejectf(PolicyInvalid, "overage_percent must be given when overage is percent.")
	case p.Overage != OveragePercent && p.OveragePercent != 0:
		return rejectf(PolicyInvalid, "overage_percent can be given only when overage is percent.")
	case !p.StartsAt.IsZero() && !p.ExpiresAt.IsZero() && !p.StartsAt.Before(p.ExpiresAt):
		return rejectf(PolicyInvalid, "expires_at must be after starts_at.")
	}
	return p.checkReservations()
}

// PolicyChange changes some fields of a policy; nil leaves one as it is.
type PolicyChange struct {
	LeaseSeconds, HeartbeatSeconds *int
	SeatPer                        *SeatPer
	Overage                        *Overage
	OveragePercent                 *int
	ReviveSeconds                  *int
	MaxPerUser, MaxPerMachine      *int
	Reservations                   *[]Reservation // with users in any order
	BorrowDays                     *int
	BorrowMax, BorrowLowWater      *int
	Features                       *[]string // in any order
	StartsAt, ExpiresAt            *time.Time
	GraceDays                      *int
	OnShrink                       *OnShrink
}

// Of returns p with the change done. A percentage goes with the overage that it was for.
func (c PolicyChange) Of(p Policy) Policy {
	set(&p.LeaseSeconds, c.LeaseSeconds)
	set(&p.HeartbeatSeconds, c.HeartbeatSeconds)
	set(&p.SeatPer, c.SeatPer)
	if set(&p.Overage, c.Overage); p.Overage != OveragePercent {
		p.OveragePercent = 0
	}
	set(&p.OveragePercent, c.OveragePercent)
	set(&p.ReviveSeconds, c.ReviveSeconds)
	set(&p.MaxPerUser, c.MaxPerUser)
	set(&p.MaxPerMachine, c.MaxPerMachine)
	if c.Reservations != nil {
		p.Reservations = sortedReservations(*c.Reservations)
	}
	set(&p.BorrowDays, c.BorrowDays)
	set(&p.BorrowMax, c.BorrowMax)
	set(&p.BorrowLowWater, c.BorrowLowWater)
	if c.Features != nil {
		features := slices.Clone(*c.Features)
		slices.Sort(features)
		p.Features = slices.Compact(features)
	}
	set(&p.StartsAt, c.StartsAt)
	set(&p.ExpiresAt, c.ExpiresAt)
	set(&p.GraceDays, c.GraceDays)
	set(&p.OnShrink, c.OnShrink)
	return p
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// SuggestedHeartbeat is the time between heartbeats in seconds: a third of the lease unless the policy says otherwise, so
// that two may be lost; at least 1.
func (p *Policy) SuggestedHeartbeat() int {
	if p.HeartbeatSeconds > 0 {
		return p.HeartbeatSeconds
	}
	return max(1, p.LeaseSeconds/3)
}

func (p *Policy) lease() time.Duration { return time.Duration(p.LeaseSeconds) * time.Second }
func (p *Policy) heartbeat() time.Duration {
	return time.Duration(p.SuggestedHeartbeat()) * time.Second
}

// end is when the last lease ends; zero: never.
func (p *Policy) end() time.Time {
	if p.ExpiresAt.IsZero() {
		return time.Time{}
	}
	return p.ExpiresAt.AddDate(0, 0, p.GraceDays)
}

// runsUntil is how long a lease runs that is acquired or renewed at now.
func (p *Policy) runsUntil(now time.Time) time.Time {
	until := now.Add(p.lease())
	if end := p.end(); !end.IsZero() && end.Before(until) {
		return end
	}
	return until
}

// limit is how many seats may be in use at once, of a license that has seats of them.
func (p *Policy) limit(seats int) int {
	switch p.Overage {
	case OverageUnlimited:
		return math.MaxInt
	case OveragePercent:
		return seats + seats*p.OveragePercent/100
	}
	return seats
}

// lacks returns a feature that the license does not entitle to; empty when it does to all.
func (p *Policy) lacks(features []string) string {
	for _, f := range features {
		if _, ok := slices.BinarySearch(p.Features, f); !ok {
			return f
		}
	}
	return ""
}

// PolicyChanged changes the rules of a license.
type PolicyChanged struct {
	License LicenseID `json:"license"`
	Policy  Policy    `json:"policy"`
	Was     Policy    `json:"was"`
}

// LicenseRenewed moves the end of a license's validity.
type LicenseRenewed struct {
	License   LicenseID `json:"license"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: it has no end
	Was       time.Time `json:"was,omitzero"`
}

// TrialConverted makes a trial a paid license.
type TrialConverted struct {
	License LicenseID `json:"license"`
}

// EventType implements Event.
func (*PolicyChanged) EventType() string  { return "ai.coditect.license.policy_changed.v1" }
func (*LicenseRenewed) EventType() string { return "ai.coditect.license.renewed.v1" }
func (*TrialConverted) EventType() string { return "ai.coditect.license.trial_converted.v1" }

func (e *PolicyChanged) EventSubject() string  { return string(e.License) }
func (e *LicenseRenewed) EventSubject() string { return string(e.License) }
func (e *TrialConverted) EventSubject() string { return string(e.License) }

func (t *Tenant) applyPolicy(id LicenseID, p Policy) {
	l := t.mustLicense(id)
	l.Policy = p
	l.recount()
	t.count(l)
	l.mark()
	// How long leases go on after a take-over depends on the policy: nothing that was reckoned from the old one may stay.
	l.leases.hasten()
	t.reschedule(l)
}

// ChangeLicense changes the number of seats, or some rules, or both; what is so already leaves nothing.
//
// Refused, the first that applies: tenant_not_found, license_not_found, license_already_revoked, policy_invalid.
type ChangeLicense struct {
	License LicenseID
	Seats   *int
	Policy  PolicyChange
}

// Decide implements Command.
func (c ChangeLicense) Decide(t *Tenant, _ Moment) ([]Event, error) {
	l, err := t.changeable(c.License)
	if err != nil {
		return nil, err
	}
	var events []Event
	if policy := c.Policy.Of(l.Policy); !policy.equal(l.Policy) {
		err := policy.check()
		if err == nil && c.Policy.Reservations != nil {
			seats := l.Seats
			set(&seats, c.Seats)
			err = policy.checkReserved(seats)
		}
		if err != nil {
			return nil, err
		}
		events = append(events, &PolicyChanged{License: c.License, Policy: policy, Was: l.Policy})
	}
	if c.Seats != nil && *c.Seats != l.Seats {
		events = append(events, &LicenseResized{License: c.License, Seats: *c.Seats, Was: l.Seats})
	}
	return events, nil
}

// Answer implements Command.
func (c ChangeLicense) Answer(t *Tenant, _ []Event) Answer { return licenseAnswer(t, c.License, false) }

// RenewLicense moves the end of a license's validity, which may have passed; the present end leaves nothing.
//
// Refused, the first that applies: tenant_not_found, license_not_found, license_already_revoked, policy_invalid.
type RenewLicense struct {
	License   LicenseID
	ExpiresAt time.Time // UTC; zero: it has no end
}

// Decide implements Command.
func (c RenewLicense) Decide(t *Tenant, _ Moment) ([]Event, error) {
	l, err := t.changeable(c.License)
	if err != nil || l.Policy.ExpiresAt.Equal(c.ExpiresAt) {
		return nil, err
	}
	policy := l.Policy
	policy.ExpiresAt = c.ExpiresAt
	if err := policy.check(); err != nil {
		return nil, err
	}
	return []Event{&LicenseRenewed{License: c.License, ExpiresAt: c.ExpiresAt, Was: l.Policy.ExpiresAt}}, nil
}

// Answer implements Command.
func (c RenewLicense) Answer(t *Tenant, _ []Event) Answer { return licenseAnswer(t, c.License, false) }

// ConvertTrial makes a trial a paid license; a paid one stays as it is.
//
// Refused, the first that applies: tenant_not_found, license_not_found, license_already_revoked.
type ConvertTrial struct{ License LicenseID }

// Decide implements Command.
func (c ConvertTrial) Decide(t *Tenant, _ Moment) ([]Event, error) {
	l, err := t.changeable(c.License)
	if err != nil || !l.Trial {
		return nil, err
	}
	return []Event{&TrialConverted{License: c.License}}, nil
}

// Answer implements Command.
func (c ConvertTrial) Answer(t *Tenant, _ []Event) Answer { return licenseAnswer(t, c.License, false) }
