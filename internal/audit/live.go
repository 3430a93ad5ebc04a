package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// FoldPartition reads a partition from its first commit to last and folds it: the partition's chain, the chain of each
// tenant, and the rules of the domain must hold for every event. It returns the state. It holds all tenants in memory.
//
// Errors: eventstore.ErrChainBroken; what is wrong, with the commit.
func FoldPartition(ctx context.Context, journal eventstore.Log, last uint64, progress func(done, total uint64)) (*eventstore.State, error) {
	state := eventstore.NewState()
	err := state.FoldUpTo(ctx, journal, last, func(at eventstore.Checkpoint, _ eventstore.Commit) { progress(at.Seq, last) })
	return state, err
}

// CompareJournals reads two copies of a partition from the first commit to last, which both have to reach, and compares them commit by
// commit: the events, and what is stored beside them.
//
// Errors: eventstore.ErrChainBroken, of which copy, when its own chain does not hold; the first commit that differs.
func CompareJournals(ctx context.Context, journal, copied eventstore.Log, last uint64, progress func(done, total uint64)) error {
	both, ctx := errgroup.WithContext(ctx)
	next := make(chan eventstore.Commit, 64)
	both.Go(func() error {
		defer close(next)
		err := eventstore.ReadCommitsUpTo(ctx, copied, eventstore.Checkpoint{}, last, func(_ eventstore.Checkpoint, c eventstore.Commit) error {
			select {
			case next <- c:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		return named("the copy", err)
	})
	both.Go(func() error {
		return named("the journal", eventstore.ReadCommitsUpTo(ctx, journal, eventstore.Checkpoint{}, last, func(at eventstore.Checkpoint, c eventstore.Commit) error {
			other, more := <-next
			if !more {
				return errors.New("the copy ended before") // and says why itself
			}
			progress(at.Seq, last)
			if what := difference(c, other); what != "" {
				return fmt.Errorf("commit %d has another %s in the copy", at.Seq, what)
			}
			return nil
		}))
	})
	return both.Wait()
}

func named(which string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", which, err)
	}
	return err
}

// difference says in what two commits differ; empty when they are the same.
func difference(a, b eventstore.Commit) string {
	switch {
	case a.ID != b.ID:
		return "id"
	case !bytes.Equal(a.Body, b.Body):
		return "body"
	case a.Prev != b.Prev:
		return "link"
	case a.Epoch != b.Epoch:
		return "epoch"
	case a.Directory != b.Directory:
		return "directory position"
	}
	return ""
}
