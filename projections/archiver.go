package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// Archiver copies the journal and the directories into the schema "archive", byte by byte, behind the read models and
// independent of them.
//
// Guarantees:
//   - What it has copied is on the disk of Postgres (synchronous_commit = on), in transactions of its own. Its last row is its
//     checkpoint.
//   - It copies a commit only when it follows from the one before, by sequence and hash, and after the names that it needs.
//   - It adds and never changes, with one exception: the body of a directory's record that was erased, because a person was forgotten, is
//     erased here as well.
//   - It stores what it cannot read: bytes are bytes. Such a commit is in no tenant's slices, and is counted and logged.
type Archiver struct {
	db    *pgxpool.Pool
	store eventstore.Store
	log   *slog.Logger

	copied, unreadable *prometheus.CounterVec
	lag                *prometheus.GaugeVec
}

// NewArchiver returns an Archiver that does nothing until Run. log and registerer may be nil.
func NewArchiver(db *pgxpool.Pool, store eventstore.Store, log *slog.Logger, registerer prometheus.Registerer) *Archiver {
	if log == nil {
		log = slog.Default()
	}
	a := &Archiver{
		db: db, store: store, log: log,
		copied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledger_archive_commits_total", Help: "Commits copied to the archive.",
		}, []string{"partition"}),
		unreadable: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledger_archive_unreadable_total", Help: "Commits copied whose events cannot be read: they are in no tenant's slices.",
		}, []string{"partition"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ledger_archive_lag_commits", Help: "Commits in the journal that are not in the archive yet: what losing the journal now would lose.",
		}, []string{"partition"}),
	}
	if registerer != nil {
		registerer.MustRegister(a.copied, a.unreadable, a.lag)
	}
	return a
}

// Run copies what comes until ctx ends; then it returns nil. While the database or the journal is away it waits for it.
//
// Errors, each of which needs a person: eventstore.ErrChainBroken, when the journal is not the one that was archived.
func (a *Archiver) Run(ctx context.Context) error {
	all, running := errgroup.WithContext(ctx)
	for p := range a.store.Info().Partitions {
		all.Go(func() error { return a.follow(running, eventstore.Partition(p), forever) })
	}
	if err := all.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// CatchUp copies what the journal holds at the time of the call and returns. Errors: those of Run, and ctx.Err.
func (a *Archiver) CatchUp(ctx context.Context) error {
	all, running := errgroup.WithContext(ctx)
	for p := range a.store.Info().Partitions {
		all.Go(func() error {
			head, err := a.store.Journal(eventstore.Partition(p)).Last(running)
			if err != nil {
				return err
			}
			return a.follow(running, eventstore.Partition(p), head)
		})
	}
	return all.Wait()
}

func (a *Archiver) follow(ctx context.Context, p eventstore.Partition, end uint64) error {
	err := insist(ctx,
		func() (bool, error) { return a.round(ctx, p, end) },
		func(wait time.Duration, err error) {
			a.log.WarnContext(ctx, "archive waits", "partition", p, "retry_in", wait, "error", err)
		})
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("archive partition %d: %w", p, err)
	}
	return err
}

const (
	// archiveEvery is the time between two transactions: each waits for the disk, and nobody waits for them.
	archiveEvery = 100 * time.Millisecond
	// archiveCommitsMax and archiveBytesMax are what one of them holds at most.
	archiveCommitsMax = 4096
	archiveBytesMax   = 8 << 20
	// namesEvery is how often names are looked for that no commit needs, and records that are erased.
	namesEvery = time.Second
)

// archived is a commit that was read and is not copied yet.
type archived struct {
	at eventstore.Checkpoint
	eventstore.Commit
}

// archiveEnd is where the copies of a partition end.
type archiveEnd struct {
	commit eventstore.Checkpoint
	names  uint64
}

