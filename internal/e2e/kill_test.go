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

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/projections"
)

// acknowledged is what clients were told was done.
type acknowledged struct {
	mu                 sync.Mutex
	acquired, released map[string]bool // by lease
}

func (a *acknowledged) note(where map[string]bool, lease string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	where[lease] = true
}

// A process that is killed at any moment loses nothing that it acknowledged, and does nothing twice.
func TestKill9(t *testing.T) {
	t.Parallel()
	const kills, clients, seats = 20, 16, 10
	data := t.TempDir()
	p, l := up(t, data)
	_, key := l.license(t, "acme", seats, 300)
	acked := &acknowledged{acquired: map[string]bool{}, released: map[string]bool{}}
	for round := range kills {
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() { client(ctx, l, key, fmt.Sprintf("u%d", c), acked) })
		}
		// At a random moment: the delay is what makes the moment random, nothing waits for it.
		time.Sleep(rand.N(800 * time.Millisecond))
		p.kill()
		stop()
		wg.Wait()
		verify(t, data, acked, seats)
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
		p, l = up(t, data)
	}
	acked.mu.Lock()
	defer acked.mu.Unlock()
	t.Logf("%d kills, %d acquires and %d releases acknowledged", kills, len(acked.acquired), len(acked.released))
	if len(acked.acquired) < kills || len(acked.released) < kills {
		t.Fatal("too little was acknowledged to prove anything")
	}
}

// client takes a seat, heartbeats and gives it back, again and again, until the server dies or ctx ends.
func client(ctx context.Context, l *ledger, key, user string, acked *acknowledged) {
	for ctx.Err() == nil {
		a, err := l.do(ctx, "POST", "/api/v1/licenses/acquire", key, holder(user), nil)
		if err != nil {
			return
		}
		if a.status != 201 && a.status != 200 {
			continue
		}
		id := a.at("lease.id")
		acked.note(acked.acquired, id)
		if _, err := l.do(ctx, "POST", "/api/v1/licenses/heartbeat", key, lease(id), nil); err != nil {
			return
		}
		a, err = l.do(ctx, "POST", "/api/v1/licenses/release", key, lease(id), nil)
		if err != nil {
			return
		}
		if a.status == 200 {
			acked.note(acked.released, id)
		}
	}
}

// verify opens what a killed process left behind and checks every promise about it.
func verify(t *testing.T, data string, acked *acknowledged, seats int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
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

	verifyJournal(ctx, t, store, 0, acked, seats)
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

func verifyJournal(ctx context.Context, t testing.TB, store eventstore.Store, p eventstore.Partition, acked *acknowledged, seats int) {
	t.Helper()
	last, err := store.Journal(p).Last(ctx)
	if err != nil {
		t.Fatal(err)
	}
	acquired, released := map[string]int{}, map[string]int{}
	active, versions := map[domain.LeaseID]bool{}, map[domain.TenantID]uint64{}
	// The fold itself checks the chain of the partition and that of the tenant, and that no seat is sold twice.
	err = eventstore.NewState().FoldUpTo(ctx, store.Journal(p), last, func(at eventstore.Checkpoint, c eventstore.Commit) {
		slices, err := c.Decode()
		if err != nil {
			t.Errorf("commit %d: %v", at.Seq, err)
		}
		for _, s := range slices {
			for _, e := range s.Events {
				if e.Tenant != "" && e.Version != versions[e.Tenant]+1 {
					t.Errorf("version %d of %s follows %d", e.Version, e.Tenant, versions[e.Tenant])
				}
				versions[e.Tenant] = e.Version
				switch e := e.Data.(type) {
				case *domain.SeatAcquired:
					acquired[string(e.Lease)]++
					active[e.Lease] = true
				case *domain.SeatReleased:
					released[string(e.Lease)]++
					delete(active, e.Lease)
				case *domain.SeatExpired:
					delete(active, e.Lease)
				}
				if len(active) > seats {
					t.Errorf("%d leases active at commit %d, %d seats", len(active), at.Seq, seats)
				}
			}
		}
	})
	if err != nil {
		t.Errorf("fold: %v", err)
	}
	check := func(what string, told map[string]bool, stored map[string]int) {
		for lease := range told {
			if stored[lease] != 1 {
				t.Errorf("the %s of %s was acknowledged and is in the journal %d times", what, lease, stored[lease])
			}
		}
		for lease, n := range stored {
			if n != 1 {
				t.Errorf("the %s of %s is in the journal %d times", what, lease, n)
			}
		}
	}
	acked.mu.Lock()
	defer acked.mu.Unlock()
	check("acquire", acked.acquired, acquired)
	check("release", acked.released, released)
}
