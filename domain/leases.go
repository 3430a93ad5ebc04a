package domain

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/coditect-ai/license-ledger/domain/index"
)

// leases are those of one license: the active ones, and the ended ones that are still remembered. A license may have a
// hundred thousand, and a process a million, so a lease is one flat record with one text, found through two indexes:
// about 160 bytes, and one pointer for the garbage collector to follow. The zero value is empty.
type leases struct {
	chunks   [][]leaseRecord // full but for the last
	free     []leaseNumber   // records to be used again
	byID     index.Index
	byHolder index.Index            // the active ones
	due      deadlines[leaseNumber] // the active ones, by when they may have run out
	ended    []leaseNumber          // the others, oldest first
}

// leaseNumber is the place of a lease's record.
type leaseNumber = uint32

// chunkLen is how many records are allocated at once; a license with fewer leases takes less.
const chunkLen = 256

// leaseRecord is a Lease, packed. Times are Unix milliseconds, which is what events hold.
type leaseRecord struct {
	texts      string // id, user, machine and process, one behind the other
	fence      uint64
	acquiredAt int64
	expiresAt  int64
	// changesAt is, of an active lease, its deadline in due: never later than expiresAt, or grace after a take-over. Of an
	// ended one it is when it ended.
	changesAt                  int64
	inDue                      int32     // its place there
	idLen, userLen, machineLen uint16    // the rest is the process
	state                      stateByte // 0: the record is free
	overage, borrowed          bool
}

type stateByte uint8

var leaseStates = [...]LeaseState{"", LeaseStateActive, LeaseStateReleased, LeaseStateExpired, LeaseStateRevoked, LeaseStateEvicted, LeaseStateTransferred}

const (
	stateActive  stateByte = 1
	stateExpired stateByte = 3
)

func (r *leaseRecord) id() LeaseID { return LeaseID(r.texts[:r.idLen]) }

func (r *leaseRecord) holder() Holder {
	user := int(r.idLen)
	machine := user + int(r.userLen)
	process := machine + int(r.machineLen)
	return Holder{User: Pseudonym(r.texts[user:machine]), Machine: Pseudonym(r.texts[machine:process]), Process: Pseudonym(r.texts[process:])}
}

func hashOfID(id LeaseID) uint32 { return index.Hash(string(id)) }
func hashOfHolder(h Holder) uint32 {
	return index.Hash(string(h.User), string(h.Machine), string(h.Process))
}

func millis(at time.Time) int64      { return at.UnixMilli() }
func instant(millis int64) time.Time { return time.UnixMilli(millis).UTC() }

// record returns the record of a lease. It is valid until the next add.
func (s *leases) record(n leaseNumber) *leaseRecord { return &s.chunks[n/chunkLen][n%chunkLen] }

// deadline and place implement timed.
func (s *leases) deadline(n leaseNumber) int64 { return s.record(n).changesAt }
func (s *leases) place(n leaseNumber) *int32   { return &s.record(n).inDue }

// find returns a lease that is active or remembered.
func (s *leases) find(id LeaseID) (leaseNumber, bool) {
	return s.byID.Find(hashOfID(id), func(n leaseNumber) bool { return s.record(n).id() == id })
}

// active returns a lease that is active.
func (s *leases) active(id LeaseID) (leaseNumber, bool) {
	n, ok := s.find(id)
	return n, ok && s.record(n).state == stateActive
}

// heldBy returns the active lease of a holder.
func (s *leases) heldBy(h Holder) (leaseNumber, bool) {
	return s.byHolder.Find(hashOfHolder(h), func(n leaseNumber) bool { return s.record(n).holder() == h })
}

// get returns a copy of a lease.
func (s *leases) get(n leaseNumber, license LicenseID) Lease {
	r := s.record(n)
	l := Lease{
		ID: r.id(), License: license, Fence: r.fence, Holder: r.holder(), State: leaseStates[r.state],
		Overage: r.overage, Borrowed: r.borrowed, AcquiredAt: instant(r.acquiredAt), ExpiresAt: instant(r.expiresAt),
	}
	if r.state != stateActive {
		l.EndedAt = instant(r.changesAt)
	}
	return l
}

// textMax is the longest id or pseudonym, in bytes: far more than any that is given out.
const textMax = math.MaxUint16

