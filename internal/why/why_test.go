package why_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/why"
)

var nine = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// ledger is one tenant with one license, as its commands leave it.
type ledger struct {
	tenant *domain.Tenant
	now    time.Time
	ids    int
	t      interface{ Fatalf(string, ...any) }
}

func begin(t interface{ Fatalf(string, ...any) }, seats int, policy domain.Policy) *ledger {
	if policy.LeaseSeconds == 0 {
		policy.LeaseSeconds = 300
	}
	l := &ledger{tenant: domain.NewTenant("acme"), now: nine, t: t}
	l.do(domain.CreateTenant{Tenant: "acme"})
	l.do(domain.IssueLicense{License: "lic_1", Product: "cad", Seats: seats, Policy: policy})
	return l
}

func (l *ledger) do(c domain.Command) {
	if _, err := l.try(c); err != nil {
		l.t.Fatalf("%T: %v", c, err)
	}
}

// try returns the scene when the command is refused and leaves a denial.
func (l *ledger) try(c domain.Command) (*why.Scene, error) {
	events, err := c.Decide(l.tenant, domain.Moment{At: l.now})
	for _, e := range events {
		denied, ok := e.(*domain.SeatDenied)
		if ok && err != nil {
			return l.scene(denied), err
		}
		l.tenant.Apply(l.now, e)
	}
	return nil, err
}

func (l *ledger) scene(denied *domain.SeatDenied) *why.Scene {
	s := &why.Scene{At: l.now, Status: l.tenant.Status, License: l.tenant.License("lic_1").LicenseInfo, Denied: *denied}
	l.tenant.License("lic_1").Leases(func(lease domain.Lease) { s.Leases = append(s.Leases, lease) })
	return s
}

func (l *ledger) acquire(user string) domain.AcquireSeat {
	l.ids++
	user, machine, _ := strings.Cut(user, "@")
	return domain.AcquireSeat{License: "lic_1", Lease: domain.LeaseID(fmt.Sprint("lse_", l.ids)),
		Holder: domain.Holder{User: domain.Pseudonym(user), Machine: domain.Pseudonym("m" + machine), Process: domain.Pseudonym(fmt.Sprint(l.ids))}}
}

func (l *ledger) denied(c domain.Command) *why.Scene {
	scene, err := l.try(c)
	if scene == nil {
		l.t.Fatalf("%T is not denied: %v", c, err)
	}
	if !scene.Reproduces() {
		l.t.Fatalf("the domain does not refuse again: %+v", scene)
	}
	return scene
}

func text(ways []why.Way) string {
	var all []string
	for _, way := range ways {
		var changes []string
		for _, c := range way {
			if c.Of == why.OfLeases {
				changes = append(changes, fmt.Sprint("release ", c.Leases))
				continue
			}
			changes = append(changes, fmt.Sprintf("%s %s %v to %v", c.Of, c.Field, show(c.From), show(c.To)))
		}
		all = append(all, strings.Join(changes, " and "))
	}
	return strings.Join(all, "; or ")
}

func show(v any) any {
	if at, ok := v.(time.Time); ok {
		return at.Format("Jan 2 15:04:05.000")
	}
	return v
}