// round copies from where the copy ends up to end, or until something fails.
func (a *Archiver) round(ctx context.Context, p eventstore.Partition, end uint64) (copied bool, err error) {
	at, err := a.load(ctx, p)
	if err != nil {
		return false, dbError(err, !errors.Is(err, eventstore.ErrChainBroken))
	}
	ctx, stop := context.WithCancel(ctx)
	queue := make(chan archived, archiveCommitsMax)
	room := semaphore.NewWeighted(archiveBytesMax)
	var readErr error
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(queue)
		if at.commit.Seq >= end {
			readErr = errEnd
			return
		}
		readErr = eventstore.ReadCommits(ctx, remoteLog{a.store.Journal(p), "the journal"}, at.commit, func(at eventstore.Checkpoint, c eventstore.Commit) error {
			if err := room.Acquire(ctx, int64(len(c.Body))); err != nil {
				return err
			}
			queue <- archived{at, c}
			if at.Seq == end {
				return errEnd
			}
			return nil
		})
	})
	defer func() {
		stop()
		for range queue { // until the reader has ended
		}
		reading.Wait()
	}()

	ticks := time.NewTicker(namesEvery)
	defer ticks.Stop()
	for began := time.Now(); ; began = time.Now() {
		var commits []archived
		select {
		case first, ok := <-queue:
			if !ok {
				if errors.Is(readErr, errEnd) {
					// The names that are there, too.
					if err := a.copy(ctx, p, &at, nil); err != nil {
						return copied, err
					}
				}
				return copied, readErr
			}
			commits = append(commits, first)
			for more := true; more && len(commits) < archiveCommitsMax; {
				select {
				case c, ok := <-queue:
					if more = ok; ok {
						commits = append(commits, c)
					}
				default:
					more = false
				}
			}
		case <-ticks.C:
		case <-ctx.Done():
			return copied, ctx.Err()
		}
		if err := a.copy(ctx, p, &at, commits); err != nil {
			return copied, err
		}
		copied = true
		for _, c := range commits {
			room.Release(int64(len(c.Body)))
		}
		if len(commits) > 0 && len(queue) == 0 {
			select {
			case <-time.After(archiveEvery - time.Since(began)):
			case <-ctx.Done():
				return copied, ctx.Err()
			}
		}
	}
}

const (
	archiveLedgerInsert = `
		INSERT INTO archive.ledger (ledger_id, partitions, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	archiveEndSelect = `
		SELECT coalesce((SELECT max(seq) FROM archive.names WHERE partition = $1), 0), l.ledger_id, coalesce(c.seq, 0), c.hash
		FROM archive.ledger l LEFT JOIN LATERAL (
			SELECT seq, hash FROM archive.commits WHERE partition = $1 ORDER BY seq DESC LIMIT 1) c ON true`
)

// load returns where the copy ends. Errors: ErrChainBroken when it is another ledger's.
func (a *Archiver) load(ctx context.Context, p eventstore.Partition) (archiveEnd, error) {
	info := a.store.Info()
	if _, err := a.db.Exec(ctx, archiveLedgerInsert, info.ID, info.Partitions, info.CreatedAt); err != nil {
		return archiveEnd{}, err
	}
	return readArchiveEnd(ctx, a.db, info.ID, p)
}

func readArchiveEnd(ctx context.Context, db *pgxpool.Pool, ledger string, p eventstore.Partition) (at archiveEnd, err error) {
	var known string
	var hash []byte
	err = db.QueryRow(ctx, archiveEndSelect, p).Scan(&at.names, &known, &at.commit.Seq, &hash)
	switch {
	case errors.Is(err, pgx.ErrNoRows) || isUndefinedTable(err):
		return archiveEnd{}, nil
	case err != nil:
		return archiveEnd{}, err
	case known != ledger:
		return archiveEnd{}, fmt.Errorf("%w: the archive in this database is of the ledger %s, the journal is of %s: connect the right database",
			eventstore.ErrChainBroken, known, ledger)
	case at.commit.Seq > 0:
		at.commit.Hash = eventstore.Hash(hash)
	}
	return at, nil
}

// copy adds commits, and the names that the directory holds by now, in one transaction. Errors: errOvertaken, when
// another Archiver copied them.
func (a *Archiver) copy(ctx context.Context, p eventstore.Partition, at *archiveEnd, commits []archived) error {
	directory := remoteLog{a.store.Directory(p), "the directory"}
	last, err := directory.Last(ctx)
	if err != nil {
		return err
	}
	for _, c := range commits {
		if c.Directory > last {
			return fmt.Errorf("%w: commit %d needs the names up to %d, but the directory ends at %d: restore the directory",
				eventstore.ErrChainBroken, c.at.Seq, c.Directory, last)
		}
	}
	if last < at.names {
		return fmt.Errorf("%w: the directory ends at %d, but was archived up to %d: names were lost; restore it", eventstore.ErrChainBroken, last, at.names)
	}
	if len(commits) == 0 && last == at.names {
		return nil
	}
	names, erased, err := archiveNames(ctx, directory, at.names, last)
	if err != nil {
		return err
	}
	rows, slices := a.rows(p, commits)

	conn, err := a.db.Acquire(ctx)
	if err != nil {
		return away("the database", err)
	}
	defer conn.Release()
	err = pgx.BeginTxFunc(ctx, conn, beginArchive, func(tx pgx.Tx) error {
		if err := claimArchive(ctx, tx, p, *at); err != nil {
			return err
		}
		for i := range names {
			names[i][0] = p
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"archive", "names"}, []string{"partition", "seq", "id", "header", "body"}, pgx.CopyFromRows(names)); err != nil {
			return err
		}
		if len(erased) > 0 {
			if _, err := tx.Exec(ctx, archiveNamesErase, p, erased); err != nil {
				return err
			}
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"archive", "commits"},
			[]string{"partition", "seq", "id", "epoch", "directory", "prev", "hash", "time", "body"}, pgx.CopyFromRows(rows)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, archiveSlicesInsert, slices.tenants, slices.firsts, slices.lasts, p, slices.seqs, slices.indexes, slices.starts, slices.lengths)
		return err
	})
	if errors.Is(err, errOvertaken) {
		return err
	}
	if err := dbError(err, conn.Conn().IsClosed()); err != nil {
		return err
	}
	label := strconv.Itoa(int(p))
	at.names = last
	if len(commits) > 0 {
		at.commit = commits[len(commits)-1].at
		a.copied.WithLabelValues(label).Add(float64(len(commits)))
	}
	head, err := a.store.Journal(p).Last(ctx)
	if err == nil {
		a.lag.WithLabelValues(label).Set(float64(max(head, at.commit.Seq) - at.commit.Seq))
	}
	return nil
}

// beginArchive starts a transaction that is on the disk when it is committed.
var beginArchive = pgx.TxOptions{BeginQuery: "BEGIN; SET LOCAL synchronous_commit = on"}

const archiveNamesErase = `UPDATE archive.names SET body = NULL WHERE partition = $1 AND seq = ANY($2) AND body IS NOT NULL`

// archiveLock is the class of the advisory locks of archivers, by partition.
const archiveLock = 0x6c656467

// claimArchive makes another Archiver of the partition wait, and returns errOvertaken when it was the other way round.
func claimArchive(ctx context.Context, tx pgx.Tx, p eventstore.Partition, at archiveEnd) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1, $2)`, archiveLock, p); err != nil {
		return err
	}
	var commit, names uint64
	err := tx.QueryRow(ctx, `SELECT coalesce((SELECT max(seq) FROM archive.commits WHERE partition = $1), 0),
		coalesce((SELECT max(seq) FROM archive.names WHERE partition = $1), 0)`, p).Scan(&commit, &names)
	if err == nil && (commit != at.commit.Seq || names != at.names) {
		err = errOvertaken
	}
	return err
}

