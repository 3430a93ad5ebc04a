package linear

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// Kind is what a client asked for.
type Kind string

// The calls, and what stands for those that nobody heard an answer to.
const (
	Acquire   Kind = "acquire"
	Heartbeat Kind = "heartbeat"
	Release   Kind = "release"
	// LostAcquire is an acquire whose client gave up and never names that holder again: from then on it may take a seat.
	LostAcquire Kind = "lost acquire"
	// LostRelease is a release whose client gave up and never names that lease again: from then on it may be over.
	LostRelease Kind = "lost release"
)

// Outcome is what a client was told.
type Outcome string

// The answers.
const (
	Granted      Outcome = "granted"        // 201: a new lease
	Held         Outcome = "held"           // 200: the lease that the holder has, perhaps from an attempt that was not answered
	Denied       Outcome = "denied"         // 409 no_seat_available
	Renewed      Outcome = "renewed"        // 200
	Released     Outcome = "released"       // 200, also when it was released before
	WasReleased  Outcome = "lease_released" // 410
	WasExpired   Outcome = "lease_expired"  // 410
	UnknownLease Outcome = "lease_not_found"
	None         Outcome = "no answer" // of what is lost
)

// Call is a request. Times are in milliseconds since 1970.
type Call struct {
	Kind   Kind
	Holder string // of an acquire
	Lease  string // of the others
	// Ghost is not 0 when attempts of the holder to acquire are unanswered and may still be done once its lease has ended:
	// then it is when a lease taken by the earliest of them would have run out.
	Ghost int64
}

// Answer is what came back.
type Answer struct {
	Outcome Outcome
	Lease   string // of an acquire that was not denied
	At      int64  // of the same: when the lease began, by the ledger's clock
	Expires int64  // of the same, and of Renewed: until when the lease runs, by the ledger's clock
	By      int64  // the latest that the ledger's clock can have said when this was decided
	// Position is a rank of Order: what is done up to it was done when this was decided, or is stored with it.
	Position int64

	// What the rest of the history tells of the lease.
	LastSign bool     // nothing later shows that it is active: from Expires on it may have run out
	Drop     []string // the leases that nobody names later, nor their holders
}

// License is the license that a history is checked against.
type License struct {
	Seats int
	// Remembers is how many leases end until the ledger may have forgotten how one did.
	Remembers int
	// Lasting says that no lease can run out while the history lasts, whatever the clocks do.
	Lasting bool
}

// due is the time that leases which may have run out are compared with.
func (l License) due(clock int64) int64 {
	if l.Lasting {
		return 0
	}
	return clock
}

// Model returns the license as porcupine wants it. Inputs are Calls, outputs are Answers.
//
// What may have happened unseen happens in the model when an answer needs it, and not before: a lost acquire takes its seat
// when a denial needs one seat more to be taken, and a lost release or an expiry ends a lease when a grant needs one less.
// That loses nothing: such a thing can be seen by the number of seats in use only, it can happen at any later time just
// as well, and those of one kind are as good as each other but for when they may happen, where the most useful one is
// kept for later. So a history with many unknown outcomes is as quickly checked as one without.
func (l License) Model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return &state{} },
		Step: func(before, input, output any) (bool, any) {
			after := before.(*state).clone()
			c, a := input.(Call), output.(Answer)
			if !after.step(l, c, a) {
				return false, before
			}
			for _, id := range a.Drop {
				after.drop(id)
			}
			return true, after
		},
		Equal:             func(a, b any) bool { return a.(*state).equal(b.(*state)) },
		Hash:              func(s any) uint64 { return s.(*state).hash() },
		DescribeOperation: func(input, output any) string { return describe(input.(Call), output.(Answer)) },
		DescribeState:     func(s any) string { return s.(*state).String() },
	}
}

// state is a license between two calls. A step works on a copy.
type state struct {
	named []lease // those that a later call names, or whose holder one does, by id
	// unnamed are the seats taken by leases that nobody names any more: from when on each may have ended. Ascending.
	unnamed []int64
	// ghosts are the lost acquires that may still take a seat: from when on that lease may have ended again. Ascending.
	ghosts []int64
	ended  int // how many leases have ended
}

// lease is a lease that clients know of.
type lease struct {
	id, holder string
	expires    int64 // as last acknowledged
	status     status
	ended      int // how many leases had ended when it had
}

type status byte

const (
	active   status = iota
	mortal          // taken; but from expires on it may have run out
	released        // ended, by its holder
	expired         // ended, by itself
)

func (l lease) taken() bool { return l.status == active || l.status == mortal }

func (s *state) clone() *state {
	return &state{slices.Clone(s.named), slices.Clone(s.unnamed), slices.Clone(s.ghosts), s.ended}
}

func (s *state) equal(o *state) bool {
	return s.ended == o.ended && slices.Equal(s.named, o.named) && slices.Equal(s.unnamed, o.unnamed) && slices.Equal(s.ghosts, o.ghosts)
}

var hashSeed = maphash.MakeSeed()

func (s *state) hash() uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	for _, l := range s.named {
		h.WriteString(l.id)
		h.WriteByte(byte(l.status))
	}
	fmt.Fprint(&h, s.unnamed, s.ghosts)
	return h.Sum64()
}

