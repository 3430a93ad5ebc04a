package eventstore

import (
	"container/heap"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
)

// State is a partition as its commits say: the fold of the journal from the first commit to Checkpoint. It is not safe
// for concurrent use.
type State struct {
	Checkpoint Checkpoint
	Epoch      uint64    // of the last writer
	EpochStart time.Time // when that writer took over
	Time       time.Time // of the last commit
	last       Place     // the last commit
	names      uint64    // how far the directory has to be read to know every pseudonym
	tenants    map[domain.TenantID]*tenantState
	due        dueHeap
	moving     map[domain.TenantID]struct{} // tenants with licenses on their way to another one
	moved      bool                         // moving is another since this was set to false
	seats      int                          // active leases
	events     int64                        // folded by this State, not those of a snapshot

	// For snapshots.
	seen    Checkpoint     // up to here tenants may hold commits that are still to be folded: a snapshot was taken meanwhile
	changed []*tenantState // since the last round began
	bytes   int64          // of commits that were added, roughly
}

// tenantState is a tenant with what the partition keeps beside it.
type tenantState struct {
	*domain.Tenant
	head      Hash      // of the tenant's chain
	scheduled time.Time // its valid entry in State.due; zero when it has none
	answers   recordedAnswers

	seats       int   // as counted in State.seats
	changed     bool  // is in State.changed
	snapshotLen int64 // of its last record in the snapshot, in bytes
}

// NewState returns the state before the first commit.
func NewState() *State {
	return &State{tenants: map[domain.TenantID]*tenantState{}, moving: map[domain.TenantID]struct{}{}}
}

// FoldUpTo folds the commits of the journal up to and including sequence last, and calls seen, when not nil, with each.
// The journal has to reach last.
//
// Errors: ErrChainBroken, also when the journal does not have what the snapshot saw, or a commit of it cannot be read.
func (s *State) FoldUpTo(ctx context.Context, journal Log, last uint64, seen func(Checkpoint, Commit)) error {
	if last < s.seen.Seq {
		return fmt.Errorf("%w: it ends at %d, but the snapshot saw commit %d: it was rolled back or replaced; restore the journal, "+
			"or, if this loss is accepted, delete the snapshot", ErrChainBroken, last, s.seen.Seq)
	}
	if s.Checkpoint.Seq >= last {
		return s.Checkpoint.Verify(ctx, journal)
	}
	return ReadCommitsUpTo(ctx, journal, s.Checkpoint, last, func(at Checkpoint, c Commit) error {
		if err := s.Fold(at, c); err != nil {
			return err
		}
		if seen != nil {
			seen(at, c)
		}
		return nil
	})
}

// Fold applies one commit, the one after Checkpoint. An error means that the journal holds what cannot be, and leaves
// the state useless.
func (s *State) Fold(at Checkpoint, c Commit) (err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("commit %d: %v", at.Seq, broken)
		}
	}()
	slices, err := c.Decode()
	if err != nil {
		return fmt.Errorf("commit %d: %w", at.Seq, err)
	}
	s.Time = slices[0].Events[0].Time
	for _, slice := range slices {
		if slice.Tenant == "" {
			e := slice.Events[0].Data.(*WriterEpochStarted)
			s.Epoch, s.EpochStart = e.Epoch, s.Time
			continue
		}
		t := s.tenant(slice.Tenant)
		if at.Seq <= s.seen.Seq && slice.Events[len(slice.Events)-1].Version <= t.Version {
			continue
		}
		if first := slice.Events[0]; *first.Prev != t.head || first.Version != t.Version+1 {
			return fmt.Errorf("commit %d: %w: version %d of %s follows %d", at.Seq, ErrChainBroken, first.Version, slice.Tenant, t.Version)
		}
		s.foldSlice(t, slice)
		t.head = slice.Head()
		s.put(t)
	}
	for _, slice := range slices {
		s.events += int64(len(slice.Events))
	}
	s.Checkpoint, s.last, s.names = at, Place{at.Seq, c.ID}, max(s.names, c.Directory)
	s.bytes += int64(len(c.Body))
	if at.Seq == s.seen.Seq && at.Hash != s.seen.Hash {
		return fmt.Errorf("%w: commit %d has the hash %s, but had %s when the snapshot saw it: another journal stands in its place; "+
			"restore the journal, or, if this one is right, delete the snapshot", ErrChainBroken, at.Seq, at.Hash, s.seen.Hash)
	}
	return nil
}

func (s *State) foldSlice(t *tenantState, slice Slice) {
	var ofCommand []domain.Event
	for i, e := range slice.Events {
		t.Apply(e.Time, e.Data)
		ofCommand = append(ofCommand, e.Data)
		if i+1 < len(slice.Events) && slice.Events[i+1].Command == e.Command {
			continue
		}
		t.remember(e.Command, e.Time, ofCommand)
		ofCommand = ofCommand[:0]
	}
}

// remember records the answer of a command that came with an Idempotency-Key, from the events it left, which were just applied.
func (t *tenantState) remember(command string, at time.Time, events []domain.Event) {
	if key, ok := parseIdempotency(command); ok {
		answer, rejection, known := domain.Recall(t.Tenant, events)
		t.answers.put(key, recordedAnswer{at: at, known: known, answer: answer, rejection: rejection})
	}
}