// add keeps a lease that is active.
func (s *leases) add(id LeaseID, h Holder, fence uint64, at, expiresAt time.Time, overage, borrowed bool) {
	if max(len(id), len(h.User), len(h.Machine)) > textMax {
		broken("lease with an id or a pseudonym of more than %d bytes", textMax)
	}
	n := s.allocate()
	r := s.record(n)
	*r = leaseRecord{
		texts: string(id) + string(h.User) + string(h.Machine) + string(h.Process),
		idLen: uint16(len(id)), userLen: uint16(len(h.User)), machineLen: uint16(len(h.Machine)),
		fence: fence, acquiredAt: millis(at), expiresAt: millis(expiresAt), changesAt: millis(expiresAt),
		inDue: absent, state: stateActive, overage: overage, borrowed: borrowed,
	}
	s.byID.Add(hashOfID(id), n)
	s.byHolder.Add(hashOfHolder(h), n)
	s.due.put(s, n)
}

func (s *leases) allocate() leaseNumber {
	if last := len(s.free) - 1; last >= 0 {
		n := s.free[last]
		s.free = s.free[:last]
		return n
	}
	last := len(s.chunks) - 1
	switch {
	case last < 0:
		s.chunks, last = append(s.chunks, nil), 0
	case len(s.chunks[last]) == chunkLen:
		s.chunks, last = append(s.chunks, make([]leaseRecord, 0, chunkLen)), last+1
	}
	s.chunks[last] = append(s.chunks[last], leaseRecord{})
	return leaseNumber(last*chunkLen + len(s.chunks[last]) - 1)
}

// end ends an active lease and remembers it; beyond limit the lease that ended first is forgotten.
func (s *leases) end(n leaseNumber, state LeaseState, at time.Time, limit int) {
	s.due.remove(s, n)
	r := s.record(n)
	s.byHolder.Remove(hashOfHolder(r.holder()), n)
	r.state, r.changesAt = stateByte(slices.Index(leaseStates[:], state)), millis(at)
	s.ended = append(s.ended, n)
	s.remember(limit)
}

// remember forgets the leases that ended first, but for so many.
func (s *leases) remember(limit int) {
	for len(s.ended) > limit {
		s.forget(s.ended[0])
		s.ended = s.ended[1:]
	}
}

// revive makes a lease active again that had ended. It ended not long ago, so it is found near the end of those.
func (s *leases) revive(n leaseNumber, expiresAt time.Time) {
	for i, ended := range slices.Backward(s.ended) {
		if ended == n {
			s.ended = slices.Delete(s.ended, i, i+1)
			break
		}
	}
	r := s.record(n)
	r.state, r.expiresAt, r.changesAt = stateActive, millis(expiresAt), millis(expiresAt)
	s.byHolder.Add(hashOfHolder(r.holder()), n)
	s.due.put(s, n)
}

func (s *leases) forget(n leaseNumber) {
	r := s.record(n)
	s.byID.Remove(hashOfID(r.id()), n)
	*r = leaseRecord{}
	s.free = append(s.free, n)
}

// renew moves the end of an active lease. The heap keeps its early entry, and puts it right when that comes up: a
// heartbeat costs no reordering. It reports whether the lease ends earlier than the heap said.
func (s *leases) renew(n leaseNumber, expiresAt time.Time) bool {
	r := s.record(n)
	r.expiresAt = millis(expiresAt)
	if r.expiresAt >= r.changesAt {
		return false
	}
	r.changesAt = r.expiresAt
	s.due.put(s, n)
	return true
}

// postpone moves the entry of an active lease in the heap to when it runs out.
func (s *leases) postpone(n leaseNumber, due int64) {
	s.record(n).changesAt = due
	s.due.put(s, n)
}

// hasten moves the entries in the heap that were postponed beyond when the leases run out back to that.
func (s *leases) hasten() {
	for _, n := range slices.Clone(s.due.items) {
		if r := s.record(n); r.changesAt > r.expiresAt {
			s.postpone(n, r.expiresAt)
		}
	}
}

// inOrder returns the active leases in the order of their acquires.
func (s *leases) inOrder() []leaseNumber {
	all := slices.Clone(s.due.items)
	slices.SortFunc(all, func(a, b leaseNumber) int { return cmp.Compare(s.record(a).fence, s.record(b).fence) })
	return all
}
