package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// RebuildOptions is what Rebuild needs.
type RebuildOptions struct {
	// DB is the database as the owner of the schema "read".
	DB *pgxpool.Pool
	// Store is the journal, or the archive.
	Store eventstore.Store
	// Projections is what to rebuild; nil means all. Those that they count on come along.
	Projections []string
	// AcceptDifferences flips although rows differ from those of the running version: because it was wrong.
	AcceptDifferences bool
	// NoCompare builds up to the end of Store, wherever the running version stands, and flips: for a journal that lost commits.
	NoCompare bool
	// BatchMax is how many events one transaction applies. 0 means 40,000.
	BatchMax int
	// Log; nil means slog.Default.
	Log *slog.Logger
	// Progress is called with what is being done, and how many of how many commits or tables are done; nil: nobody asks.
	Progress func(step string, done, total uint64)
}

// Rebuilt is what Rebuild or Rollback did.
type Rebuilt struct {
	Version, Was int      // of the read models: now, and before
	Projections  []string // that were flipped
	Commits      uint64   // that the new version stands at, over all partitions
	Tables       []ComparedTable
}

// ComparedTable is a table of both versions at the same position.
type ComparedTable struct {
	Name          string
	Running, Made int64    // rows
	Differ        bool     // their checksums
	OnlyRunning   []string // examples of rows, at most differencesShown of each
	OnlyMade      []string
}

var (
	// ErrRowsDiffer: the version that was made has other rows than the running one at the same position. Nothing was flipped.
	ErrRowsDiffer = errors.New("the rows differ from those of the running version")
	// ErrRebuilding: another rebuild is at work.
	ErrRebuilding = errors.New("another rebuild is at work on this database")
	// ErrNoOldVersion: there is nothing to roll back to.
	ErrNoOldVersion = errors.New("no old version of the read models is kept")
)

const (
	rebuildBatch     = 40_000
	differencesShown = 5
	// rebuildLock is the advisory lock of the one rebuild of a database.
	rebuildLock = 0x6c656467_72656275
)

// Rebuild makes a new version of read models next to the running one, compares the two at the same position, and flips to the
// new one in one transaction. Projectors and queries may run meanwhile and notice nothing but a moment's wait at the flip.
// The old version is kept until the next rebuild: Rollback flips back.
//
// It may die at any moment: what it made so far is nobody's, and the next Rebuild drops it.
//
// Errors: ErrRowsDiffer, with the Rebuilt that says how; ErrRebuilding; ErrNoProjection; those of Runner.CatchUp.
func Rebuild(ctx context.Context, o RebuildOptions) (Rebuilt, error) {
	b, err := newRebuild(ctx, o)
	if err != nil {
		return Rebuilt{}, err
	}
	defer b.close()
	if err := b.choose(o.Projections); err != nil {
		return Rebuilt{}, err
	}
	if err := b.dropOthers(ctx); err != nil {
		return Rebuilt{}, err
	}
	if err := b.create(ctx); err != nil {
		return Rebuilt{}, fmt.Errorf("make the tables of version %d: %w", b.version, err)
	}
	return b.run(ctx)
}

// Rollback flips back to the version before, after it has caught up with what happened since. It does not mind that rows
// differ: that is why one rolls back. Errors: ErrNoOldVersion; those of Rebuild.
func Rollback(ctx context.Context, o RebuildOptions) (Rebuilt, error) {
	b, err := newRebuild(ctx, o)
	if err != nil {
		return Rebuilt{}, err
	}
	defer b.close()
	b.o.AcceptDifferences = true
	var kept []string
	for version, note := range b.others {
		if list, ok := strings.CutPrefix(note, noteKept); ok {
			b.version, kept = version, strings.Split(list, ",")
		}
	}
	if kept == nil {
		return Rebuilt{}, ErrNoOldVersion
	}
	if err := b.choose(kept); err != nil {
		return Rebuilt{}, err
	}
	return b.run(ctx)
}

// DropOld drops the old version that a rebuild kept, and what a rebuild that died left behind.
func DropOld(ctx context.Context, db *pgxpool.Pool) error {
	b, err := newRebuild(ctx, RebuildOptions{DB: db})
	if err != nil {
		return err
	}
	defer b.close()
	return b.dropOthers(ctx)
}