// tenant returns a tenant, perhaps one that is not created yet; put keeps it.
func (s *State) tenant(id domain.TenantID) *tenantState {
	if t := s.tenants[id]; t != nil {
		return t
	}
	return &tenantState{Tenant: domain.NewTenant(id)}
}

// put keeps t, which changed, and sees to it that due has an entry for it that is not late.
func (s *State) put(t *tenantState) {
	if !t.changed {
		t.changed = true
		s.changed = append(s.changed, t)
	}
	s.restore(t)
}

// restore keeps t.
func (s *State) restore(t *tenantState) {
	s.tenants[t.ID] = t
	s.seats += t.SeatsInUse - t.seats
	t.seats = t.SeatsInUse
	if _, moving := s.moving[t.ID]; moving != (t.OnTheirWay > 0) {
		if s.moved = true; moving {
			delete(s.moving, t.ID)
		} else {
			s.moving[t.ID] = struct{}{}
		}
	}
	next, ok := t.NextDue()
	if !ok || (!t.scheduled.IsZero() && !next.Before(t.scheduled)) {
		return
	}
	t.scheduled = next
	heap.Push(&s.due, dueEntry{next, t})
}

// moveTo notes that a commit, whose events are applied already, is the last one now.
func (s *State) moveTo(p *pendingCommit, at Checkpoint, now time.Time) {
	s.Checkpoint, s.last, s.names, s.Time = at, Place{at.Seq, p.record.ID}, max(s.names, p.names), now
	s.bytes += int64(len(p.record.Body))
}

// Tenants calls f for each tenant, in no order.
func (s *State) Tenants(f func(t *domain.Tenant)) {
	for _, t := range s.tenants {
		if t.ID != domain.Staff {
			f(t.Tenant)
		}
	}
}

// TenantHead returns the head of a tenant's own chain; zero before its first event.
func (s *State) TenantHead(id domain.TenantID) Hash { return s.tenant(id).head }

// nextDue returns when a lease may have run out; false when there is none.
func (s *State) nextDue() (time.Time, bool) {
	for len(s.due) > 0 {
		if top := s.due[0]; top.at.Equal(top.tenant.scheduled) {
			return top.at, true
		}
		heap.Pop(&s.due) // an earlier entry of the tenant took its place
	}
	return time.Time{}, false
}

// takeDue returns a tenant with leases that may have run out at now, or nil, and forgets its entry: put it again.
func (s *State) takeDue(now time.Time) *tenantState {
	if next, ok := s.nextDue(); !ok || next.After(now) {
		return nil
	}
	t := heap.Pop(&s.due).(dueEntry).tenant
	t.scheduled = time.Time{}
	return t
}

// dueHeap orders tenants by when their next lease may run out. Entries that were overtaken stay until they come up.
type dueHeap []dueEntry

type dueEntry struct {
	at     time.Time
	tenant *tenantState
}

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(dueEntry)) }
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = dueEntry{}
	*h = (*h)[:last]
	return x
}

// Idempotency is an Idempotency-Key with the request it came with. Its text is the command id of the events, so that a
// replay knows it again; it tells nothing about either.
type Idempotency struct {
	Key         string // hash of the key and of who sent it: 22 characters of URL-safe base64
	Fingerprint string // hash of method, path and body: 11 characters of URL-safe base64
}

const idempotencyPrefix = "k."

func (i Idempotency) commandID() string { return idempotencyPrefix + i.Key + "." + i.Fingerprint }

func parseIdempotency(commandID string) (Idempotency, bool) {
	rest, ok := strings.CutPrefix(commandID, idempotencyPrefix)
	if !ok {
		return Idempotency{}, false
	}
	key, fingerprint, ok := strings.Cut(rest, ".")
	return Idempotency{Key: key, Fingerprint: fingerprint}, ok
}

// How long and how many answers of a tenant are kept for repeated Idempotency-Keys.
const (
	answersFor = time.Hour
	answersMax = 10_000
)

// recordedAnswers are the answers to commands that came with an Idempotency-Key.
type recordedAnswers struct {
	byKey map[string]recordedAnswer
	order []string // keys, oldest first
}

type recordedAnswer struct {
	fingerprint string
	at          time.Time
	known       bool // false: answer and rejection are read from the present state again
	answer      domain.Answer
	rejection   *domain.Rejection
}

func (r *recordedAnswers) put(i Idempotency, answer recordedAnswer) {
	for len(r.order) > 0 && (len(r.order) >= answersMax || r.byKey[r.order[0]].at.Before(answer.at.Add(-answersFor))) {
		delete(r.byKey, r.order[0])
		r.order = r.order[1:]
	}
	if r.byKey == nil {
		r.byKey = map[string]recordedAnswer{}
	}
	if _, again := r.byKey[i.Key]; !again {
		r.order = append(r.order, i.Key)
	}
	answer.fingerprint = i.Fingerprint
	r.byKey[i.Key] = answer
}

// waits reports whether the command is not done yet: its holder is in the queue, and it is to be decided again.
func (r recordedAnswer) waits(i Idempotency) bool {
	return r.answer.Queued && r.fingerprint == i.Fingerprint
}

// get returns the answer recorded for key, unless it is older than answersFor at now.
func (r *recordedAnswers) get(key string, now time.Time) (recordedAnswer, bool) {
	answer, ok := r.byKey[key]
	return answer, ok && !answer.at.Before(now.Add(-answersFor))
}
