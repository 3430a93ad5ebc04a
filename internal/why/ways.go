package why

import (
	"slices"
	"sort"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
)

// Subject is what a change is of.
type Subject string

// What can be changed.
const (
	OfTenant  Subject = "tenant"
	OfLicense Subject = "license" // a field as in its policy, or seats, or status
	OfRequest Subject = "request" // what was asked for
	OfLeases  Subject = "leases"  // they end before; Leases names them
)

// Change is one thing that would have been different.
type Change struct {
	Of       Subject
	Field    string           // of the tenant, the license or the request
	From, To any              // its value then, and the one that would have done; nil: none
	Leases   []domain.LeaseID // that share one seat
}

// Way is changes that together would have let the acquire through.
type Way []Change

const (
	// changesMax is the longest way: who is refused for more reasons than that has to begin with one of them.
	changesMax = 3
	// releasesMax is how many seats are tried to be given back earlier, those first that would run out first.
	releasesMax = 3
	seatsMax    = 1_000_000
	// effortMax is how many leases are folded at most before it gives up: some seconds' worth.
	effortMax = 5_000_000
)

// Ways returns what would have let the acquire through: all that it finds of the fewest changes, those of the license before others. It
// is empty when nothing that it tries would have. The scene has to reproduce.
func (s Scene) Ways() []Way {
	s.request = s.asked()
	effort := effortMax
	level := []begun{{scene: s}}
	for range changesMax {
		var ways []Way
		var next []begun
		for _, b := range level {
			t := b.scene.fold()
			denied, _ := b.scene.decide(t)
			for _, try := range b.scene.tries(denied, t) {
				if effort -= 1 + len(b.scene.Leases); effort < 0 {
					return ways
				}
				way := append(slices.Clone(b.way), try.Change)
				if _, refused := try.scene.decide(try.scene.fold()); !refused {
					ways = append(ways, way)
				} else if !slices.ContainsFunc(b.way, try.repeats) {
					next = append(next, begun{try.scene, way})
				}
			}
		}
		if len(ways) > 0 {
			return ways
		}
		level = next
	}
	return nil
}

// begun is a scene with changes that did not do yet.
type begun struct {
	scene Scene
	way   Way
}

func (c Change) repeats(other Change) bool {
	return c.Of == other.Of && c.Field == other.Field && c.Of != OfLeases
}

// try is a change and the scene with it.
type try struct {
	Change
	scene Scene
}

// tries returns the changes that take the present refusal away. t is the fold of s.
func (s Scene) tries(denied domain.SeatDenied, t *domain.Tenant) []try {
	switch denied.Reason {
	case domain.TenantIsOff:
		return []try{s.with(Change{Of: OfTenant, Field: "status", From: s.Status, To: domain.TenantActive}, func(s *Scene) { s.Status = domain.TenantActive })}
	case domain.LicenseIsOff, domain.LicenseIsGone, domain.LicenseTransferred:
		return []try{s.with(Change{Of: OfLicense, Field: "status", From: s.License.Status, To: domain.LicenseActive}, func(s *Scene) { s.License.Status = domain.LicenseActive })}
	case domain.FeatureNotEntitled:
		more := append(slices.Clone(s.License.Features), denied.Feature)
		slices.Sort(more)
		return []try{s.license("features", s.License.Features, more, func(l *domain.LicenseInfo) { l.Features = more })}
	case domain.LicenseNotStarted:
		return []try{s.license("starts_at", s.License.StartsAt, s.At, func(l *domain.LicenseInfo) { l.StartsAt = s.At })}
	case domain.LicenseExpired:
		later := s.At.Add(time.Millisecond) // the end is exclusive
		return []try{s.license("expires_at", s.License.Policy.ExpiresAt, later, func(l *domain.LicenseInfo) { l.Policy.ExpiresAt = later })}
	case domain.BorrowNotAllowed:
		return []try{
			s.license("borrow_days", s.License.BorrowDays, 1, func(l *domain.LicenseInfo) { l.BorrowDays = 1 }),
			s.borrowing(time.Time{}),
		}
	case domain.BorrowTooLong:
		return []try{s.borrowing(denied.ValidAt)}
	case domain.BorrowLimitReached:
		return s.borrowMore(t.License(s.License.ID).Borrowed)
	case domain.UserLimitReached:
		mine := func(l domain.Lease) bool { return l.Holder.User == s.request.Holder.User }
		return append([]try{s.limit("max_per_user", func(l *domain.LicenseInfo) *int { return &l.MaxPerUser }, mine)}, s.releases(mine)...)
	case domain.MachineLimitReached:
		mine := func(l domain.Lease) bool { return l.Holder.Machine == s.request.Holder.Machine }
		return append([]try{s.limit("max_per_machine", func(l *domain.LicenseInfo) *int { return &l.MaxPerMachine }, mine)}, s.releases(mine)...)
	case domain.NoSeatAvailable:
		return slices.Concat(s.moreSeats(t), s.smallerReservations(), s.releases(func(domain.Lease) bool { return true }))
	}
	return nil
}