// rebuild is one that is at work.
type rebuild struct {
	o       RebuildOptions
	lock    *pgxpool.Conn // has the advisory lock
	was     int           // the running version
	version int           // the one that is made
	others  map[int]string
	catalog []string // tables of the schema "read", without checkpoints

	projections []Projection
	tables      []string
	maker       *Runner
	rows        *pgxpool.Pool // as the projector: it sees and writes rows
}

// What the comment of a schema says. That of the schema "read" is the running version.
const (
	noteRunning = "version "
	noteMaking  = "being made: "
	noteKept    = "kept: "
)

func schemaOf(version int) string { return fmt.Sprintf("read_v%d", version) }

// newRebuild takes the lock and looks what versions there are.
func newRebuild(ctx context.Context, o RebuildOptions) (_ *rebuild, err error) {
	if o.BatchMax == 0 {
		o.BatchMax = rebuildBatch
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}
	b := &rebuild{o: o, was: 1, version: 1, others: map[int]string{}}
	if b.lock, err = o.DB.Acquire(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	var mine bool
	if err := b.lock.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(rebuildLock)).Scan(&mine); err != nil {
		return nil, err
	}
	if !mine {
		return nil, ErrRebuilding
	}
	rows, err := b.lock.Query(ctx, `SELECT nspname, coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname ~ '^read(_v[0-9]+)?$'`)
	if err != nil {
		return nil, err
	}
	var name, note string
	if _, err = pgx.ForEachRow(rows, []any{&name, &note}, func() error {
		if name == "read" {
			if n, err := strconv.Atoi(strings.TrimPrefix(note, noteRunning)); err == nil {
				b.was = n
			}
			return nil
		}
		n, err := strconv.Atoi(strings.TrimPrefix(name, "read_v"))
		b.others[n] = note
		return err
	}); err != nil {
		return nil, err
	}
	b.version = b.was + 1
	for n := range b.others {
		b.version = max(b.version, n+1)
	}
	rows, err = b.lock.Query(ctx, `SELECT relname FROM pg_class WHERE relnamespace = 'read'::regnamespace AND relkind IN ('r', 'p') AND relname <> 'checkpoints' ORDER BY relname`)
	if err != nil {
		return nil, err
	}
	b.catalog, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return b, err
}

func (b *rebuild) close() {
	if b.rows != nil && b.rows != b.o.DB {
		b.rows.Close()
	}
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := b.lock.Exec(closing, `SELECT pg_advisory_unlock($1)`, int64(rebuildLock)); err == nil {
		b.lock.Release()
		return
	}
	_ = b.lock.Hijack().Close(closing) // the lock goes with its session
}

// choose takes the projections of these names, and those that they count on.
func (b *rebuild) choose(names []string) error {
	if err := CheckNames(names); err != nil {
		return err
	}
	chosen := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		chosen[name] = true
		for _, p := range All() {
			if reads, ok := p.(interface{ CountsOn() []string }); ok && p.Name() == name {
				for _, other := range reads.CountsOn() {
					add(other)
				}
			}
		}
	}
	for _, p := range All() {
		if names == nil || slices.Contains(names, p.Name()) {
			add(p.Name())
		}
	}
	for _, p := range All() {
		if chosen[p.Name()] {
			b.projections = append(b.projections, p)
			b.tables = append(b.tables, tablesOf(p, b.catalog)...)
		}
	}
	return nil
}

// tablesOf returns the tables of a projection: those that it says, or those that have its name, or begin with it.
func tablesOf(p Projection, all []string) (tables []string) {
	if says, ok := p.(interface{ Tables() []string }); ok {
		return says.Tables()
	}
	for _, t := range all {
		if t == p.Name() || strings.HasPrefix(t, p.Name()+"_") {
			tables = append(tables, t)
		}
	}
	return tables
}

func (b *rebuild) dropOthers(ctx context.Context) error {
	for _, version := range slices.Sorted(maps.Keys(b.others)) {
		if _, err := b.lock.Exec(ctx, `DROP SCHEMA `+schemaOf(version)+` CASCADE`); err != nil {
			return err
		}
	}
	return nil
}

