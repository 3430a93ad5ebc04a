package projections_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// fixture is a ledger in memory, its history and a database to project it to.
type fixture struct {
	*projectionstest.History
	store *eventstoretest.Store
	db    *pgxpool.Pool
}

func setup(t *testing.T) fixture {
	t.Parallel()
	store := eventstoretest.NewStore(1)
	return fixture{History: projectionstest.NewHistory(t, store), store: store, db: projectionstest.New(t)}
}

// deadline ends a test that waits for what never comes.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// quiet keeps expected failures out of the test's output.
var quiet = slog.New(slog.DiscardHandler)

// project brings the read models to the end of the journal.
func (f fixture) project(t testing.TB, o projections.Options) {
	t.Helper()
	o.DB, o.Store = f.db, f.store
	if err := projections.NewRunner(o).CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

// run runs a Runner that is expected to stop by itself and returns why.
func (f fixture) run(t testing.TB, o projections.Options) error {
	t.Helper()
	o.DB, o.Store, o.Log = f.db, f.store, quiet
	ctx := deadline(t)
	err := projections.NewRunner(o).Run(ctx)
	if ctx.Err() != nil {
		t.Fatal("the runner goes on")
	}
	return err
}

// checkSame fails the test when the rows are not what the journal says.
func (f fixture) checkSame(t testing.TB) {
	t.Helper()
	checkSame(t, f.db, f.store)
}

func checkSame(t testing.TB, db *pgxpool.Pool, store eventstore.Store) {
	t.Helper()
	differences, err := projections.Compare(deadline(t), db, store)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		t.Errorf("%s\n  journal: %s\n  rows:    %s", d.Row, d.Journal, d.Rows)
	}
}

// checkpoint returns where all projections of partition 0 stand.
func (f fixture) checkpoint(t testing.TB) (seq uint64) {
	t.Helper()
	var most uint64
	err := f.db.QueryRow(deadline(t), `SELECT min(seq), max(seq) FROM read.checkpoints WHERE partition = 0`).Scan(&seq, &most)
	if err != nil {
		t.Fatal(err)
	}
	if seq != most {
		t.Fatalf("projections stand at %d and %d", seq, most)
	}
	return seq
}

// value returns the one value of a query as text.
func (f fixture) value(t testing.TB, sql string, args ...any) string {
	t.Helper()
	var value *string
	if err := f.db.QueryRow(deadline(t), `SELECT (`+sql+`)::text`, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if value == nil {
		return "null"
	}
	return *value
}

func mustBe(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %s, not %s", what, got, want)
	}
}

func mustBeBroken(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, eventstore.ErrChainBroken) {
		t.Fatalf("%v is no broken chain", err)
	}
}