func (s Scene) with(c Change, change func(*Scene)) try {
	change(&s)
	return try{c, s}
}

func (s Scene) license(field string, from, to any, change func(*domain.LicenseInfo)) try {
	if at, ok := from.(time.Time); ok && at.IsZero() {
		from = nil
	}
	return s.with(Change{Of: OfLicense, Field: field, From: from, To: to}, func(s *Scene) { change(&s.License) })
}

// limit raises a limit of leases to what one more of those that count needs.
func (s Scene) limit(field string, of func(*domain.LicenseInfo) *int, counts func(domain.Lease) bool) try {
	need := 1
	for _, l := range s.Leases {
		if counts(l) {
			need++
		}
	}
	return s.license(field, *of(&s.License), need, func(l *domain.LicenseInfo) { *of(l) = need })
}

// borrowing asks for a seat until another time, or online when there is none. Until when it was asked for is not known.
func (s Scene) borrowing(until time.Time) try {
	c := Change{Of: OfRequest, Field: "borrow_until"}
	if !until.IsZero() {
		c.To = until
	}
	return s.with(c, func(s *Scene) { s.request.BorrowUntil = until })
}

func (s Scene) borrowMore(borrowed int) []try {
	var tries []try
	if l := s.License; l.BorrowMax > 0 && borrowed >= l.BorrowMax {
		tries = append(tries, s.license("borrow_max", l.BorrowMax, borrowed+1, func(l *domain.LicenseInfo) { l.BorrowMax = borrowed + 1 }))
	}
	if l := s.License; l.BorrowLowWater > 0 && borrowed >= l.Seats-l.BorrowLowWater {
		lower := max(0, l.Seats-borrowed-1)
		tries = append(tries, s.license("borrow_low_water", l.BorrowLowWater, lower, func(l *domain.LicenseInfo) { l.BorrowLowWater = lower }))
	}
	tries = append(tries, s.borrowing(time.Time{}))
	return append(tries, s.releases(func(l domain.Lease) bool { return l.Borrowed })...)
}

// moreSeats finds the least number of seats that leaves one for who asked. t is the fold of s, and is spoiled.
func (s Scene) moreSeats(t *domain.Tenant) []try {
	enough := func(seats int) bool {
		t.Apply(s.At, &domain.LicenseResized{License: s.License.ID, Seats: seats})
		denied, refused := s.decide(t)
		return !refused || denied.Reason != domain.NoSeatAvailable
	}
	more := 1 + sort.Search(seatsMax-s.License.Seats, func(n int) bool { return enough(s.License.Seats + 1 + n) })
	seats := s.License.Seats + more
	if seats > seatsMax {
		return nil
	}
	return []try{s.license("seats", s.License.Seats, seats, func(l *domain.LicenseInfo) { l.Seats = seats })}
}

// smallerReservations keeps one seat fewer for the users of one reservation.
func (s Scene) smallerReservations() []try {
	var tries []try
	for i, r := range s.License.Reservations {
		if r.Seats == 0 || slices.Contains(r.Users, s.request.Holder.User) {
			continue
		}
		fewer := slices.Clone(s.License.Reservations)
		fewer[i].Seats--
		tries = append(tries, s.license("reservations", s.License.Reservations, fewer, func(l *domain.LicenseInfo) { l.Reservations = fewer }))
	}
	return tries
}

// releases gives seats back earlier: one of those that hold leases that count, in the order in which they would run out.
func (s Scene) releases(counts func(domain.Lease) bool) []try {
	type seat struct {
		leases []domain.LeaseID
		until  time.Time
	}
	seats := map[any]*seat{}
	var order []*seat
	for _, l := range s.Leases {
		if !counts(l) {
			continue
		}
		var of any = l.ID
		switch s.License.SeatPer {
		case domain.SeatPerUser:
			of = l.Holder.User
		case domain.SeatPerMachine:
			of = l.Holder.Machine
		}
		if s.request.Holder.User == l.Holder.User && s.License.MaxPerUser > 0 || s.request.Holder.Machine == l.Holder.Machine && s.License.MaxPerMachine > 0 {
			of = l.ID // limits count leases
		}
		if seats[of] == nil {
			seats[of] = &seat{}
			order = append(order, seats[of])
		}
		seats[of].leases = append(seats[of].leases, l.ID)
		if l.ExpiresAt.After(seats[of].until) {
			seats[of].until = l.ExpiresAt
		}
	}
	slices.SortStableFunc(order, func(a, b *seat) int { return a.until.Compare(b.until) })
	var tries []try
	for _, gone := range order[:min(len(order), releasesMax)] {
		tries = append(tries, s.with(Change{Of: OfLeases, Leases: gone.leases}, func(s *Scene) {
			s.Leases = slices.DeleteFunc(slices.Clone(s.Leases), func(l domain.Lease) bool { return slices.Contains(gone.leases, l.ID) })
		}))
	}
	return tries
}
