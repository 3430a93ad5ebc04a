package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// prepared is a batch, and the statements that bring the rows to after it.
type prepared struct {
	*Batch
	after   checkpoint
	queued  *pgx.Batch
	changes *changes // what live readers are told; nil: nothing
	err     error    // why there are no statements
	began   time.Time
}

// prepare makes the statements for commits that follow on at. It reads nothing of the database, so that it can be done while the batch
// before is being written.
func (r *Runner) prepare(ctx context.Context, p eventstore.Partition, g group, at checkpoint, commits []Commit) prepared {
	b := prepared{Batch: &Batch{Partition: p, From: at.Checkpoint, Commits: commits}, queued: &pgx.Batch{}, began: time.Now()}
	last := b.Last()
	b.after = checkpoint{Checkpoint: last.At, directory: max(at.directory, last.Directory), time: last.Time}
	if b.Names, b.Forgotten, b.err = r.directories[p].between(ctx, at.directory, b.after.directory); b.err != nil {
		return b
	}
	for _, projection := range g.projections {
		if err := projection.Apply(b.Batch, b.queued); err != nil {
			b.err = fmt.Errorf("%s: %w", projection.Name(), err)
			return b
		}
	}
	// Live readers are told of what they can see: not of what the lagging projections catch up on.
	if r.publish != nil && g.live {
		if b.changes, b.err = changesOf(b.Batch); b.err == nil {
			b.changes.queue(b.queued)
		}
	}
	return b
}

// apply brings the group from g.at to after the batch, in one transaction. A batch of several commits that is refused is applied in two
// halves, so that those before the bad one go in and the error names it.
func (r *Runner) apply(ctx context.Context, p eventstore.Partition, g *group, b prepared) error {
	err := b.err
	if err == nil {
		err = r.write(ctx, p, g, b)
	}
	switch {
	case err == nil || isAway(err) || errors.Is(err, errOvertaken) || ctx.Err() != nil:
		return err
	case len(b.Commits) == 1 && r.mayPark(g.projections):
		return r.applyApart(ctx, p, *g, b.Commits[0], err)
	case len(b.Commits) == 1:
		return fmt.Errorf("commit %d (%s): %w", b.Last().At.Seq, b.Last().ID, err)
	}
	r.log.ErrorContext(ctx, "batch refused, applying each half of it alone", "partition", p,
		"first", b.Commits[0].At.Seq, "last", b.Last().At.Seq, "error", err)
	half := len(b.Commits) / 2
	for _, commits := range [][]Commit{b.Commits[:half], b.Commits[half:]} {
		if err := r.apply(ctx, p, g, r.prepare(ctx, p, *g, g.at, commits)); err != nil {
			return err
		}
	}
	return nil
}

// beginBatch starts the transaction of a batch. The rows and the checkpoint of a batch that was not flushed to disk are lost together
// and applied again, so no commit has to wait for the disk.
var beginBatch = pgx.TxOptions{BeginQuery: "BEGIN; SET LOCAL synchronous_commit = off"}

// write writes rows and checkpoint, and tells live readers what it read back of them. Errors: errOvertaken, awayError; any other means
// that a statement was refused.
func (r *Runner) write(ctx context.Context, p eventstore.Partition, g *group, b prepared) error {
	r.metrics.began(p, b.Commits[0].Time)
	conn, err := r.db.Acquire(ctx)
	if err != nil {
		return away("the database", err)
	}
	defer conn.Release()
	err = pgx.BeginTxFunc(ctx, conn, beginBatch, func(tx pgx.Tx) error {
		// First the checkpoint: its row lock makes a second projector wait here, and then find it moved.
		if err := r.advance(ctx, tx, *g, b.Batch, b.after.directory); err != nil {
			return err
		}
		return r.send(ctx, tx, b.Batch, b.queued)
	})
	if errors.Is(err, errOvertaken) {
		return err
	}
	if err := dbError(err, conn.Conn().IsClosed()); err != nil {
		return err
	}
	g.at = b.after
	r.metrics.applied(p, g, b.Batch, time.Since(b.began))
	if b.changes != nil {
		r.publishAll(ctx, b.changes)
	}
	return nil
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
