package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// A commit that a projection cannot apply stops the Runner, unless that projection may be parked: then it stays at the commit before,
// alone, and the others go on. Nothing is skipped: its rows are old, not wrong, and it goes on from there when a person
// says so.

// undecodableError is a commit that cannot be read.
type undecodableError struct{ error }

func (e *undecodableError) Unwrap() error { return e.error }

// mayPark reports whether one of these may be parked.
func (r *Runner) mayPark(of []Projection) bool {
	return slices.ContainsFunc(of, func(p Projection) bool { return slices.Contains(r.park, p.Name()) })
}

// checkpointsPark parks what stands at $7, at $3: before what was just applied, or where it is.
const checkpointsPark = `
	UPDATE read.checkpoints SET seq = $3, hash = $4, directory_seq = $5, commit_time = $6, updated_at = clock_timestamp(),
		parked_at = clock_timestamp(), parked_because = $8
	WHERE projection = ANY($1) AND partition = $2 AND seq = $7`

// parkIn parks a group that the database has at commit at; it goes back to where it was.
func (r *Runner) parkIn(ctx context.Context, tx pgx.Tx, p eventstore.Partition, g group, at uint64, why error) error {
	_, err := tx.Exec(ctx, r.tables.sql(checkpointsPark), g.names(), p, g.at.Seq, g.at.Hash[:], g.at.directory, present(g.at.time), at, clean(why.Error()))
	return err
}

func (r *Runner) wasParked(ctx context.Context, p eventstore.Partition, g group, why error) {
	r.log.ErrorContext(ctx, "projections parked: they stand still until `ledger projection retry`", "projections", g.names(),
		"partition", p, "after", g.at.Seq, "error", why)
}

// parkAll parks a group before a commit that none of it can read, when all of it may be; otherwise it returns why.
func (r *Runner) parkAll(ctx context.Context, p eventstore.Partition, g group, why error) error {
	for _, projection := range g.projections {
		if !r.mayPark([]Projection{projection}) {
			return why
		}
	}
	err := pgx.BeginFunc(ctx, r.db, func(tx pgx.Tx) error { return r.parkIn(ctx, tx, p, g, g.at.Seq, why) })
	if err != nil {
		return dbError(err, true)
	}
	r.wasParked(ctx, p, g, why)
	return errOvertaken
}

// applyApart applies one commit that was refused, one projection after the other, and parks those that refuse it. When one of
// them may not be parked nothing is applied, and the error is its refusal.
func (r *Runner) applyApart(ctx context.Context, p eventstore.Partition, g group, c Commit, refused error) error {
	b := &Batch{Partition: p, From: g.at.Checkpoint, Commits: []Commit{c}}
	directory := max(g.at.directory, c.Directory)
	var err error
	if b.Names, b.Forgotten, err = r.directories[p].between(ctx, g.at.directory, directory); err != nil {
		return err
	}
	parked := group{at: g.at}
	conn, err := r.db.Acquire(ctx)
	if err != nil {
		return away("the database", err)
	}
	defer conn.Release()
	err = pgx.BeginTxFunc(ctx, conn, beginBatch, func(tx pgx.Tx) error {
		if err := r.advance(ctx, tx, g, b, directory); err != nil {
			return err
		}
		for _, projection := range g.projections {
			b.next = nil
			err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				var q pgx.Batch
				if err := projection.Apply(b, &q); err != nil {
					return err
				}
				return r.send(ctx, tx, b, &q)
			})
			switch err := dbError(err, conn.Conn().IsClosed()); {
			case err == nil:
				continue
			case isAway(err) || ctx.Err() != nil:
				return err
			case !r.mayPark([]Projection{projection}):
				return fmt.Errorf("commit %d (%s): %s: %w", c.At.Seq, c.ID, projection.Name(), err)
			default:
				refused = fmt.Errorf("commit %d (%s): %s: %w", c.At.Seq, c.ID, projection.Name(), err)
				parked.projections = append(parked.projections, projection)
			}
		}
		return r.parkIn(ctx, tx, p, parked, c.At.Seq, refused)
	})
	if errors.Is(err, errOvertaken) {
		return err
	}
	if err := dbError(err, conn.Conn().IsClosed()); err != nil {
		return err
	}
	r.wasParked(ctx, p, parked, refused)
	return errOvertaken // by ourselves: the next round has fewer projections
}

