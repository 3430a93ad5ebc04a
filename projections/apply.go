package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// apply brings the group from g.at to after the last of commits, in one transaction. When a batch of several commits is
// refused they are applied one by one, so that those before the bad one go in and the error names it.
func (r *Runner) apply(ctx context.Context, p eventstore.Partition, g *group, commits []Commit) error {
	err := r.applyBatch(ctx, p, g, commits)
	if err == nil || isAway(err) || errors.Is(err, errOvertaken) || ctx.Err() != nil {
		return err
	}
	if len(commits) == 1 {
		if r.mayPark(g.projections) {
			return r.applyApart(ctx, p, *g, commits[0], err)
		}
		return err
	}
	r.log.ErrorContext(ctx, "batch refused, applying its commits one by one", "partition", p,
		"first", commits[0].At.Seq, "last", commits[len(commits)-1].At.Seq, "error", err)
	for i := range commits {
		if err := r.apply(ctx, p, g, commits[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// beginBatch starts the transaction of a batch. The rows and the checkpoint of a batch that was not flushed to disk are lost together
// and applied again, so no commit has to wait for the disk.
var beginBatch = pgx.TxOptions{BeginQuery: "BEGIN; SET LOCAL synchronous_commit = off"}

func (r *Runner) applyBatch(ctx context.Context, p eventstore.Partition, g *group, commits []Commit) error {
	start := time.Now()
	b := &Batch{Partition: p, From: g.at.Checkpoint, Commits: commits}
	last := b.Last()
	r.metrics.began(p, commits[0].Time)
	var err error
	directory := max(g.at.directory, last.Directory)
	if b.Names, err = readNames(ctx, r.store.Directory(p), g.at.directory, directory); err != nil {
		return fmt.Errorf("commit %d (%s): %w", last.At.Seq, last.ID, err)
	}
	// Live readers are told of what they can see: not of what the lagging projections catch up on.
	var changes *changes
	if r.publish != nil && g.live {
		if changes, err = changesOf(b); err != nil {
			return err
		}
	}
	if err := r.commitBatch(ctx, g, b, directory, changes); err != nil {
		if len(commits) == 1 {
			return fmt.Errorf("commit %d (%s): %w", last.At.Seq, last.ID, err)
		}
		return err
	}
	g.at = checkpoint{Checkpoint: last.At, directory: directory, time: last.Time}
	r.metrics.applied(p, g, b, time.Since(start))
	if changes != nil {
		r.publishAll(ctx, changes)
	}
	return nil
}

// commitBatch writes rows and checkpoint, and reads back what live readers are told. Errors: errOvertaken, awayError; any
// other means that a statement was refused.
func (r *Runner) commitBatch(ctx context.Context, g *group, b *Batch, directory uint64, changes *changes) error {
	var q pgx.Batch
	for _, p := range g.projections {
		if err := p.Apply(b, &q); err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
	}
	if changes != nil {
		changes.queue(&q)
	}
	conn, err := r.db.Acquire(ctx)
	if err != nil {
		return away("the database", err)
	}
	defer conn.Release()
	err = pgx.BeginTxFunc(ctx, conn, beginBatch, func(tx pgx.Tx) error {
		// First the checkpoint: its row lock makes a second projector wait here, and then find it moved.
		if err := r.advance(ctx, tx, *g, b, directory); err != nil {
			return err
		}
		return r.send(ctx, tx, b, &q)
	})
	if errors.Is(err, errOvertaken) {
		return err
	}
	return dbError(err, conn.Conn().IsClosed())
}

// send sends what is queued, and then the steps that follow from it.
func (r *Runner) send(ctx context.Context, tx pgx.Tx, b *Batch, q *pgx.Batch) error {
	for more := true; more; {
		for _, queued := range q.QueuedQueries {
			var err error
			if queued.SQL, err = r.tables.retarget(queued.SQL); err != nil {
				return err
			}
		}
		if err := tx.SendBatch(ctx, q).Close(); err != nil {
			return err
		}
		var err error
		q = &pgx.Batch{}
		if more, err = b.takeNext(q); err != nil {
			return err
		}
	}
	return nil
}

// readNames returns what stands in a directory after sequence after up to last, oldest first. A record that is not there
// any more was forgotten. Errors: ErrChainBroken when the directory ends before last.
func readNames(ctx context.Context, log eventstore.Log, after, last uint64) ([]eventstore.Name, error) {
	var names []eventstore.Name
	log = remoteLog{log, "the directory"}
	for seq := after + 1; seq <= last; seq++ {
		record, err := log.Get(ctx, seq)
		if errors.Is(err, eventstore.ErrNoRecord) {
			end, err := log.Last(ctx)
			if err != nil {
				return nil, err
			}
			if end < last {
				return nil, fmt.Errorf("%w: it needs the names up to %d, but the directory ends at %d: restore the directory",
					eventstore.ErrChainBroken, last, end)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		some, err := eventstore.DecodeNames(record)
		if err != nil {
			return nil, fmt.Errorf("directory record %d: %w", seq, err)
		}
		names = append(names, some...)
	}
	return names, nil
}