// run fills the tables of the version, compares, and flips.
func (b *rebuild) run(ctx context.Context) (Rebuilt, error) {
	done := Rebuilt{Version: b.was, Was: b.was, Projections: group{projections: b.projections}.names()}
	if err := b.openRows(ctx); err != nil {
		return done, err
	}
	b.maker = NewRunner(Options{DB: b.rows, Store: b.o.Store, Projections: b.projections, BatchMax: b.o.BatchMax, Log: b.o.Log})
	b.maker.tables = tablesIn(schemaOf(b.version), append(slices.Clone(b.tables), "checkpoints"))

	targets, err := b.targets(ctx, b.rows)
	if err != nil {
		return done, err
	}
	if err := b.awaitStore(ctx, targets); err != nil {
		return done, err
	}
	if err := b.bring(ctx, targets, b.o.Progress); err != nil {
		return done, err
	}
	if err := b.index(ctx); err != nil {
		return done, fmt.Errorf("make the indexes of version %d: %w", b.version, err)
	}
	if err := b.catchUp(ctx); err != nil {
		return done, err
	}
	if !b.o.NoCompare {
		if done.Tables, err = b.compare(ctx); err != nil {
			return done, fmt.Errorf("compare version %d with the running one: %w", b.version, err)
		}
		if slices.ContainsFunc(done.Tables, func(t ComparedTable) bool { return t.Differ }) && !b.o.AcceptDifferences {
			return done, ErrRowsDiffer
		}
		if err := b.catchUp(ctx); err != nil {
			return done, err
		}
	}
	if done.Commits, err = b.flip(ctx); err != nil {
		return done, fmt.Errorf("flip to version %d: %w", b.version, err)
	}
	done.Version = b.version
	return done, nil
}

// openRows opens a pool that sees all rows: of the projector's role where there is one, because row-level security binds the
// owner, too.
func (b *rebuild) openRows(ctx context.Context) error {
	b.rows = b.o.DB
	var role bool
	if err := b.lock.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, ProjectorRole).Scan(&role); err != nil || !role {
		return err
	}
	config := b.o.DB.Config()
	config.ConnConfig.RuntimeParams["role"] = ProjectorRole
	rows, err := pgxpool.NewWithConfig(ctx, config)
	if err == nil {
		b.rows = rows
	}
	return err
}

// admit lets the projector's role work in a schema that is not the running one.
func admit(schema string) string {
	return `DO $$ BEGIN
		IF EXISTS (SELECT FROM pg_roles WHERE rolname = '` + ProjectorRole + `') THEN
			GRANT USAGE ON SCHEMA ` + schema + ` TO ` + ProjectorRole + `;
			GRANT ALL ON ALL TABLES IN SCHEMA ` + schema + ` TO ` + ProjectorRole + `;
		END IF;
	END $$`
}

// standsAt is where each projection stands in each partition.
type standsAt map[eventstore.Partition]map[string]uint64

// targets returns where the running version stands, or the end of the store when that is to be reached, or nothing runs.
func (b *rebuild) targets(ctx context.Context, db querier) (standsAt, error) {
	targets := standsAt{}
	if !b.o.NoCompare {
		rows, err := db.Query(ctx, `SELECT partition, projection, seq FROM read.checkpoints WHERE projection = ANY($1) AND seq > 0`,
			group{projections: b.projections}.names())
		if err != nil {
			return nil, err
		}
		var p eventstore.Partition
		var name string
		var seq uint64
		if _, err := pgx.ForEachRow(rows, []any{&p, &name, &seq}, func() error {
			if targets[p] == nil {
				targets[p] = map[string]uint64{}
			}
			targets[p][name] = seq
			return nil
		}); err != nil || len(targets) > 0 {
			return targets, err
		}
		b.o.NoCompare = true // there is nothing to compare with
	}
	err := b.o.Store.Info().All(func(p eventstore.Partition) error {
		last, err := b.o.Store.Journal(p).Last(ctx)
		targets[p] = map[string]uint64{}
		for _, projection := range b.projections {
			targets[p][projection.Name()] = last
		}
		return err
	})
	return targets, err
}

// An archive is a moment behind the read models; a store that stays behind them is not enough.
const storeWait = 10 * time.Second

