package eventstore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// snapshotter keeps a snapshot of one partition's state, a file that saves most of a replay: a cache, which may be deleted
// at any time.
//
// It writes in rounds, while commits go on. A round begins when enough was added to the journal; it appends the tenants
// that changed since the round before, a few between two commits, and ends with a trailer. Every tenant is whole, but
// they are not of the same instant: so the trailer says after which commit the journal has to be read again (begin), and
// up to which commit a tenant may hold already what is read there (end). The trailer is written only when the commit at
// end is stored: a journal without that commit was rolled back or swapped.
//
// When half of the file is out of date, the next round writes all tenants to a new one.
//
// Its methods are called by the goroutine that owns the state; only the file is written by another, a piece at a time, so
// that a slow disk never holds a commit up. A nil *snapshotter keeps nothing.
type snapshotter struct {
	path   string
	header []byte
	log    *slog.Logger
	every  int64
	step   int // snapshotStep, or less in tests

	file  *os.File // with the rounds so far; nil when there is none to go on with
	size  int64    // of file, up to the last trailer
	live  int64    // how much of it is up to date
	since int64    // State.bytes when the last round began

	round   *snapshotRound // nil between rounds
	writing bool           // a piece is on its way
	written chan error     // its outcome; holds one
	ready   chan struct{}  // wakes the owner to call advance; holds one
}

// How snapshots are paced.
const (
	// snapshotEvery is the default of WriterConfig.SnapshotEvery.
	snapshotEvery = 32 << 20
	// snapshotStep is about how much is encoded between two commits, in bytes: a fraction of a millisecond. A single
	// tenant is never divided.
	snapshotStep = 256 << 10
)

// newSnapshotter returns the snapshots of a partition in a folder, which is made if it is not there; nil without a folder.
func newSnapshotter(dir string, every int64, info LedgerInfo, p Partition, log *slog.Logger) (*snapshotter, error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder for snapshots: %w", err)
	}
	return &snapshotter{
		path: filepath.Join(dir, fmt.Sprintf("partition-%02d.snapshot", p)), header: snapshotHeader(info, p), log: log,
		every: every, step: snapshotStep, written: make(chan error, 1), ready: make(chan struct{}, 1),
	}, nil
}

// load returns the state of the last whole round, or the state before the first commit when there is no snapshot that
// can be used. The journal has to be read from there on.
//
// Errors: the snapshot is of another ledger; the disk cannot be read.
func (s *snapshotter) load() (*State, error) {
	if s == nil {
		return NewState(), nil
	}
	s.drop()
	s.size, s.live, s.since = 0, 0, 0
	file, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return NewState(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	state, size, err := readSnapshot(file, s.header)
	if err == nil {
		// Behind the last trailer is a round that was not finished, of a state that perhaps never came to be.
		err = file.Truncate(size)
	}
	if err != nil {
		file.Close()
		var useless uselessSnapshot
		if !errors.As(err, &useless) {
			return nil, fmt.Errorf("snapshot %s: %w", s.path, err)
		}
		s.log.Warn("snapshot ignored; reading the whole journal instead", "file", s.path, "reason", useless.Error())
		return NewState(), nil
	}
	s.file, s.size = file, size
	for _, t := range state.tenants {
		s.live += t.snapshotLen
	}
	return state, nil
}

// drop ends the round without a trailer and closes the files. It may be called at any time; load starts again.
func (s *snapshotter) drop() {
	if s == nil {
		return
	}
	if s.writing {
		<-s.written
		s.writing = false
	}
	if r := s.round; r != nil && r.fresh {
		r.file.Close()
		os.Remove(r.file.Name())
	}
	if s.file != nil {
		s.file.Close()
	}
	s.round, s.file = nil, nil
}

// wake returns the channel that says when to call advance although nothing was committed.
func (s *snapshotter) wake() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.ready
}

// advance goes on with the round, or begins one when it is time; it takes a fraction of a millisecond. stored is the last
// commit that is known to be stored. It is to be called after every commit.
func (s *snapshotter) advance(state *State, stored uint64) {
	if s == nil || s.busy() || (s.round == nil && !s.begin(state)) {
		return
	}
	r := s.round
	for len(r.left) > 0 && len(r.piece) < s.step {
		t := r.left[len(r.left)-1]
		r.left = r.left[:len(r.left)-1]
		before := len(r.piece)
		r.piece = t.appendRecord(r.piece)
		length := int64(len(r.piece) - before)
		s.live += length - t.snapshotLen
		t.snapshotLen = length
	}
	if len(r.left) == 0 && r.marks.End.Seq == 0 {
		r.marks.End = state.Checkpoint
	}
	switch {
	case len(r.left) == 0 && stored >= r.marks.End.Seq:
		r.last = true
		s.write()
	case len(r.piece) >= s.step:
		s.write()
	}
}

// begin begins a round when it is time, and reports whether it did.
func (s *snapshotter) begin(state *State) bool {
	if state.bytes-s.since < max(s.every, s.live) {
		return false
	}
	s.since = state.bytes
	r := &snapshotRound{file: s.file, offset: s.size, left: state.changed, marks: snapshotMarks{
		Begin: state.Checkpoint, BeginID: state.last.ID, Epoch: state.Epoch, EpochStart: state.EpochStart, Time: state.Time, Names: state.names,
	}}
	if s.file == nil || s.size > 2*s.live {
		file, err := os.OpenFile(s.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			s.log.Warn("no snapshot", "error", err)
			return false
		}
		r.file, r.fresh, r.offset, r.left, s.live = file, true, 0, nil, 0
		for _, t := range state.tenants {
			t.snapshotLen = 0
			r.left = append(r.left, t)
		}
	}
	r.init(s.header)
	state.changed = nil
	for _, t := range r.left {
		t.changed = false // from now on a change is one for the next round
	}
	s.round = r
	return true
}

// write sends the present piece on its way.
func (s *snapshotter) write() {
	s.writing = true
	r := s.round
	go func() {
		s.written <- r.write(s.path)
		select {
		case s.ready <- struct{}{}:
		default:
		}
	}()
}

// busy takes the outcome of the piece on its way, if it is there, and reports whether it is not.
func (s *snapshotter) busy() bool {
	if !s.writing {
		return false
	}
	var err error
	select {
	case err = <-s.written:
	default:
		return true
	}
	s.writing = false
	r := s.round
	switch {
	case err != nil:
		s.log.Warn("snapshot not written; trying again later, with a new file", "file", s.path, "error", err)
		s.drop()
	case r.last:
		if r.fresh && s.file != nil {
			s.file.Close()
		}
		s.file, s.size, s.round = r.file, r.offset, nil
	default:
		r.piece = r.piece[:0]
	}
	return false
}
