package domain

import "slices"

// Reservation keeps seats of a license for some users. The seats that none keeps are for everybody, those users too.
type Reservation struct {
	Name  string      `json:"name"`
	Users []Pseudonym `json:"users"` // sorted, each once; a user is in one reservation of a license
	Seats int         `json:"seats"` // 0: none are kept, the reservation only gives its users a priority
	// Priority is the place of its users in the queue: before everybody with a lower one. Everybody else has 0.
	Priority int `json:"priority,omitzero"`
}

// checkReservations refuses what contradicts itself.
func (p Policy) checkReservations() error {
	of := map[Pseudonym]string{}
	names := map[string]bool{}
	for _, r := range p.Reservations {
		if names[r.Name] {
			return rejectf(PolicyInvalid, "There are two reservations %q.", r.Name)
		}
		names[r.Name] = true
		for _, user := range r.Users {
			if other, twice := of[user]; twice {
				return rejectf(PolicyInvalid, "A user is in the reservations %q and %q; one is all that is allowed.", other, r.Name)
			}
			of[user] = r.Name
		}
	}
	return nil
}

// checkReserved refuses to keep more seats than there are. Only who makes reservations is refused: the number of seats may
// shrink below them later, because somebody else decides that.
func (p Policy) checkReserved(seats int) error {
	reserved := 0
	for _, r := range p.Reservations {
		reserved += r.Seats
	}
	if reserved > seats {
		return rejectf(PolicyInvalid, "The reservations keep %d seats, but the license has %d.", reserved, seats)
	}
	return nil
}

// users returns all users in reservations.
func (p Policy) users() []Pseudonym {
	var all []Pseudonym
	for _, r := range p.Reservations {
		all = append(all, r.Users...)
	}
	return all
}

// reserved is what the users of one reservation have.
type reserved struct {
	leases int
	seats  map[Pseudonym]int // the leases in each seat, by the user or machine it belongs to; nil when each lease takes its own
}

// taken is how many seats the users of the reservation have part in.
func (r *reserved) taken() int {
	if r.seats == nil {
		return r.leases
	}
	return len(r.seats)
}

// recountReserved forgets what was counted, and learns whose reservation is whose.
func (l *License) recountReserved() {
	l.reserved, l.reservedFor = nil, nil
	if len(l.Reservations) == 0 {
		return
	}
	l.reserved, l.reservedFor = make([]reserved, len(l.Reservations)), map[Pseudonym]int{}
	for i, r := range l.Reservations {
		if l.SeatPer != SeatPerProcess {
			l.reserved[i].seats = map[Pseudonym]int{}
		}
		for _, user := range r.Users {
			l.reservedFor[user] = i
		}
	}
}

// shiftReserved counts leases of a holder in the reservation that it has, if any.
func (l *License) shiftReserved(h Holder, by int) {
	i, has := l.reservedFor[h.User]
	if !has {
		return
	}
	r := &l.reserved[i]
	r.leases += by
	if r.seats == nil {
		return
	}
	if r.seats[l.seatOf(h)] += by; r.seats[l.seatOf(h)] == 0 {
		delete(r.seats, l.seatOf(h))
	}
}

// seatOf is whose seat a holder's leases share; empty when each lease takes its own.
func (l *License) seatOf(h Holder) Pseudonym {
	return Pseudonym(l.SeatPer.Seat("", h))
}

// shiftReserved is License.shiftReserved for leases that are not counted there yet, or still are.
func (o *occupancy) shiftReserved(h Holder, by int) {
	i, has := o.license.reservedFor[h.User]
	if !has {
		return
	}
	if o.reserved == nil {
		o.reserved = make([]reserved, len(o.license.reserved))
	}
	r := &o.reserved[i]
	if o.license.reserved[i].seats == nil {
		r.leases += by
		return
	}
	if r.seats == nil {
		r.seats = map[Pseudonym]int{}
	}
	seat := o.license.seatOf(h)
	before := o.license.reserved[i].seats[seat] + r.seats[seat]
	r.seats[seat] += by
	switch {
	case before == 0:
		r.leases++ // here it counts seats
	case before+by == 0:
		r.leases--
	}
}

// takenOf is how many seats the users of a reservation have part in.
func (o *occupancy) takenOf(reservation int) int {
	taken := o.license.reserved[reservation].taken()
	if o.reserved != nil {
		taken += o.reserved[reservation].leases
	}
	return taken
}

// kept is how many of the free seats are kept for others than a user.
func (o *occupancy) kept(user Pseudonym) int {
	l := o.license
	mine, has := l.reservedFor[user]
	kept := 0
	for i, r := range l.Reservations {
		free := max(0, r.Seats-o.takenOf(i))
		if has && i == mine && free > 0 {
			return 0 // one of them is the user's
		}
		kept += free
	}
	return kept
}

// sortedReservations returns a copy in which the users are sorted, each once; nil when there are none.
func sortedReservations(of []Reservation) []Reservation {
	all := append([]Reservation(nil), of...)
	for i := range all {
		users := slices.Clone(all[i].Users)
		slices.Sort(users)
		all[i].Users = slices.Compact(users)
	}
	return all
}