// awaitStore returns nil once the store reaches the targets. Errors: ErrChainBroken when it does not.
func (b *rebuild) awaitStore(ctx context.Context, targets standsAt) error {
	for p, ends := range targets {
		for began := time.Now(); ; {
			last, err := b.o.Store.Journal(p).Last(ctx)
			if err != nil {
				return err
			}
			name := slices.MaxFunc(slices.Collect(maps.Keys(ends)), func(a, b string) int { return cmp.Compare(ends[a], ends[b]) })
			if ends[name] <= last {
				break
			}
			if time.Since(began) > storeWait {
				return fmt.Errorf("%w: partition %d ends at %d in what this is built from, but %s stands at %d: build it from the journal; or, if what is missing is lost, see ledger rebuild --no-compare",
					eventstore.ErrChainBroken, p, last, name, ends[name])
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(archivePoll):
			}
		}
	}
	return nil
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// bring applies commits up to the targets.
func (b *rebuild) bring(ctx context.Context, targets standsAt, progress func(string, uint64, uint64)) error {
	all, running := errgroup.WithContext(ctx)
	for p, ends := range targets {
		all.Go(func() error {
			return b.maker.follow(running, p, func(name string) uint64 { return ends[name] })
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- all.Wait() }()
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ticks.C:
			var done, total uint64
			for p, ends := range targets {
				at := b.maker.metrics.reached(p)
				end := uint64(0)
				for _, seq := range ends {
					end = max(end, seq)
				}
				done, total = done+min(at, end), total+end
			}
			progress("building", done, total)
		}
	}
}

// A version that is this close to the running one can overtake it while that waits.
const (
	closeCommits = 100
	catchUpMax   = 20
)

// catchUp brings the version close to the running one, which goes on.
func (b *rebuild) catchUp(ctx context.Context) error {
	before := uint64(math.MaxUint64)
	for range catchUpMax {
		targets, err := b.targets(ctx, b.rows)
		if err != nil {
			return err
		}
		var left uint64
		for p, ends := range targets {
			at := b.maker.metrics.reached(p)
			for _, end := range ends {
				left = max(left, max(end, at)-at)
			}
		}
		if err := b.bring(ctx, targets, func(string, uint64, uint64) {}); err != nil {
			return err
		}
		if left <= closeCommits || left >= before {
			return nil
		}
		before = left
	}
	return nil
}

// frozen brings the version to exactly where the running one stands, which waits meanwhile, and calls f. Queries do not wait.
func (b *rebuild) frozen(ctx context.Context, f func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, b.o.DB, func(tx pgx.Tx) error {
		// Should this process hang, the projector goes on.
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '60s'; LOCK TABLE read.checkpoints IN EXCLUSIVE MODE`); err != nil {
			return err
		}
		targets, err := b.targets(ctx, tx)
		if err != nil {
			return err
		}
		if err := b.bring(ctx, targets, func(string, uint64, uint64) {}); err != nil {
			return err
		}
		return f(tx)
	})
}

// compare compares all tables in one snapshot, in which both versions stand at the same position.
func (b *rebuild) compare(ctx context.Context) (compared []ComparedTable, err error) {
	snapshot, err := b.rows.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer func() { _ = snapshot.Rollback(context.WithoutCancel(ctx)) }()
	if err := b.frozen(ctx, func(pgx.Tx) error {
		// The first statement takes the snapshot.
		var apart int
		err := snapshot.QueryRow(ctx, b.maker.tables.sql(`SELECT count(*) FROM read.checkpoints`)+` m
			JOIN read.checkpoints r USING (projection, partition) WHERE (m.seq, m.hash) <> (r.seq, r.hash)`).Scan(&apart)
		if err == nil && apart > 0 {
			err = fmt.Errorf("%w: %d checkpoints differ: the read models were not made from this journal; see ledger rebuild --no-compare", eventstore.ErrChainBroken, apart)
		}
		return err
	}); err != nil {
		return nil, err
	}
	for i, table := range b.tables {
		b.o.Progress("comparing", uint64(i), uint64(len(b.tables)))
		c := ComparedTable{Name: table}
		var sums [2]string
		for j, schema := range []string{"read", schemaOf(b.version)} {
			// A checksum that does not mind the order of rows.
			err := snapshot.QueryRow(ctx, `SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM `+schema+`.`+table+` t`).
				Scan([]any{&c.Running, &c.Made}[j], &sums[j])
			if err != nil {
				return nil, err
			}
		}
		if c.Differ = c.Running != c.Made || sums[0] != sums[1]; c.Differ {
			here, there := "read."+table, schemaOf(b.version)+"."+table
			if c.OnlyRunning, err = onlyIn(ctx, snapshot, here, there); err != nil {
				return nil, err
			}
			if c.OnlyMade, err = onlyIn(ctx, snapshot, there, here); err != nil {
				return nil, err
			}
		}
		compared = append(compared, c)
	}
	return compared, nil
}

// onlyIn returns examples of rows that one table has and another does not.
func onlyIn(ctx context.Context, tx pgx.Tx, one, other string) ([]string, error) {
	rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT t::text FROM %s t EXCEPT SELECT t::text FROM %s t ORDER BY 1 LIMIT %d`, one, other, differencesShown))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// flipTries is how often the flip tries to get past the queries that run.
const flipTries = 20

// flip swaps the tables, in one transaction, at the position that both versions stand at. It returns how many commits that is.
//
// Every query reads read.checkpoints first, so whoever has that table for itself knows that no query is in the middle: those that
// run have ended, and those that come wait, holding nothing. A query whose snapshot is older than the flip, and which then reads
// the new tables, sees in them what the old ones had: they were brought to this position in transactions that ended before
// anybody had to wait.
func (b *rebuild) flip(ctx context.Context) (commits uint64, err error) {
	for try := 1; ; try++ {
		err := b.frozen(ctx, func(tx pgx.Tx) (err error) {
			if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '1s'; LOCK TABLE read.checkpoints IN ACCESS EXCLUSIVE MODE`); err != nil {
				return err
			}
			commits, err = b.swap(ctx, tx)
			return err
		})
		var refused *pgconn.PgError
		if try < flipTries && errors.As(err, &refused) && (refused.Code == lockNotAvailable || refused.Code == deadlockDetected) {
			b.o.Log.InfoContext(ctx, "a query runs for long; trying to flip again", "try", try, "error", err)
			if err := b.catchUp(ctx); err != nil {
				return 0, err
			}
			continue
		}
		return commits, err
	}
}

const (
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"
)

// swap is the statements of a flip.
func (b *rebuild) swap(ctx context.Context, tx pgx.Tx) (commits uint64, err error) {
	made, old, names := schemaOf(b.version), schemaOf(b.was), group{projections: b.projections}.names()
	for _, table := range b.tables {
		running, err := describe(ctx, tx, "read", table)
		if err != nil {
			return 0, err
		}
		if is, err := describe(ctx, tx, made, table); err != nil || is != running {
			return 0, errors.Join(err, fmt.Errorf("the table %s is not what the running one is by now; was the schema migrated meanwhile? Rebuild again.\nrunning: %s\nmade: %s", table, running, is))
		}
	}
	statements := []string{
		`CREATE SCHEMA ` + old,
		// Where the old version stands, should it have to go on from there.
		`CREATE TABLE ` + old + `.checkpoints (LIKE read.checkpoints INCLUDING ALL)`,
		`INSERT INTO ` + old + `.checkpoints SELECT * FROM read.checkpoints WHERE projection = ANY('{` + strings.Join(names, ",") + `}')`,
		`UPDATE ` + old + `.checkpoints SET parked_at = NULL, parked_because = NULL`,
	}
	for _, table := range b.tables {
		statements = append(statements, `ALTER TABLE read.`+table+` SET SCHEMA `+old, `ALTER TABLE `+made+`.`+table+` SET SCHEMA read`)
	}
	statements = append(statements,
		`INSERT INTO read.checkpoints (projection, partition, ledger_id, seq, hash, directory_seq, commit_time, updated_at)
			SELECT projection, partition, ledger_id, seq, hash, directory_seq, commit_time, updated_at FROM `+made+`.checkpoints
			ON CONFLICT (projection, partition) DO UPDATE SET ledger_id = excluded.ledger_id, seq = excluded.seq, hash = excluded.hash,
				directory_seq = excluded.directory_seq, commit_time = excluded.commit_time, updated_at = excluded.updated_at`,
		`DROP SCHEMA `+made+` CASCADE`,
		`COMMENT ON SCHEMA `+old+` IS '`+noteKept+strings.Join(names, ",")+`'`,
		`COMMENT ON SCHEMA read IS '`+noteRunning+strconv.Itoa(b.version)+`'`,
		admit(old),
		secureSQL, // the tables of the new version are open to the projector only so far
	)
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return 0, fmt.Errorf("%s: %w", statement, err)
		}
	}
	err = tx.QueryRow(ctx, `SELECT sum(seq)::bigint FROM (SELECT max(seq) AS seq FROM read.checkpoints WHERE projection = ANY($1) GROUP BY partition) c`, names).Scan(&commits)
	return commits, err
}