func TestEachReason(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		seats  int
		policy domain.Policy
		given  func(l *ledger)
		asked  func(c *domain.AcquireSeat)
		want   string
	}{
		"no_seat_available": {
			seats: 2, given: func(l *ledger) {
				l.do(l.acquire("ada"))
				l.now = l.now.Add(time.Minute)
				l.do(l.acquire("bob"))
			},
			want: "license seats 2 to 3; or release [lse_1]; or release [lse_2]",
		},
		"no seat for a license that shrank": {
			seats: 3, given: func(l *ledger) {
				for _, user := range []string{"ada", "bob", "cem"} {
					l.do(l.acquire(user))
				}
				l.do(domain.ChangeLicense{License: "lic_1", Seats: new(1)})
			},
			want: "license seats 1 to 4",
		},
		"no seat beyond a percentage": {
			seats: 10, policy: domain.Policy{Overage: domain.OveragePercent, OveragePercent: 20},
			given: func(l *ledger) {
				for range 12 {
					l.do(l.acquire("ada"))
				}
			},
			want: "license seats 10 to 11; or release [lse_1]; or release [lse_2]; or release [lse_3]",
		},
		"no seat but reserved ones": {
			seats: 3, policy: domain.Policy{Reservations: []domain.Reservation{{Name: "night", Users: []domain.Pseudonym{"eve"}, Seats: 2}}},
			given: func(l *ledger) { l.do(l.acquire("ada")) },
			want:  "license seats 3 to 4; or license reservations [{night [eve] 2 0}] to [{night [eve] 1 0}]; or release [lse_1]",
		},
		"no seat where users share them": {
			seats: 1, policy: domain.Policy{SeatPer: domain.SeatPerUser},
			given: func(l *ledger) { l.do(l.acquire("ada@1")); l.do(l.acquire("ada@2")) },
			want:  "license seats 1 to 2; or release [lse_1 lse_2]",
		},
		"no seats at all": {seats: 0, want: "license seats 0 to 1"},
		"user_limit_reached": {
			seats: 9, policy: domain.Policy{MaxPerUser: 1}, given: func(l *ledger) { l.do(l.acquire("zoe")); l.do(l.acquire("bob")) },
			want: "license max_per_user 1 to 2; or release [lse_1]",
		},
		"machine_limit_reached": {
			seats: 9, policy: domain.Policy{MaxPerMachine: 2}, given: func(l *ledger) {
				for _, user := range []string{"ada@9", "bob@9", "bob@8"} {
					l.do(l.acquire(user))
				}
			},
			want: "license max_per_machine 2 to 3; or release [lse_1]; or release [lse_2]",
		},
		"two limits at once": {
			seats: 1, policy: domain.Policy{MaxPerUser: 1}, given: func(l *ledger) { l.do(l.acquire("zoe")) },
			want: "release [lse_1]",
		},
		"a limit and no seat": {
			seats: 2, policy: domain.Policy{MaxPerUser: 1, Reservations: []domain.Reservation{{Name: "n", Users: []domain.Pseudonym{"eve"}, Seats: 2}}},
			given: func(l *ledger) {
				l.do(domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{Reservations: &[]domain.Reservation{}}})
				l.do(l.acquire("zoe"))
				l.do(domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{Reservations: &[]domain.Reservation{{Name: "n", Users: []domain.Pseudonym{"eve"}, Seats: 2}}}})
			},
			want: "license max_per_user 1 to 2 and license seats 2 to 4; or release [lse_1] and license seats 2 to 3; " +
				"or release [lse_1] and license reservations [{n [eve] 2 0}] to [{n [eve] 1 0}]",
		},
		"feature_not_entitled": {
			seats: 1, policy: domain.Policy{Features: []string{"cam"}}, asked: func(c *domain.AcquireSeat) { c.Features = []string{"cam", "xray"} },
			want: "license features [cam] to [cam xray]",
		},
		"license_not_started": {
			seats: 1, policy: domain.Policy{StartsAt: nine.Add(time.Hour)}, want: "license starts_at Mar 1 10:00:00.000 to Mar 1 09:00:00.000",
		},
		"license_expired": {
			seats: 1, policy: domain.Policy{ExpiresAt: nine}, want: "license expires_at Mar 1 09:00:00.000 to Mar 1 09:00:00.001",
		},
		"license_suspended": {seats: 1, given: func(l *ledger) { l.do(domain.SuspendLicense{License: "lic_1"}) }, want: "license status suspended to active"},
		"license_revoked":   {seats: 1, given: func(l *ledger) { l.do(domain.RevokeLicense{License: "lic_1"}) }, want: "license status revoked to active"},
		"tenant_suspended":  {seats: 1, given: func(l *ledger) { l.do(domain.SuspendTenant{}) }, want: "tenant status suspended to active"},
		"suspended twice": {
			seats: 1, given: func(l *ledger) { l.do(domain.SuspendTenant{}); l.do(domain.SuspendLicense{License: "lic_1"}) },
			want: "tenant status suspended to active and license status suspended to active",
		},
		"borrow_not_allowed": {
			seats: 1, asked: func(c *domain.AcquireSeat) { c.BorrowUntil = nine.Add(time.Hour) },
			want: "license borrow_days 0 to 1; or request borrow_until <nil> to <nil>",
		},
		"borrow_too_long": {
			seats: 1, policy: domain.Policy{BorrowDays: 2}, asked: func(c *domain.AcquireSeat) { c.BorrowUntil = nine.AddDate(0, 0, 5) },
			want: "request borrow_until <nil> to Mar 3 09:00:00.000",
		},
		"borrow_limit_reached": {
			seats: 5, policy: domain.Policy{BorrowDays: 2, BorrowMax: 1},
			given: func(l *ledger) {
				c := l.acquire("ada")
				c.BorrowUntil = l.now.Add(time.Hour)
				l.do(c)
			},
			asked: func(c *domain.AcquireSeat) { c.BorrowUntil = nine.AddDate(0, 0, 1) },
			want:  "license borrow_max 1 to 2; or request borrow_until <nil> to <nil>; or release [lse_1]",
		},
		"borrow limit of the low-water mark": {
			seats: 5, policy: domain.Policy{BorrowDays: 2, BorrowLowWater: 5}, asked: func(c *domain.AcquireSeat) { c.BorrowUntil = nine.AddDate(0, 0, 1) },
			want: "license borrow_low_water 5 to 4; or request borrow_until <nil> to <nil>",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := begin(t, c.seats, c.policy)
			if c.given != nil {
				c.given(l)
			}
			command := l.acquire("zoe@9")
			if c.asked != nil {
				c.asked(&command)
			}
			if got := text(l.denied(command).Ways()); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestWhatIsNotSoIsNotExplained(t *testing.T) {
	t.Parallel()
	l := begin(t, 1, domain.Policy{})
	l.do(l.acquire("ada"))
	scene := l.denied(l.acquire("bob"))
	scene.Leases = nil
	if scene.Reproduces() {
		t.Error("refused although the seat is free")
	}
}

// Every way, done by commands to the real tenant, lets the real acquire through.
func TestEveryWayIsOne(t *testing.T) {
	t.Parallel()
	ways := 0
	rapid.Check(t, func(r *rapid.T) {
		draw := func(n int) int { return rapid.IntRange(0, n).Draw(r, "draw") }
		policy := domain.Policy{
			SeatPer:    []domain.SeatPer{domain.SeatPerProcess, domain.SeatPerMachine, domain.SeatPerUser}[draw(2)],
			MaxPerUser: draw(3), MaxPerMachine: draw(3), BorrowDays: draw(2), BorrowMax: draw(2), BorrowLowWater: draw(2),
		}
		if draw(1) == 0 {
			policy.Reservations = []domain.Reservation{{Name: "a", Users: []domain.Pseudonym{"u1"}, Seats: draw(1)}, {Name: "b", Users: []domain.Pseudonym{"u2"}}}
		}
		l := begin(r, 1+draw(4), policy)
		for range 1 + draw(20) {
			c := l.acquire(fmt.Sprintf("u%d@%d", draw(3), draw(2)))
			if draw(4) == 0 {
				c.BorrowUntil = l.now.Add(time.Duration(1+draw(100)) * time.Hour)
			}
			scene, _ := l.try(c)
			if scene != nil {
				if !scene.Reproduces() {
					r.Fatalf("not refused again: %+v", scene)
				}
				if !strings.HasPrefix(string(scene.Denied.Reason), "borrow") {
					c.BorrowUntil = time.Time{} // a denial for another reason does not tell of it
				}
				for _, way := range scene.Ways() {
					ways++
					if err := l.acquireAfter(c, way); err != nil {
						r.Fatalf("%s: %v", text([]why.Way{way}), err)
					}
				}
			}
			switch draw(9) {
			case 0:
				_, _ = l.try(domain.ChangeLicense{License: "lic_1", Seats: new(draw(4))})
			case 1:
				_, _ = l.try([]domain.Command{domain.SuspendLicense{License: "lic_1"}, domain.ReinstateLicense{License: "lic_1"}, domain.SuspendTenant{}, domain.ReinstateTenant{}}[draw(3)])
			case 2:
				l.now = l.now.Add(time.Duration(draw(400)) * time.Second)
				l.do(domain.ExpireSeats{Max: 100})
			}
		}
	})
	if ways == 0 {
		t.Error("no way was ever found")
	}
}

// acquireAfter makes the changes of a way and the acquire on a copy of the tenant.
func (l *ledger) acquireAfter(c domain.AcquireSeat, way why.Way) error {
	b, err := l.tenant.AppendBinary(nil)
	if err != nil {
		return err
	}
	t := domain.NewTenant("acme")
	if err := t.UnmarshalBinary(b); err != nil {
		return err
	}
	do := func(c domain.Command) error {
		events, err := c.Decide(t, domain.Moment{At: l.now})
		for _, e := range events {
			t.Apply(l.now, e)
		}
		return err
	}
	for _, change := range way {
		var command domain.Command
		switch {
		case change.Of == why.OfLeases:
			command = domain.ReleaseSeats{License: "lic_1", Leases: change.Leases}
		case change.Of == why.OfTenant:
			command = domain.ReinstateTenant{}
		case change.Field == "status":
			command = domain.ReinstateLicense{License: "lic_1"}
		case change.Of == why.OfRequest:
			c.BorrowUntil, _ = change.To.(time.Time)
			continue
		case change.Field == "seats":
			command = domain.ChangeLicense{License: "lic_1", Seats: new(change.To.(int))}
		case change.Field == "max_per_user":
			command = domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{MaxPerUser: new(change.To.(int))}}
		case change.Field == "max_per_machine":
			command = domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{MaxPerMachine: new(change.To.(int))}}
		case change.Field == "borrow_max":
			command = domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{BorrowMax: new(change.To.(int))}}
		case change.Field == "borrow_low_water":
			command = domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{BorrowLowWater: new(change.To.(int))}}
		case change.Field == "borrow_days":
			command = domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{BorrowDays: new(change.To.(int))}}
			c.BorrowUntil = l.now.Add(time.Hour) // as short as was tried
		case change.Field == "reservations":
			command = domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{Reservations: new(slices.Clone(change.To.([]domain.Reservation)))}}
		default:
			return fmt.Errorf("unknown change %+v", change)
		}
		if err := do(command); err != nil {
			return err
		}
	}
	events, err := c.Decide(t, domain.Moment{At: l.now})
	if err == nil && len(events) == 0 {
		return fmt.Errorf("granted nothing")
	}
	return err
}