// watchParked ends the round of a partition when other projections are parked than when it began.
func (r *Runner) watchParked(ctx context.Context, p eventstore.Partition) {
	at, err := r.readCheckpoints(ctx, p)
	if err != nil {
		return // the round finds out
	}
	var parked []string
	for _, projection := range r.projections {
		if at[projection.Name()].parked {
			parked = append(parked, projection.Name())
		}
	}
	r.metrics.setParked(p, at)
	r.mu.Lock()
	round := r.rounds[p]
	r.mu.Unlock()
	if round.stop != nil && !slices.Equal(round.parked, parked) {
		round.stop()
	}
}

// Standing is where a projection stands in one partition.
type Standing struct {
	Projection string
	Partition  eventstore.Partition
	Seq        uint64    // of the last commit it applied
	Time       time.Time // of that commit; zero when there is none
	Archived   uint64    // the last commit in the archive: how far the journal is, at least
	// ParkedAt is when it was parked; zero when it was not. Because is why.
	ParkedAt time.Time
	Because  string
}

const standingsSelect = `
	SELECT c.projection, c.partition, c.seq, coalesce(c.commit_time, '0001-01-01Z'),
		coalesce((SELECT max(a.seq) FROM archive.commits a WHERE a.partition = c.partition), 0),
		coalesce(c.parked_at, '0001-01-01Z'), coalesce(c.parked_because, '')
	FROM read.checkpoints c ORDER BY c.projection, c.partition`

// Standings returns where every projection stands.
func Standings(ctx context.Context, db *pgxpool.Pool) ([]Standing, error) {
	rows, err := db.Query(ctx, standingsSelect)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Standing, err error) {
		err = row.Scan(&s.Projection, &s.Partition, &s.Seq, &s.Time, &s.Archived, &s.ParkedAt, &s.Because)
		s.Time, s.ParkedAt = s.Time.UTC(), s.ParkedAt.UTC()
		return s, err
	})
}

// Park sets a projection aside in all partitions where it is not yet: a running projector goes on without it. Errors:
// ErrNoProjection.
func Park(ctx context.Context, db *pgxpool.Pool, projection, because string) (partitions int, err error) {
	return changeParked(ctx, db, projection, `
		UPDATE read.checkpoints SET parked_at = clock_timestamp(), parked_because = $2 WHERE projection = $1 AND parked_at IS NULL`, clean(because))
}

// Retry lets a projection go on from where it was parked. A running projector notices within about a second; when the commit is refused
// again, it is parked again. Errors: ErrNoProjection.
func Retry(ctx context.Context, db *pgxpool.Pool, projection string) (partitions int, err error) {
	return changeParked(ctx, db, projection, `
		UPDATE read.checkpoints SET parked_at = NULL, parked_because = NULL WHERE projection = $1 AND parked_at IS NOT NULL`)
}

// ErrNoProjection: there is no read model of this name.
var ErrNoProjection = errors.New("there is no such projection")

func changeParked(ctx context.Context, db *pgxpool.Pool, projection, sql string, args ...any) (int, error) {
	if err := CheckNames([]string{projection}); err != nil {
		return 0, err
	}
	tag, err := db.Exec(ctx, sql, append([]any{projection}, args...)...)
	return int(tag.RowsAffected()), err
}

// CheckNames returns ErrNoProjection, and which there are, when one of the names is no read model's.
func CheckNames(names []string) error {
	known := group{projections: All()}.names()
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%w: %q; there are %v", ErrNoProjection, name, known)
		}
	}
	return nil
}
