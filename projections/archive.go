package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// Archive is a ledger as an Archiver copied it: an eventstore.Store to read from, also when the journal is gone. What would
// write to it fails with ErrArchiveReadOnly.
type Archive struct {
	db   *pgxpool.Pool
	info eventstore.LedgerInfo
}

// ErrArchiveReadOnly: the archive grows by what the journal holds, and by nothing else.
var ErrArchiveReadOnly = errors.New("the archive can only be read")

const archiveLedgerSelect = `SELECT ledger_id, partitions, created_at FROM archive.ledger`

// OpenArchive returns the archive of db. Errors: eventstore.ErrNoLedger when nothing was archived there yet.
func OpenArchive(ctx context.Context, db *pgxpool.Pool) (*Archive, error) {
	a := &Archive{db: db}
	err := db.QueryRow(ctx, archiveLedgerSelect).Scan(&a.info.ID, &a.info.Partitions, &a.info.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) || isUndefinedTable(err) {
		return nil, fmt.Errorf("%w: nothing is archived in this database", eventstore.ErrNoLedger)
	}
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	a.info.CreatedAt = a.info.CreatedAt.UTC()
	return a, nil
}

// Info implements eventstore.Store.
func (a *Archive) Info() eventstore.LedgerInfo { return a.info }

// Journal implements eventstore.Store: eventstore.ReadCommits checks its chain as it does that of the journal.
func (a *Archive) Journal(p eventstore.Partition) eventstore.Log {
	return archiveLog{db: a.db, partition: p, read: archiveCommitsRead, last: archiveCommitsLast, get: archiveCommitsGet, record: commitRecord}
}

// Directory implements eventstore.Store. Records that were erased are left out.
func (a *Archive) Directory(p eventstore.Partition) eventstore.Log {
	return archiveLog{db: a.db, partition: p, read: archiveNamesRead, last: archiveNamesLast, get: archiveNamesGet, record: namesRecord}
}

// Owner implements eventstore.Store: nobody owns an archive.
func (a *Archive) Owner(eventstore.Partition) eventstore.Register { return noOwner{} }

// TenantSlice is all events of a tenant in one commit.
type TenantSlice struct {
	Commit      uint64 // its sequence in the tenant's partition
	CommitID    string
	Time        time.Time // of the commit
	Index       int       // of the first event in the commit, from 0
	First, Last uint64    // versions of the first and the last event
	// Stored is the events as stored, with the commas between them.
	Stored []byte
}

// Decode returns the events. Errors: those of eventstore.Commit.Decode.
func (s TenantSlice) Decode() (eventstore.Slice, error) {
	body := append(append([]byte{'['}, s.Stored...), ']')
	slices, err := eventstore.Commit{Body: body}.Decode()
	switch {
	case err != nil:
		return eventstore.Slice{}, fmt.Errorf("commit %d (%s): %w", s.Commit, s.CommitID, err)
	case len(slices) != 1:
		return eventstore.Slice{}, fmt.Errorf("commit %d (%s): %d slices instead of 1", s.Commit, s.CommitID, len(slices))
	}
	return slices[0], nil
}

const archiveTenantRead = `
	SELECT s.seq, c.id::text, c.time, s.index, s.first, s.last, substr(c.body, s.start + 1, s.length)
	FROM archive.slices s JOIN archive.commits c USING (partition, seq)
	WHERE s.tenant_id = $1 AND s.first > $2
	ORDER BY s.first LIMIT $3`

