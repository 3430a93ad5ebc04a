package audit

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// Source reads the events of one tenant from the journal.
type Source struct {
	Journal eventstore.Log // of the tenant's partition
	Tenant  domain.TenantID
	// Copied calls f with the slices of the tenant that a copy of the journal holds, in order, and returns up to which commit of the
	// partition that is known. It need not be trusted: each slice must follow from the one before, and the last one must stand in the
	// journal, whose link to it depends on every byte before. Only that the copy left none out after its last has to be
	// believed. What comes after upTo is read from the journal. Nil: every commit of the partition is read.
	Copied func(ctx context.Context, f func(Slice) error) (upTo uint64, err error)
	// Progress is called with how many of the commits that have to be read one by one were read; nil: nobody asks.
	Progress func(done, total uint64)
}

// Read calls f with each slice of the tenant, from the first one to the last one at the time of the call. Only when it returns nil
// is it certain that the slices are those of the journal.
//
// Errors: eventstore.ErrChainBroken when one does not follow from the one before; those of f and of the journal.
func (s Source) Read(ctx context.Context, f func(Slice) error) error {
	chain := link{tenant: s.Tenant, f: f}
	var after eventstore.Checkpoint // where the reading of every commit begins
	if s.Copied != nil {
		var err error
		if after, err = s.readCopied(ctx, &chain); err != nil {
			return err
		}
	}
	last, err := s.Journal.Last(ctx)
	if err != nil {
		return err
	}
	mark := []byte(`"` + string(s.Tenant) + `"`) // ids of tenants need no escapes
	first := after.Seq
	return eventstore.ReadCommitsUpTo(ctx, s.Journal, after, last, func(at eventstore.Checkpoint, c eventstore.Commit) error {
		if s.Progress != nil {
			s.Progress(at.Seq-first, last-first)
		}
		if !bytes.Contains(c.Body, mark) {
			return nil
		}
		slice, found, err := s.sliceOf(at.Seq, c)
		if err != nil || !found {
			return err
		}
		return chain.take(slice)
	})
}

// readCopied takes the slices of the copy, and compares the last one with the journal. It returns the place in the partition's
// chain up to which they are all of the tenant's.
func (s Source) readCopied(ctx context.Context, chain *link) (at eventstore.Checkpoint, err error) {
	var newest Slice
	if at.Seq, err = s.Copied(ctx, func(slice Slice) error { newest = slice; return chain.take(slice) }); err != nil {
		return at, err
	}
	if at.Seq = max(at.Seq, newest.Seq); at.Seq == 0 {
		return at, nil
	}
	last, err := s.Journal.Last(ctx)
	switch {
	case err != nil:
		return at, err
	case last < at.Seq:
		return at, fmt.Errorf("%w: it has %d commits, and its copy %d: it lost some; ledger restore brings them back", eventstore.ErrChainBroken, last, at.Seq)
	}
	if newest.Seq > 0 {
		c, err := s.get(ctx, newest.Seq)
		if err != nil {
			return at, err
		}
		stands, found, err := s.sliceOf(newest.Seq, c)
		switch {
		case err != nil:
			return at, err
		case !found || !bytes.Equal(stands.Stored, newest.Stored):
			return at, fmt.Errorf("%w: the copy has events of %s in commit %d that the journal does not have there: one of them is not right; "+
				"ledger verify --live finds which commit differs first", eventstore.ErrChainBroken, s.Tenant, newest.Seq)
		}
	}
	c, err := s.get(ctx, at.Seq)
	at.Hash = c.Hash()
	return at, err
}

func (s Source) get(ctx context.Context, seq uint64) (eventstore.Commit, error) {
	r, err := s.Journal.Get(ctx, seq)
	if err != nil {
		return eventstore.Commit{}, fmt.Errorf("read commit %d: %w", seq, err)
	}
	c, err := eventstore.CommitOf(r)
	if err != nil {
		return c, fmt.Errorf("commit %d: %w", seq, err)
	}
	return c, nil
}

// sliceOf returns the tenant's slice of a commit, if it has one.
func (s Source) sliceOf(seq uint64, c eventstore.Commit) (_ Slice, found bool, err error) {
	all, err := c.Decode()
	if err != nil {
		return Slice{}, false, fmt.Errorf("commit %d: %w", seq, err)
	}
	i := slices.IndexFunc(all, func(slice eventstore.Slice) bool { return slice.Tenant == s.Tenant })
	if i < 0 {
		return Slice{}, false, nil
	}
	return Slice{all[i], seq}, true, nil
}

// link follows the chain of a tenant.
type link struct {
	tenant  domain.TenantID
	head    eventstore.Hash
	version uint64
	f       func(Slice) error
}

func (l *link) take(s Slice) error {
	first := s.Events[0]
	if s.Tenant != l.tenant || *first.Prev != l.head || first.Version != l.version+1 {
		return fmt.Errorf("%w: commit %d has version %d of %s after version %d, and follows the head %s, not %s",
			eventstore.ErrChainBroken, s.Seq, first.Version, s.Tenant, l.version, *first.Prev, l.head)
	}
	l.head, l.version = s.Head(), s.Events[len(s.Events)-1].Version
	return l.f(s)
}
