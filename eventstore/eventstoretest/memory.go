package eventstoretest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// Store is a ledger in memory.
type Store struct {
	info        eventstore.LedgerInfo
	journals    []*Log
	directories []*Log
	owners      []*Register
}

// NewStore returns an empty ledger.
func NewStore(partitions int) *Store {
	s := &Store{info: eventstore.LedgerInfo{
		ID: "01935e2f-7c00-7000-8000-000000000001", Partitions: partitions, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}}
	for range partitions {
		s.journals = append(s.journals, NewLog())
		s.directories = append(s.directories, NewLog())
		s.owners = append(s.owners, &Register{})
	}
	return s
}

// Info implements eventstore.Store.
func (s *Store) Info() eventstore.LedgerInfo { return s.info }

// Journal implements eventstore.Store; the Log is a *Log.
func (s *Store) Journal(p eventstore.Partition) eventstore.Log { return s.journals[p] }

// Directory implements eventstore.Store; the Log is a *Log.
func (s *Store) Directory(p eventstore.Partition) eventstore.Log { return s.directories[p] }

// Owner implements eventstore.Store; the Register is a *Register.
func (s *Store) Owner(p eventstore.Partition) eventstore.Register { return s.owners[p] }

// Register is an eventstore.Register in memory.
type Register struct {
	mu       sync.Mutex
	value    []byte
	revision uint64
	lost     bool
}

// Lose makes every read and write fail, until it is called again with false.
func (r *Register) Lose(lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = lost
}

// Read implements eventstore.Register.
func (r *Register) Read(context.Context) ([]byte, uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost {
		return nil, 0, ErrUnanswered
	}
	return r.value, r.revision, nil
}

// Write implements eventstore.Register.
func (r *Register) Write(_ context.Context, value []byte, revision uint64) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.lost:
		return 0, ErrUnanswered
	case revision != r.revision:
		return 0, eventstore.ErrConflict
	}
	r.value, r.revision = slices.Clone(value), revision+1
	return r.revision, nil
}

// Fault is what becomes of one append.
type Fault int

// The faults.
const (
	// LostUnanswered: not stored, and the outcome is an error that leaves it open.
	LostUnanswered Fault = iota + 1
	// StoredUnanswered: stored, but the outcome is an error that leaves it open.
	StoredUnanswered
	// FalseConflict: not stored, and refused as if another record stood there that was not stored in the end.
	FalseConflict
	// Held: stored and answered only after Release.
	Held
	// AnsweredLate: stored at once, and answered only after Release.
	AnsweredLate
)

// ErrUnanswered is the outcome of an append that was not answered.
var ErrUnanswered = errors.New("no answer")

// Log is an eventstore.Log in memory.
type Log struct {
	mu       sync.Mutex
	records  []eventstore.Record // of an erased one only the id is left
	erased   map[uint64]bool
	eraseErr error
	faults   []Fault
	held     []func()
	late     []func()
	changed  chan struct{} // closed and replaced when a record was stored or held
}

// NewLog returns an empty Log.
func NewLog() *Log { return &Log{changed: make(chan struct{})} }

// Fail lets the next appends meet these faults, one each.
func (l *Log) Fail(faults ...Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, faults...)
}

// InFlightMax implements eventstore.Log.
func (l *Log) InFlightMax() int { return 4 }

// Append implements eventstore.Log.
func (l *Log) Append(after eventstore.Place, r eventstore.Record) <-chan error {
	l.mu.Lock()
	defer l.mu.Unlock()
	outcome := make(chan error, 1)
	var fault Fault
	if len(l.faults) > 0 {
		fault, l.faults = l.faults[0], l.faults[1:]
	}
	switch fault {
	case LostUnanswered:
		outcome <- ErrUnanswered
	case FalseConflict:
		outcome <- eventstore.ErrConflict
	case StoredUnanswered:
		l.store(after, r)
		outcome <- ErrUnanswered
	case AnsweredLate:
		err := l.store(after, r)
		l.late = append(l.late, func() { outcome <- err })
	case Held:
		l.held = append(l.held, func() { outcome <- l.store(after, r) })
		l.signal()
	default:
		// What was sent before and is held stands before this one.
		if len(l.held) > 0 {
			l.held = append(l.held, func() { outcome <- l.store(after, r) })
			l.signal()
		} else {
			outcome <- l.store(after, r)
		}
	}
	return outcome
}

// AwaitHeld returns when n appends are held.
func (l *Log) AwaitHeld(ctx context.Context, n int) error {
	return l.await(ctx, func() bool { return len(l.held) >= n })
}

// Release lets all held appends go on, in order.
func (l *Log) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, goOn := range append(l.late, l.held...) {
		goOn()
	}
	l.late, l.held = nil, nil
}

// Truncate forgets all records after sequence last, as a log restored from an old copy does.
func (l *Log) Truncate(last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = l.records[:last]
}

// Replace changes one stored record.
func (l *Log) Replace(seq uint64, change func(*eventstore.Record)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.records[seq-1]
	r.Body, r.Header = slices.Clone(r.Body), maps.Clone(r.Header)
	change(r)
}

// store appends; the mutex is held.
func (l *Log) store(after eventstore.Place, r eventstore.Record) error {
	last := eventstore.Place{Seq: uint64(len(l.records))}
	if last.Seq > 0 {
		last.ID = l.records[last.Seq-1].ID
	}
	if after != last {
		return eventstore.ErrConflict
	}
	l.records = append(l.records, eventstore.Record{ID: r.ID, Header: maps.Clone(r.Header), Body: slices.Clone(r.Body)})
	l.signal()
	return nil
}

func (l *Log) signal() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) await(ctx context.Context, condition func() bool) error {
	for {
		l.mu.Lock()
		ok, changed := condition(), l.changed
		l.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Read implements eventstore.Log.
func (l *Log) Read(ctx context.Context, after uint64, f func(uint64, eventstore.Record) error) error {
	for seq := after + 1; ; seq++ {
		if err := l.await(ctx, func() bool { return uint64(len(l.records)) >= seq }); err != nil {
			return err
		}
		l.mu.Lock()
		r, erased := l.records[seq-1], l.erased[seq]
		l.mu.Unlock()
		if erased {
			continue
		}
		if err := f(seq, r); err != nil {
			return err
		}
	}
}

// Last implements eventstore.Log.
func (l *Log) Last(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.records)), nil
}

// Get implements eventstore.Log.
func (l *Log) Get(_ context.Context, seq uint64) (eventstore.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq == 0 || seq > uint64(len(l.records)) || l.erased[seq] {
		return eventstore.Record{}, eventstore.ErrNoRecord
	}
	return l.records[seq-1], nil
}

// FailErase makes Erase return err, until it is called again with nil.
func (l *Log) FailErase(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.eraseErr = err
}

// Erase implements eventstore.Log.
func (l *Log) Erase(_ context.Context, seq uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.eraseErr != nil {
		return l.eraseErr
	}
	if seq == 0 || seq >= uint64(len(l.records)) {
		return fmt.Errorf("record %d cannot be erased", seq)
	}
	if l.erased == nil {
		l.erased = map[uint64]bool{}
	}
	l.erased[seq] = true
	l.records[seq-1] = eventstore.Record{ID: l.records[seq-1].ID}
	return nil
}
