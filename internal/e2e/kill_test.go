package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
	"github.com/coditect-ai/license-ledger/projections"
)

// A process that is killed at any moment loses nothing that it acknowledged, and does nothing twice.
func TestKill9(t *testing.T) {
	t.Parallel()
	const kills, clients, seats = 20, 16, 10
	data := t.TempDir()
	p, l := ledgertest.Up(t, data, "--snapshot-every", "20000") // some in each round
	_, key := l.License(t, "acme", seats, 300)
	acked := &ledgertest.Acknowledged{}
	for round := range kills {
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() { client(ctx, l, key, fmt.Sprintf("u%d", c), acked) })
		}
		// At a random moment: the delay is what makes the moment random, nothing waits for it.
		time.Sleep(rand.N(800 * time.Millisecond))
		p.Kill()
		stop()
		wg.Wait()
		verify(t, data, acked, seats)
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
		p, l = ledgertest.Up(t, data, "--snapshot-every", "20000")
	}
	acquired, released := acked.Counts()
	t.Logf("%d kills, %d acquires and %d releases acknowledged", kills, acquired, released)
	if acquired < kills || released < kills {
		t.Fatal("too little was acknowledged to prove anything")
	}
}

// client takes a seat, heartbeats and gives it back, again and again, until the server dies or ctx ends.
func client(ctx context.Context, l *ledgertest.Client, key, user string, acked *ledgertest.Acknowledged) {
	for ctx.Err() == nil {
		a, err := l.Do(ctx, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder(user), nil)
		if err != nil {
			return
		}
		if a.Status != 201 && a.Status != 200 {
			continue
		}
		id := a.At("lease.id")
		acked.Acquired(id)
		if _, err := l.Do(ctx, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(id), nil); err != nil {
			return
		}
		a, err = l.Do(ctx, "POST", "/api/v1/licenses/release", key, ledgertest.Lease(id), nil)
		if err != nil {
			return
		}
		if a.Status == 200 {
			acked.Released(id)
		}
	}
}

// verify opens what a killed process left behind and checks every promise about it.
func verify(t *testing.T, data string, acked *ledgertest.Acknowledged, seats int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), ledgertest.Patience)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: filepath.Join(data, "nats"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	nc, err := server.Connect(eventstore.NATSOptions("test")...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	store, err := eventstore.OpenNATS(ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(data, "postgres"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer postgres.Stop(context.WithoutCancel(ctx))
	db, err := pgxpool.New(ctx, postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	ledgertest.VerifyJournal(ctx, t, store, 0, acked, seats)
	verifyRows(ctx, t, db, store)
}

// verifyRows brings the read models to the end of the journal and compares them with a fold of it.
func verifyRows(ctx context.Context, t testing.TB, db *pgxpool.Pool, store eventstore.Store) {
	t.Helper()
	if err := projections.NewRunner(projections.Options{DB: db, Store: store, Log: slog.New(slog.DiscardHandler)}).CatchUp(ctx); err != nil {
		t.Errorf("catch up: %v", err)
	}
	differences, err := projections.Compare(ctx, db, store)
	if err != nil {
		t.Errorf("compare: %v", err)
	}
	for _, d := range differences {
		t.Errorf("the read models differ from a fold of the journal: %v", d)
	}
}
