package audit

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// Source reads the events of one tenant from the journal.
type Source struct {
	Journal eventstore.Log // of the tenant's partition
	Tenant  domain.TenantID
	// Index says which commits hold events of the tenant, in order, and up to which commit of the partition it knows. What comes
	// after that is read one by one. If it left one out, the tenant's chain does not fit, and Read fails; only that none
	// is left out after the last it names has to be believed. Nil: every commit of the partition is read.
	Index func(ctx context.Context) (commits []uint64, upTo uint64, err error)
	// Progress is called with how many of the commits that have to be read were read; nil: nobody asks.
	Progress func(done, total uint64)
}

// atOnce is how many commits are asked for at once: each is a round trip.
const atOnce = 32

// Read calls f with each slice of the tenant, from the first one to the last one at the time of the call.
//
// Errors: eventstore.ErrChainBroken when one does not follow from the one before; those of f and of the journal.
func (s Source) Read(ctx context.Context, f func(Slice) error) error {
	last, err := s.Journal.Last(ctx)
	if err != nil {
		return err
	}
	var known []uint64
	var after eventstore.Checkpoint // where the reading of every commit begins
	if s.Index != nil {
		var upTo uint64
		if known, upTo, err = s.Index(ctx); err != nil {
			return fmt.Errorf("index of the tenant's commits: %w", err)
		}
		upTo = min(upTo, last)
		if n, _ := slices.BinarySearch(known, upTo+1); n < len(known) {
			known = known[:n]
		}
		if after, err = s.checkpoint(ctx, upTo); err != nil {
			return err
		}
	}
	chain := link{tenant: s.Tenant, f: f}
	total := uint64(len(known)) + last - after.Seq
	if err := s.readKnown(ctx, known, &chain, total); err != nil {
		return err
	}
	mark := []byte(`"` + string(s.Tenant) + `"`) // ids of tenants need no escapes
	done := uint64(len(known))
	return eventstore.ReadCommitsUpTo(ctx, s.Journal, after, last, func(at eventstore.Checkpoint, c eventstore.Commit) error {
		done++
		s.progress(done, total)
		if !bytes.Contains(c.Body, mark) {
			return nil
		}
		return chain.commit(at.Seq, c, false)
	})
}

// checkpoint is the place in the partition's chain after a commit.
func (s Source) checkpoint(ctx context.Context, seq uint64) (eventstore.Checkpoint, error) {
	if seq == 0 {
		return eventstore.Checkpoint{}, nil
	}
	c, err := s.get(ctx, seq)
	return eventstore.Checkpoint{Seq: seq, Hash: c.Hash()}, err
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

// readKnown reads the commits of the index, some at once, and takes them in order.
func (s Source) readKnown(ctx context.Context, known []uint64, chain *link, total uint64) error {
	done := uint64(0)
	for chunk := range slices.Chunk(known, atOnce) {
		commits := make([]eventstore.Commit, len(chunk))
		asking, askCtx := errgroup.WithContext(ctx)
		for i, seq := range chunk {
			asking.Go(func() (err error) {
				commits[i], err = s.get(askCtx, seq)
				return err
			})
		}
		if err := asking.Wait(); err != nil {
			return err
		}
		for i, c := range commits {
			if err := chain.commit(chunk[i], c, true); err != nil {
				return err
			}
			done++
			s.progress(done, total)
		}
	}
	return nil
}

func (s Source) progress(done, total uint64) {
	if s.Progress != nil {
		s.Progress(done, total)
	}
}

// link follows the chain of a tenant.
type link struct {
	tenant  domain.TenantID
	head    eventstore.Hash
	version uint64
	f       func(Slice) error
}

// commit takes the tenant's slice of a commit, which may be there, or must.
func (l *link) commit(seq uint64, c eventstore.Commit, must bool) error {
	all, err := c.Decode()
	if err != nil {
		return fmt.Errorf("commit %d: %w", seq, err)
	}
	i := slices.IndexFunc(all, func(s eventstore.Slice) bool { return s.Tenant == l.tenant })
	if i < 0 {
		if must {
			return fmt.Errorf("%w: commit %d has no events of %s, as the index says it has", eventstore.ErrChainBroken, seq, l.tenant)
		}
		return nil
	}
	s := Slice{all[i], seq}
	first := s.Events[0]
	if *first.Prev != l.head || first.Version != l.version+1 {
		return fmt.Errorf("%w: commit %d has version %d of %s after version %d, and follows the head %s, not %s",
			eventstore.ErrChainBroken, seq, first.Version, l.tenant, l.version, *first.Prev, l.head)
	}
	l.head, l.version = s.Head(), s.Events[len(s.Events)-1].Version
	return l.f(s)
}
