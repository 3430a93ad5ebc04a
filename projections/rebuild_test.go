package projections_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

func (f fixture) rebuild(t testing.TB, o projections.RebuildOptions) projections.Rebuilt {
	t.Helper()
	o.DB, o.Store, o.Log = f.db, f.store, quiet
	done, err := projections.Rebuild(deadline(t), o)
	if err != nil {
		t.Fatal(err, done)
	}
	return done
}

func (f fixture) rollback(t testing.TB) projections.Rebuilt {
	t.Helper()
	done, err := projections.Rollback(deadline(t), projections.RebuildOptions{DB: f.db, Store: f.store, Log: quiet})
	if err != nil {
		t.Fatal(err, done)
	}
	return done
}

// A new version is what the running one is: its tables, with their indexes, under the same names, and their rows.
func TestARebuildGivesTheSame(t *testing.T) {
	f := setup(t)
	f.Name("tenant0", "u_1", eventstore.UserName, "ada")
	f.busy(300)
	f.project(t, projections.Options{BatchMax: 50})
	schema := f.value(t, schemaText)
	done := f.rebuild(t, projections.RebuildOptions{BatchMax: 100})
	if done.Version != 2 || done.Was != 1 || len(done.Projections) != len(projections.All()) || done.Commits == 0 {
		t.Errorf("%+v", done)
	}
	for _, c := range done.Tables {
		if c.Differ || c.Running != c.Made {
			t.Errorf("%+v", c)
		}
	}
	mustBe(t, "the schema", f.value(t, schemaText), schema)
	f.checkSame(t)
	f.busy(100)
	f.project(t, projections.Options{BatchMax: 50})
	f.checkSame(t)

	// And back, to rows that have to catch up first.
	if done := f.rollback(t); done.Version != 1 || done.Was != 2 {
		t.Errorf("%+v", done)
	}
	f.checkSame(t)
	mustBe(t, "the schema", f.value(t, schemaText), schema)
	f.busy(20)
	f.project(t, projections.Options{})
	if done := f.rebuild(t, projections.RebuildOptions{}); done.Version != 3 {
		t.Errorf("%+v", done)
	}
	f.checkSame(t)
	mustBe(t, "versions", f.value(t, `SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace WHERE nspname LIKE 'read%'`), "read read_v1")
	if err := projections.DropOld(deadline(t), f.db); err != nil {
		t.Fatal(err)
	}
	_, err := projections.Rollback(deadline(t), projections.RebuildOptions{DB: f.db, Store: f.store, Log: quiet})
	if !errors.Is(err, projections.ErrNoOldVersion) {
		t.Error(err)
	}
}

func TestOneProjectionCanBeRebuilt(t *testing.T) {
	f := setup(t)
	f.Name("tenant0", "u_1", eventstore.UserName, "ada")
	f.busy(300)
	f.project(t, projections.Options{})
	tables := map[string]int{}
	for _, p := range projections.All() {
		done := f.rebuild(t, projections.RebuildOptions{Projections: []string{p.Name()}, BatchMax: 40})
		f.checkSame(t)
		if p.Name() != "seat_counts" { // that takes others along
			for _, c := range done.Tables {
				tables[c.Name]++
			}
		}
	}
	tables["seat_counts"]++
	// Each table is one projection's.
	if n := f.value(t, `SELECT count(*) FROM pg_class WHERE relnamespace = 'read'::regnamespace AND relkind = 'r' AND relname <> 'checkpoints'`); n != strconv.Itoa(len(tables)) {
		t.Errorf("%s tables, but the projections have %v", n, tables)
	}
	for table, n := range tables {
		if n != 1 {
			t.Errorf("%d projections have the table %s", n, table)
		}
	}
	_, err := projections.Rebuild(deadline(t), projections.RebuildOptions{DB: f.db, Store: f.store, Projections: []string{"leasess"}})
	if !errors.Is(err, projections.ErrNoProjection) {
		t.Error(err)
	}
}

// Rows that differ are told, and nothing is flipped unless that is what was wanted.
func TestARebuildSaysWhatDiffers(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 9)
	f.Acquire("acme", "lic_1", "ada")
	f.Commit()
	f.project(t, projections.Options{})
	if _, err := f.db.Exec(deadline(t), `UPDATE read.tenants SET name = 'Umbrella'; DELETE FROM read.audit_entries WHERE version = 2`); err != nil {
		t.Fatal(err)
	}
	o := projections.RebuildOptions{DB: f.db, Store: f.store, Log: quiet}
	done, err := projections.Rebuild(deadline(t), o)
	if !errors.Is(err, projections.ErrRowsDiffer) || done.Version != 1 {
		t.Fatal(err, done)
	}
	var told string
	for _, c := range done.Tables {
		if c.Differ {
			told += fmt.Sprintf("%s %d/%d -%d +%d;", c.Name, c.Running, c.Made, len(c.OnlyRunning), len(c.OnlyMade))
		}
	}
	mustBe(t, "what differs", told, "tenants 1/1 -1 +1;audit_entries 2/3 -0 +1;")
	mustBe(t, "the name", f.value(t, `SELECT name FROM read.tenants`), "Umbrella")

	o.AcceptDifferences = true
	if done, err := projections.Rebuild(deadline(t), o); err != nil || done.Version == 1 {
		t.Fatal(err, done)
	}
	f.checkSame(t)
	f.rollback(t)
	mustBe(t, "the name", f.value(t, `SELECT name FROM read.tenants`), "Umbrella")
}

