package domain

import (
	"maps"
	"slices"
)

// tally is the active leases of one user or one machine.
type tally struct {
	leases int
	since  uint64 // the fence of the lease that was the first of those
}

// recount counts the leases as the policy asks, from nothing. It is for a policy that has just changed.
func (l *License) recount() {
	l.users, l.machines = nil, nil
	if l.SeatPer == SeatPerUser || l.MaxPerUser > 0 {
		l.users = map[Pseudonym]tally{}
	}
	if l.SeatPer == SeatPerMachine || l.MaxPerMachine > 0 {
		l.machines = map[Pseudonym]tally{}
	}
	l.recountReserved()
	if l.users != nil || l.machines != nil || l.reserved != nil {
		for _, n := range l.leases.inOrder() {
			r := l.leases.record(n)
			l.enter(r.holder(), r.fence)
		}
	}
	l.InUse = l.seatsTaken()
}

// enter counts a lease that is active now, leave one that is no longer.
func (l *License) enter(h Holder, fence uint64) {
	enter(l.users, h.User, fence)
	enter(l.machines, h.Machine, fence)
	l.shiftReserved(h, 1)
	l.InUse = l.seatsTaken()
}

func (l *License) leave(h Holder) {
	leave(l.users, h.User)
	leave(l.machines, h.Machine)
	l.shiftReserved(h, -1)
	l.InUse = l.seatsTaken()
}

func enter(tallies map[Pseudonym]tally, of Pseudonym, fence uint64) {
	if tallies == nil {
		return
	}
	t := tallies[of]
	if t.leases == 0 {
		t.since = fence
	}
	t.leases++
	tallies[of] = t
}

func leave(tallies map[Pseudonym]tally, of Pseudonym) {
	if tallies == nil {
		return
	}
	if t := tallies[of]; t.leases > 1 {
		t.leases--
		tallies[of] = t
		return
	}
	delete(tallies, of)
}

// Seat names the seat of a license that a lease takes: the seats in use are the different ones of its active leases.
func (s SeatPer) Seat(lease LeaseID, h Holder) string {
	switch s {
	case SeatPerUser:
		return string(h.User)
	case SeatPerMachine:
		return string(h.Machine)
	}
	return string(lease)
}

// seatsTaken counts the seats in use. It is the number of different SeatPer.Seat of the active leases.
func (l *License) seatsTaken() int {
	switch l.SeatPer {
	case SeatPerUser:
		return len(l.users)
	case SeatPerMachine:
		return len(l.machines)
	}
	return l.leases.due.len()
}

// count brings the tenant's number of seats up to date.
func (t *Tenant) count(l *License) {
	t.SeatsInUse += l.InUse - l.counted
	l.counted = l.InUse
}

// takenSince is the fence of the lease that took the seat of an active lease.
func (l *License) takenSince(r *leaseRecord) uint64 {
	switch l.SeatPer {
	case SeatPerUser:
		return l.users[r.holder().User].since
	case SeatPerMachine:
		return l.machines[r.holder().Machine].since
	}
	return r.fence
}

// mark notes, when seats or rules changed, which seats no longer fit: those that were taken last.
func (l *License) mark() {
	l.evictFrom = 0
	if l.InUse <= l.Limit() {
		return
	}
	var seats []uint64
	for _, n := range l.leases.due.items {
		seats = append(seats, l.takenSince(l.leases.record(n)))
	}
	slices.Sort(seats)
	l.evictFrom = slices.Compact(seats)[l.Limit()]
}

// occupancy is how full a license is in the middle of a decision: as its leases say, without those that have run out or
// are evicted by events that are not applied yet, and with those that are revived.
type occupancy struct {
	license         *License
	users, machines map[Pseudonym]int // leases more, or fewer, than the license counts; nil: none
	reserved        []reserved        // what its users have more, or fewer; leases are seats here. nil: nothing
	inUse, borrowed int
}

// without returns the occupancy once some leases have ended.
func (l *License) without(ended map[LeaseID]bool) occupancy {
	o := occupancy{license: l, inUse: l.InUse, borrowed: l.Borrowed}
	for id := range ended {
		if n, ok := l.leases.active(id); ok {
			o.leave(l.leases.record(n).holder())
			if l.leases.record(n).borrowed {
				o.borrowed--
			}
		}
	}
	return o
}

// clone returns a copy that goes its own way.
func (o *occupancy) clone() occupancy {
	c := *o
	c.users, c.machines, c.reserved = maps.Clone(o.users), maps.Clone(o.machines), slices.Clone(o.reserved)
	for i := range c.reserved {
		c.reserved[i].seats = maps.Clone(c.reserved[i].seats)
	}
	return c
}

// ofUser and ofMachine return how many leases one has; 0 when the policy does not ask.
func (o *occupancy) ofUser(p Pseudonym) int    { return o.license.users[p].leases + o.users[p] }
func (o *occupancy) ofMachine(p Pseudonym) int { return o.license.machines[p].leases + o.machines[p] }

// has reports whether the holder has part in a seat that is taken already.
func (o *occupancy) has(h Holder) bool {
	switch o.license.SeatPer {
	case SeatPerUser:
		return o.ofUser(h.User) > 0
	case SeatPerMachine:
		return o.ofMachine(h.Machine) > 0
	}
	return false
}

// refuses says why the holder can have no further lease now; empty when it can.
func (o *occupancy) refuses(h Holder) Code {
	l := o.license
	switch {
	case l.MaxPerUser > 0 && o.ofUser(h.User) >= l.MaxPerUser:
		return UserLimitReached
	case l.MaxPerMachine > 0 && o.ofMachine(h.Machine) >= l.MaxPerMachine:
		return MachineLimitReached
	case !o.has(h) && o.free() <= o.kept(h.User):
		return NoSeatAvailable
	}
	return ""
}

// free is how many seats can be taken.
func (o *occupancy) free() int { return max(0, o.license.Limit()-o.inUse) }

// enter adds a lease of a holder, leave takes one away.
func (o *occupancy) enter(h Holder) {
	if !o.has(h) {
		o.inUse++
	}
	o.shift(h, 1)
}

func (o *occupancy) leave(h Holder) {
	o.shift(h, -1)
	if !o.has(h) {
		o.inUse--
	}
}

func (o *occupancy) shift(h Holder, by int) {
	o.shiftReserved(h, by)
	if o.license.users != nil {
		if o.users == nil {
			o.users = map[Pseudonym]int{}
		}
		o.users[h.User] += by
	}
	if o.license.machines != nil {
		if o.machines == nil {
			o.machines = map[Pseudonym]int{}
		}
		o.machines[h.Machine] += by
	}
}