// step does a call and reports whether its answer is right.
func (s *state) step(l License, c Call, a Answer) bool {
	switch c.Kind {
	case LostAcquire:
		s.haunt(c)
		return true
	case LostRelease:
		i, known := s.find(c.Lease)
		if !known || s.named[i].status != active {
			return false
		}
		s.named = slices.Delete(s.named, i, i+1)
		s.unnamed = insert(s.unnamed, 0)
		s.haunt(c)
		return true
	case Acquire:
		return s.acquire(l, c, a)
	}
	i, known := s.find(c.Lease)
	if !known {
		return false // clients name leases that they were given
	}
	lease := &s.named[i]
	switch a.Outcome {
	case Renewed:
		if c.Kind != Heartbeat || lease.status != active || a.Expires < lease.expires {
			return false
		}
		lease.expires = a.Expires
	case Released:
		if c.Kind != Release || (lease.status != active && lease.status != released) {
			return false
		}
		if lease.status == active {
			s.end(i, released)
			s.haunt(c)
		}
	case WasReleased:
		if c.Kind != Heartbeat || lease.status != released {
			return false
		}
	case WasExpired:
		if lease.status == mortal && lease.expires <= l.due(a.By) {
			s.end(i, expired)
		}
		if lease.status != expired {
			return false
		}
	case UnknownLease:
		unseen := len(s.unnamed) + len(s.ghosts) + len(s.named) // may have ended, too
		if lease.taken() || s.ended-lease.ended+unseen < l.Remembers {
			return false
		}
	default:
		return false
	}
	s.note(i, c, a)
	return true
}

func (s *state) acquire(l License, c Call, a Answer) bool {
	has := slices.IndexFunc(s.named, func(l lease) bool { return l.holder == c.Holder && l.taken() })
	if a.Outcome == Held && has >= 0 {
		if s.named[has].id != a.Lease || s.named[has].status != active {
			return false
		}
		s.note(has, c, a)
		return true
	}
	now := l.due(a.At)
	if a.Outcome == Denied {
		now = l.due(a.By)
	}
	if has >= 0 { // its lease must have run out, unseen
		if s.named[has].status != mortal || s.named[has].expires > now {
			return false
		}
		s.end(has, expired)
	}
	switch a.Outcome {
	case Granted, Held:
		i, known := s.find(a.Lease)
		if known {
			return false
		}
		for s.used() >= l.Seats {
			if !s.endOne(now) {
				return false
			}
			i, _ = s.find(a.Lease)
		}
		s.named = slices.Insert(s.named, i, lease{id: a.Lease, holder: c.Holder, expires: a.Expires})
		s.note(i, c, a)
		return true
	case Denied:
		for s.used() < l.Seats {
			if len(s.ghosts) == 0 {
				return false
			}
			// The one that may end first: whatever the others could explain later, it can.
			s.unnamed = insert(s.unnamed, s.ghosts[0])
			s.ghosts = s.ghosts[1:]
		}
		s.haunt(c)
		return true
	}
	return false
}

func (s *state) find(id string) (int, bool) {
	return slices.BinarySearchFunc(s.named, id, func(l lease, id string) int { return cmp.Compare(l.id, id) })
}

// used is how many seats are taken, as far as it has to be.
func (s *state) used() int {
	n := len(s.unnamed)
	for _, l := range s.named {
		if l.taken() {
			n++
		}
	}
	return n
}

func (s *state) end(i int, how status) {
	s.ended++
	s.named[i].status, s.named[i].ended = how, s.ended
}

// endOne ends a lease that may have ended by now unseen, and reports whether there was one: the last that may, so that those
// that may end earlier are there for whoever comes later.
func (s *state) endOne(now int64) bool {
	best, due := -1, int64(-1)
	for i, l := range s.named {
		if l.status == mortal && l.expires <= now && l.expires > due {
			best, due = i, l.expires
		}
	}
	n, exact := slices.BinarySearch(s.unnamed, now)
	for exact && n < len(s.unnamed) && s.unnamed[n] == now {
		n++
	}
	switch {
	case n > 0 && s.unnamed[n-1] > due:
		s.ended++
		s.unnamed = slices.Delete(s.unnamed, n-1, n)
	case best >= 0:
		s.end(best, expired)
	default:
		return false
	}
	return true
}

// haunt notes that a lost acquire may still take a seat.
func (s *state) haunt(c Call) {
	if c.Ghost != 0 {
		s.ghosts = insert(s.ghosts, c.Ghost)
	}
}

// note takes in what the rest of the history tells of a lease.
func (s *state) note(i int, c Call, a Answer) {
	if l := &s.named[i]; a.LastSign && l.status == active {
		l.status = mortal
		s.haunt(c)
	}
}

// drop forgets what nobody will ask about.
func (s *state) drop(id string) {
	i, known := s.find(id)
	if !known {
		return
	}
	if l := s.named[i]; l.taken() {
		s.unnamed = insert(s.unnamed, l.expires)
	}
	s.named = slices.Delete(s.named, i, i+1)
}

func insert(sorted []int64, x int64) []int64 {
	i, _ := slices.BinarySearch(sorted, x)
	return slices.Insert(sorted, i, x)
}

func (s *state) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d used:", s.used())
	for _, l := range s.named {
		fmt.Fprintf(&b, " %s", l.id)
		if l.taken() {
			fmt.Fprintf(&b, "=%s", l.holder)
		} else {
			b.WriteString(" ended")
		}
	}
	fmt.Fprintf(&b, "; %d no longer named, %d acquires lost", len(s.unnamed), len(s.ghosts))
	return b.String()
}

func describe(c Call, a Answer) string {
	what := c.Lease
	if c.Kind == Acquire || c.Kind == LostAcquire {
		what = c.Holder
	}
	text := fmt.Sprintf("%s %s", c.Kind, what)
	if a.Outcome != None {
		text += fmt.Sprintf(" -> %s", a.Outcome)
	}
	if a.Lease != "" {
		text += " " + a.Lease
	}
	return text
}