// While it loads, a rebuild has the indexes that projections need, under their names, and makes no others yet.
func TestARebuildHasTheIndexesItNeeds(t *testing.T) {
	f := setup(t)
	f.busy(50)
	f.project(t, projections.Options{})
	told := false
	f.rebuild(t, projections.RebuildOptions{Progress: func(step string, done, _ uint64) {
		if step != "indexing" || done > 0 {
			return
		}
		told = true
		mustBe(t, "indexes before the others are made", f.value(t, `SELECT string_agg(c.relname, ' ' ORDER BY c.relname COLLATE "C") FROM pg_class c
			WHERE c.relnamespace = 'read_v2'::regnamespace AND c.relkind = 'i' AND c.relname !~ '_pkey$'`),
			"audit_entries_of_license history_present leases_active_of_license tenant_keys_of_member usage_leases_of_seat")
	}})
	if !told {
		t.Error("nobody was told before the others were made")
	}
}

// Without rows, as after Postgres was lost, the whole journal is projected; and so it is when the journal is not what it was.
func TestARebuildOfNothing(t *testing.T) {
	f := setup(t)
	f.busy(100)
	if done := f.rebuild(t, projections.RebuildOptions{}); done.Tables != nil {
		t.Errorf("compared with nothing: %+v", done)
	}
	f.checkSame(t)
	end := f.checkpoint(t)
	f.busy(10)
	f.project(t, projections.Options{})
	f.store.Journal(0).(interface{ Truncate(uint64) }).Truncate(end)
	f.rebuild(t, projections.RebuildOptions{NoCompare: true})
	if f.checkpoint(t) != end {
		t.Errorf("the rows stand at %d, not at %d", f.checkpoint(t), end)
	}
	f.checkSame(t)
}

