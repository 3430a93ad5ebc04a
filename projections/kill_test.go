package projections_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/projections"
)

var kills = flag.Int("kills", 25, "how often TestKilledAtRandomStatements kills the projector")

// executioner ends the server process behind a connection when the statement whose turn has come is on its way, and with it the
// projector: what Postgres has of its transaction is all there is, as after a kill -9.
type executioner struct {
	left atomic.Int64
	kill func(pid uint32)
}

func (e *executioner) TraceQueryStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	e.strike(conn)
	return ctx
}
func (*executioner) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (e *executioner) TraceBatchStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	e.strike(conn)
	return ctx
}

// TraceBatchQuery is called as the results of a batch come back: statements of the transaction have run, others have not.
func (e *executioner) TraceBatchQuery(_ context.Context, conn *pgx.Conn, _ pgx.TraceBatchQueryData) {
	e.strike(conn)
}
func (*executioner) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (e *executioner) strike(conn *pgx.Conn) {
	if e.left.Add(-1) == 0 {
		e.kill(conn.PgConn().PID())
	}
}

// However often and wherever the projector is killed: each time the rows are a fold of the journal up to the checkpoint, and the next
// projector goes on from there to the end.
func TestKilledAtRandomStatements(t *testing.T) {
	f := setup(t)
	f.busy(300)
	end, err := f.store.Journal(0).Last(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	config := f.db.Config().Copy()
	executioner := &executioner{}
	config.ConnConfig.Tracer = executioner
	db, err := pgxpool.NewWithConfig(deadline(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	random := rand.New(rand.NewPCG(5, 6))
	deaths, ends := 0, 0
	places := map[uint64]bool{}
	for deaths < *kills {
		ctx, die := context.WithCancel(t.Context())
		executioner.kill = func(pid uint32) {
			if _, err := f.db.Exec(context.Background(), `SELECT pg_terminate_backend($1)`, pid); err != nil {
				t.Error(err)
			}
			die()
		}
		executioner.left.Store(1 + random.Int64N(200))
		err := projections.NewRunner(projections.Options{DB: db, Store: f.store, BatchMax: 1 + random.IntN(20), Log: quiet, Publish: discard}).CatchUp(ctx)
		died := ctx.Err() != nil
		die()
		if err != nil && !died {
			t.Fatal(err)
		}
		f.checkSame(t)
		if t.Failed() {
			t.Fatalf("after %d deaths", deaths)
		}
		seq := f.checkpoint(t)
		if died {
			deaths++
			places[seq] = true
		}
		if seq == end { // from the beginning again
			ends++
			if _, err := f.db.Exec(deadline(t), emptyAll); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("killed %d times, at %d places; the end was reached %d times", deaths, len(places), ends)
	executioner.left.Store(0)
	f.project(t, projections.Options{})
	f.checkSame(t)
	if len(places) < deaths/4 {
		t.Errorf("only %d places in %d deaths", len(places), deaths)
	}
}