// Postgres takes no COPY where row-level security holds.
const archiveSlicesInsert = `
	INSERT INTO archive.slices (tenant_id, first, last, partition, seq, index, start, length)
	SELECT c.tenant_id, c.first, c.last, $4, c.seq, c.index, c.start, c.length
	FROM unnest($1::text[], $2::bigint[], $3::bigint[], $5::bigint[], $6::int[], $7::int[], $8::int[])
		AS c (tenant_id, first, last, seq, index, start, length)`

type archivedSlices struct {
	tenants                  []string
	firsts, lasts, seqs      []uint64
	indexes, starts, lengths []int
}

// rows returns the rows of commits and of the slices in them.
func (a *Archiver) rows(p eventstore.Partition, commits []archived) (rows [][]any, slices archivedSlices) {
	for _, c := range commits {
		hash := c.at.Hash
		row := []any{p, c.at.Seq, c.ID, c.Epoch, c.Directory, c.Prev[:], hash[:], nil, c.Body}
		found, err := c.Attributes()
		if err != nil {
			a.unreadable.WithLabelValues(strconv.Itoa(int(p))).Inc()
			a.log.Error("commit archived as it is: its events cannot be read", "partition", p, "seq", c.at.Seq, "commit", c.ID, "error", err)
		} else {
			row[7] = found[0].Events[0].Time
		}
		rows = append(rows, row)
		index := 0
		for _, s := range found {
			if first := s.Events[0]; s.Tenant != "" {
				slices.tenants, slices.seqs = append(slices.tenants, string(s.Tenant)), append(slices.seqs, c.at.Seq)
				slices.firsts, slices.lasts = append(slices.firsts, first.Version), append(slices.lasts, s.Events[len(s.Events)-1].Version)
				slices.indexes, slices.starts, slices.lengths = append(slices.indexes, index), append(slices.starts, s.Start), append(slices.lengths, len(s.Stored))
			}
			index += len(s.Events)
		}
	}
	return rows, slices
}

// archiveNames returns the rows of a directory's records after sequence after up to last, without the partition, and which
// earlier ones they take the place of.
func archiveNames(ctx context.Context, directory eventstore.Log, after, last uint64) (rows [][]any, erased []uint64, err error) {
	err = eachRecord(ctx, directory, after, last, func(seq uint64, r *eventstore.Record) error {
		if r == nil {
			rows = append(rows, []any{nil, seq, "", nil, nil})
			return nil
		}
		said, err := decodeDirectory(seq, *r)
		erased = append(erased, said.Replaces...)
		rows = append(rows, []any{nil, seq, r.ID, r.Header, r.Body})
		return err
	})
	return rows, erased, err
}
