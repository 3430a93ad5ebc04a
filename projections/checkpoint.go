package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// checkpoint is where a projection stands in one partition.
type checkpoint struct {
	eventstore.Checkpoint
	directory uint64    // the names up to here belong to the commits up to Seq
	time      time.Time // of the commit; zero before the first
	parked    bool      // it stays here until a person says otherwise
}

const checkpointsInsert = `
	INSERT INTO read.checkpoints (projection, partition, ledger_id, seq, hash, directory_seq, updated_at)
	SELECT p, $2, $3, 0, $4, 0, clock_timestamp() FROM unnest($1::text[]) AS p
	ON CONFLICT DO NOTHING`

const checkpointsSelect = `
	SELECT projection, ledger_id, seq, hash, directory_seq, coalesce(commit_time, '0001-01-01Z'), parked_at IS NOT NULL
	FROM read.checkpoints WHERE partition = $2 AND projection = ANY($1)`

// checkpointsAdvance claims the commits after ($4, $5) up to ($6, $7) for the projections $1. When it changes fewer rows
// than there are projections, another projector got there first: roll back. The rows are locked in one order, so that two
// projectors wait for each other instead of deadlocking.
const checkpointsAdvance = `
	WITH mine AS (
		SELECT projection FROM read.checkpoints
		WHERE partition = $2 AND projection = ANY($1) AND ledger_id = $3 AND seq = $4 AND hash = $5 AND parked_at IS NULL
		ORDER BY projection FOR UPDATE
	)
	UPDATE read.checkpoints c
	SET seq = $6, hash = $7, directory_seq = $8, commit_time = $9, updated_at = clock_timestamp()
	FROM mine WHERE c.partition = $2 AND c.projection = mine.projection`

// CheckJournal compares the checkpoints with the journal before anything is added to it: a journal that was rolled back, or
// another one in its place, must not grow. The read models and the archive are independent witnesses of how long it was. It writes
// nothing.
//
// Errors: eventstore.ErrChainBroken, with what was found and what to do.
func (r *Runner) CheckJournal(ctx context.Context) error {
	return r.store.Info().All(func(p eventstore.Partition) error {
		stands, err := r.readCheckpoints(ctx, p)
		if err != nil {
			return err
		}
		names, err := r.store.Directory(p).Last(ctx)
		if err != nil {
			return err
		}
		for name, at := range stands {
			if err := at.Verify(ctx, r.store.Journal(p)); err != nil {
				return fmt.Errorf("partition %d, as the read model %s knows it: %w", p, name, err)
			}
			if names < at.directory {
				return fmt.Errorf("%w: the directory of partition %d ends at %d, but the read model %s has read up to %d: names were lost; restore the journal's data from a backup",
					eventstore.ErrChainBroken, p, names, name, at.directory)
			}
		}
		archived, err := readArchiveEnd(ctx, r.db, r.store.Info().ID, p)
		if err != nil {
			return err
		}
		if err := archived.commit.Verify(ctx, r.store.Journal(p)); err != nil {
			return fmt.Errorf("partition %d, as the archive knows it (ledger restore makes a journal of the archive): %w", p, err)
		}
		if names < archived.names {
			return fmt.Errorf("%w: the directory of partition %d ends at %d, but was archived up to %d: names were lost; ledger restore brings them back",
				eventstore.ErrChainBroken, p, names, archived.names)
		}
		return nil
	})
}

// KnownLedger returns the id of the ledger that the read models of db were read from, or that is archived there; empty when nothing
// was ever read.
func KnownLedger(ctx context.Context, db *pgxpool.Pool) (id string, err error) {
	for _, known := range []string{`SELECT ledger_id FROM read.checkpoints LIMIT 1`, `SELECT ledger_id FROM archive.ledger`} {
		err = db.QueryRow(ctx, known).Scan(&id)
		if !errors.Is(err, pgx.ErrNoRows) && !isUndefinedTable(err) {
			return id, err
		}
	}
	return "", nil
}

// loadCheckpoints is readCheckpoints, with new projections at the beginning.
func (r *Runner) loadCheckpoints(ctx context.Context, p eventstore.Partition) (map[string]checkpoint, error) {
	names := group{projections: r.projections}.names()
	var none eventstore.Hash
	if _, err := r.db.Exec(ctx, r.tables.sql(checkpointsInsert), names, p, r.store.Info().ID, none[:]); err != nil {
		return nil, err
	}
	return r.readCheckpoints(ctx, p)
}

// readCheckpoints returns where each projection stands that ever did, by name. Errors: ErrChainBroken when it is in another ledger.
func (r *Runner) readCheckpoints(ctx context.Context, p eventstore.Partition) (map[string]checkpoint, error) {
	ledger, names := r.store.Info().ID, group{projections: r.projections}.names()
	rows, err := r.db.Query(ctx, r.tables.sql(checkpointsSelect), names, p)
	if err != nil {
		return nil, err
	}
	found := map[string]checkpoint{}
	var name, rowLedger string
	var hash []byte
	var c checkpoint
	_, err = pgx.ForEachRow(rows, []any{&name, &rowLedger, &c.Seq, &hash, &c.directory, &c.time, &c.parked}, func() error {
		if rowLedger != ledger {
			return fmt.Errorf("%w: the read models are of the ledger %s, the journal is of %s: "+
				"connect the right database, or, if the journal is the right one, drop the schema %q and table %s and start again",
				eventstore.ErrChainBroken, rowLedger, ledger, "read", migrationsTable)
		}
		c.Hash = eventstore.Hash(hash)
		found[name] = c
		return nil
	})
	return found, err
}

// advance is the first statement of a batch's transaction. Errors: errOvertaken.
func (r *Runner) advance(ctx context.Context, tx pgx.Tx, g group, b *Batch, directory uint64) error {
	last := b.Last()
	tag, err := tx.Exec(ctx, r.tables.sql(checkpointsAdvance), g.names(), b.Partition, r.store.Info().ID, b.From.Seq, b.From.Hash[:],
		last.At.Seq, last.At.Hash[:], directory, last.Time)
	if err == nil && tag.RowsAffected() != int64(len(g.projections)) {
		err = errOvertaken
	}
	return err
}

// group is projections that stand at the same place.
type group struct {
	projections []Projection
	at          checkpoint
	// until is where the next projections stand, who are waiting for these, or where these end; forever when neither is so.
	until uint64
	// live says that these are all that are not parked.
	live bool
}

func (g group) names() []string {
	names := make([]string, len(g.projections))
	for i, p := range g.projections {
		names[i] = p.Name()
	}
	return names
}

// lagging returns the projections that are furthest behind. Errors: ErrChainBroken when two stand at the same commit with
// different hashes: one of them read another journal.
func lagging(projections []Projection, at map[string]checkpoint) (group, error) {
	g := group{until: forever}
	for _, p := range projections {
		c := at[p.Name()]
		switch {
		case len(g.projections) == 0 || c.Seq < g.at.Seq:
			if len(g.projections) > 0 {
				g.until = g.at.Seq
			}
			g.projections, g.at = []Projection{p}, c
		case c.Seq > g.at.Seq:
			g.until = min(g.until, c.Seq)
		case c.Hash != g.at.Hash:
			return group{}, fmt.Errorf("%w: the checkpoints of %s and %s at commit %d have different hashes: rebuild the read models",
				eventstore.ErrChainBroken, g.projections[0].Name(), p.Name(), c.Seq)
		default:
			g.projections = append(g.projections, p)
		}
	}
	return g, nil
}