func TestOneRebuildAtATime(t *testing.T) {
	f := setup(t)
	f.busy(50)
	f.project(t, projections.Options{})
	started, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	first := make(chan error, 1)
	go func() {
		_, err := projections.Rebuild(deadline(t), projections.RebuildOptions{DB: f.db, Store: f.store, Log: quiet, Progress: func(string, uint64, uint64) {
			if !once.Swap(true) {
				close(started)
				<-goOn
			}
		}})
		first <- err
	}()
	<-started
	_, err := projections.Rebuild(deadline(t), projections.RebuildOptions{DB: f.db, Store: f.store, Log: quiet})
	close(goOn)
	if !errors.Is(err, projections.ErrRebuilding) {
		t.Error(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	f.checkSame(t)
}

func TestWhatARebuildCanNotMakeAgainIsRefused(t *testing.T) {
	f := setup(t)
	f.busy(50)
	f.project(t, projections.Options{})
	if _, err := f.db.Exec(deadline(t), `CREATE VIEW read.names AS SELECT name FROM read.tenants`); err != nil {
		t.Fatal(err)
	}
	_, err := projections.Rebuild(deadline(t), projections.RebuildOptions{DB: f.db, Store: f.store, Log: quiet})
	if err == nil || !strings.Contains(err.Error(), "the view read.names reads the table tenants") {
		t.Error(err)
	}
}

// rebuildOf is the database of a test, for a process of this test binary that rebuilds it from the archive and ends.
const rebuildOf = "TEST_REBUILD_OF"

// rebuildIfAsked is what that process does.
func rebuildIfAsked() {
	url := os.Getenv(rebuildOf)
	if url == "" {
		return
	}
	err := func() error {
		ctx := context.Background()
		db, err := pgxpool.New(ctx, url)
		if err != nil {
			return err
		}
		archive, err := projections.OpenArchive(ctx, db)
		if err == nil {
			_, err = projections.Rebuild(ctx, projections.RebuildOptions{DB: db, Store: archive, Log: quiet, BatchMax: 300})
		}
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Rebuilds while commands come in, killed at random moments: in the end the rows are those of the journal; at no time did a reader see a
// table half-made, or the position go back; and live readers missed nothing. LEDGER_REBUILD_ROUNDS says how often; default 3.
func TestRebuildsUnderLoadThatDie(t *testing.T) {
	f := setup(t)
	rounds := 3
	if text := os.Getenv("LEDGER_REBUILD_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	f.busy(300)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rounds)*2*time.Minute)
	defer cancel()
	if err := f.archiver().CatchUp(ctx); err != nil { // what a rebuild reads
		t.Fatal(err)
	}
	working, finish := context.WithCancel(ctx)
	defer finish()
	g, working := errgroup.WithContext(working)
	var told atomic.Int64
	versions := map[string]uint64{}
	g.Go(func() error {
		return projections.NewRunner(projections.Options{DB: f.db, Store: f.store, Log: quiet, BatchMax: 50, Publish: func(tenant domain.TenantID, payload []byte) error {
			var c projections.Change
			if err := json.Unmarshal(payload, &c); err != nil {
				return err
			}
			if at := versions[string(tenant)]; at != c.PrevVersion {
				t.Errorf("live readers of %s are told of version %d after %d", tenant, c.PrevVersion, at)
			}
			versions[string(tenant)] = c.Version
			told.Add(1)
			return nil
		}}).Run(working)
	})
	g.Go(func() error { return f.archiver().Run(working) })
	g.Go(func() error { // commands come in
		random := rand.New(rand.NewPCG(7, 8))
		for working.Err() == nil {
			step(f.History, random.IntN)
			f.Commit()
			select {
			case <-time.After(2 * time.Millisecond):
			case <-working.Done():
			}
		}
		return nil
	})
	var read atomic.Int64
	for range 2 {
		g.Go(func() error {
			reader := wholeReader{f: f, entries: []int{0}}
			for working.Err() == nil {
				if err := reader.read(working); err != nil && working.Err() == nil {
					return err
				}
				read.Add(1)
			}
			return nil
		})
	}

	url := strings.Replace(f.db.Config().ConnString(), "@/ledger?", "@/"+f.db.Config().ConnConfig.Database+"?", 1)
	longest := 3 * time.Second
	for round := range rounds {
		for deaths := 0; deaths < 4; deaths++ {
			child := exec.CommandContext(ctx, os.Args[0])
			child.Env = append(os.Environ(), rebuildOf+"="+url)
			var said strings.Builder
			child.Stderr = &said
			began := time.Now()
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- child.Wait() }()
			var err error
			if deaths == 3 {
				err = <-ended
			} else {
				select {
				case err = <-ended:
				case <-time.After(rand.N(longest)):
					_ = child.Process.Kill()
					<-ended
				}
			}
			if err != nil && strings.Contains(said.String(), projections.ErrRebuilding.Error()) {
				deaths-- // its backend does not know yet that it is dead
				continue
			}
			if err != nil {
				t.Fatalf("round %d: %v: %s", round, err, said.String())
			}
			if deaths == 3 {
				longest = time.Since(began) * 11 / 10
			}
		}
		before, toldBefore := read.Load(), told.Load()
		for (read.Load() == before || told.Load() == toldBefore) && working.Err() == nil {
			time.Sleep(time.Millisecond) // readers, and live ones, go on
		}
		checkSame(t, f.db, f.store)
	}
	finish()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	f.project(t, projections.Options{})
	f.checkSame(t)
	t.Logf("%d reads, %d live changes, version %s", read.Load(), told.Load(), f.value(t, `SELECT obj_description('read'::regnamespace)`))
}

// wholeReader reads as queries do and knows what has to be there.
type wholeReader struct {
	f       fixture
	entries []int // by sequence: how many audit entries there are up to that commit
	last    uint64
}

func (r *wholeReader) read(ctx context.Context) error {
	var seq uint64
	var entries, tenants, usage int
	err := pgx.BeginTxFunc(ctx, r.f.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT coalesce(min(seq), 0) FROM read.checkpoints`).Scan(&seq); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM read.audit_entries`).Scan(&entries); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM read.tenants), (SELECT count(DISTINCT tenant_id) FROM read.usage_days)`).Scan(&tenants, &usage)
	})
	if err != nil {
		return err
	}
	if seq < r.last {
		return fmt.Errorf("the rows went back from commit %d to %d", r.last, seq)
	}
	r.last = seq
	for at := uint64(len(r.entries)); at <= seq; at++ {
		record, err := r.f.store.Journal(0).Get(ctx, at)
		if err != nil {
			return err
		}
		c, err := eventstore.CommitOf(record)
		if err != nil {
			return err
		}
		slices, err := c.Decode()
		if err != nil {
			return err
		}
		n := r.entries[at-1]
		for _, s := range slices {
			for _, e := range s.Events {
				if _, ok := e.Data.(*domain.SeatHeartbeat); !ok {
					n++
				}
			}
		}
		r.entries = append(r.entries, n)
	}
	if entries != r.entries[seq] || (seq > 0 && tenants < 1) || (seq > 300 && usage < 1) {
		return fmt.Errorf("at commit %d there are %d audit entries instead of %d, %d tenants, usage of %d", seq, entries, r.entries[seq], tenants, usage)
	}
	return nil
}