// ReadTenant calls f with each slice of a tenant's events after a version, in order, up to the end of the archive. It reads the
// commits that hold them and no others. It returns the error of f, or of the database.
//
// It checks that no version is left out: eventstore.ErrChainBroken. That the bytes are those that were stored is for the
// tenant's own chain to tell.
func (a *Archive) ReadTenant(ctx context.Context, tenant domain.TenantID, after uint64, f func(TenantSlice) error) error {
	var first bool
	for read := archivePage; read == archivePage; first = true {
		rows, err := a.db.Query(ctx, archiveTenantRead, tenant, after, archivePage)
		if err != nil {
			return err
		}
		read = 0
		var s TenantSlice
		_, err = pgx.ForEachRow(rows, []any{&s.Commit, &s.CommitID, &s.Time, &s.Index, &s.First, &s.Last, &s.Stored}, func() error {
			// after may stand within the first slice.
			if s.First != after+1 && (first || read > 0 || after == 0) {
				return fmt.Errorf("%w: after version %d of %s the archive has version %d, in commit %d", eventstore.ErrChainBroken, after, tenant, s.First, s.Commit)
			}
			read, after, s.Time = read+1, s.Last, s.Time.UTC()
			return f(s)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const slicesRead = `
	SELECT seq, index, first, last, archive.stored(first) FROM archive.slices
	WHERE tenant_id = $1 AND first > $2 ORDER BY first LIMIT $3`

// ReadSlices returns at most limit slices of a tenant's events after a version, in order, without id and time of their commits. The
// transaction's app.tenant has to name the tenant: so a role may call it that may not read the commits.
func ReadSlices(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, after uint64, limit int) ([]TenantSlice, error) {
	rows, err := tx.Query(ctx, slicesRead, tenant, after, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s TenantSlice, err error) {
		err = row.Scan(&s.Commit, &s.Index, &s.First, &s.Last, &s.Stored)
		return s, err
	})
}

// ArchivedTo returns the version up to which a tenant's events are archived; 0: none is.
func ArchivedTo(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) (version uint64, err error) {
	err = tx.QueryRow(ctx, `SELECT coalesce((SELECT last FROM archive.slices WHERE tenant_id = $1 ORDER BY first DESC LIMIT 1), 0)`, tenant).Scan(&version)
	return version, err
}

const archiveTenantCommits = `
	SELECT coalesce((SELECT max(seq) FROM archive.commits WHERE partition = $2), 0),
		ARRAY(SELECT seq FROM archive.slices WHERE tenant_id = $1 ORDER BY first)`

// TenantCommits returns which commits of its partition hold events of a tenant, in order, and up to which commit that is known. A commit whose
// events cannot be read is not among them.
func (a *Archive) TenantCommits(ctx context.Context, tenant domain.TenantID) (commits []uint64, upTo uint64, err error) {
	err = a.db.QueryRow(ctx, archiveTenantCommits, tenant, a.info.PartitionOf(tenant)).Scan(&upTo, &commits)
	return commits, upTo, err
}

// archivePage is how many rows one statement reads: none is open for long.
const archivePage = 1000

// archiveLog is one log of an Archive.
type archiveLog struct {
	db              *pgxpool.Pool
	partition       eventstore.Partition
	read, last, get string
	record          func(row pgx.CollectableRow) (seq uint64, r eventstore.Record, err error)
}

const (
	archiveCommitsColumns = `seq, id::text, epoch, prev, directory, body`
	archiveCommitsRead    = `SELECT ` + archiveCommitsColumns + ` FROM archive.commits WHERE partition = $1 AND seq > $2 ORDER BY seq LIMIT $3`
	archiveCommitsGet     = `SELECT ` + archiveCommitsColumns + ` FROM archive.commits WHERE partition = $1 AND seq = $2`
	archiveCommitsLast    = `SELECT coalesce(max(seq), 0) FROM archive.commits WHERE partition = $1`
)

func commitRecord(row pgx.CollectableRow) (seq uint64, r eventstore.Record, err error) {
	var c eventstore.Commit
	var prev []byte
	if err := row.Scan(&seq, &c.ID, &c.Epoch, &prev, &c.Directory, &c.Body); err != nil {
		return 0, r, err
	}
	if len(prev) != len(c.Prev) {
		return seq, r, fmt.Errorf("commit %d of the archive: prev has %d bytes", seq, len(prev))
	}
	c.Prev = eventstore.Hash(prev)
	return seq, c.Record(), nil
}

const (
	archiveNamesRead = `SELECT seq, id, header, body FROM archive.names WHERE partition = $1 AND seq > $2 AND body IS NOT NULL ORDER BY seq LIMIT $3`
	archiveNamesGet  = `SELECT seq, id, header, body FROM archive.names WHERE partition = $1 AND seq = $2 AND body IS NOT NULL`
	archiveNamesLast = `SELECT coalesce(max(seq), 0) FROM archive.names WHERE partition = $1`
)

func namesRecord(row pgx.CollectableRow) (seq uint64, r eventstore.Record, err error) {
	err = row.Scan(&seq, &r.ID, &r.Header, &r.Body)
	return seq, r, err
}

// archivePoll is how often a reader that has read everything looks for more.
const archivePoll = 100 * time.Millisecond

// Read implements eventstore.Log.
func (l archiveLog) Read(ctx context.Context, after uint64, f func(uint64, eventstore.Record) error) error {
	for {
		rows, err := l.db.Query(ctx, l.read, l.partition, after, archivePage)
		if err != nil {
			return err
		}
		read := 0
		err = eachRow(rows, func(row pgx.CollectableRow) error {
			seq, r, err := l.record(row)
			if err != nil {
				return err
			}
			read, after = read+1, seq
			return f(seq, r)
		})
		rows.Close()
		if err != nil {
			return err
		}
		if read < archivePage {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(archivePoll):
			}
		}
	}
}

// Last implements eventstore.Log.
func (l archiveLog) Last(ctx context.Context) (seq uint64, err error) {
	err = l.db.QueryRow(ctx, l.last, l.partition).Scan(&seq)
	return seq, err
}

// Get implements eventstore.Log.
func (l archiveLog) Get(ctx context.Context, seq uint64) (eventstore.Record, error) {
	rows, err := l.db.Query(ctx, l.get, l.partition, seq)
	if err != nil {
		return eventstore.Record{}, err
	}
	r, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (eventstore.Record, error) {
		_, r, err := l.record(row)
		return r, err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return r, eventstore.ErrNoRecord
	}
	return r, err
}

// Append implements eventstore.Log.
func (archiveLog) Append(eventstore.Place, eventstore.Record) <-chan error {
	outcome := make(chan error, 1)
	outcome <- ErrArchiveReadOnly
	return outcome
}

// Erase implements eventstore.Log.
func (archiveLog) Erase(context.Context, uint64) error { return ErrArchiveReadOnly }

// InFlightMax implements eventstore.Log.
func (archiveLog) InFlightMax() int { return 1 }

// noOwner is the record of a partition that cannot be owned.
type noOwner struct{}

// Read implements eventstore.Register.
func (noOwner) Read(context.Context) ([]byte, uint64, error) { return nil, 0, nil }

// Write implements eventstore.Register.
func (noOwner) Write(context.Context, []byte, uint64) (uint64, error) { return 0, ErrArchiveReadOnly }
