package projections_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/projections"
)

// running starts a runner that publishes what it applied to the channel, and stops it at the end of the test.
func (f fixture) running(t *testing.T, o projections.Options) <-chan uint64 {
	t.Helper()
	ctx, stop := context.WithCancel(deadline(t))
	applied := make(chan uint64, 1000)
	o.DB, o.Store, o.Log = f.db, f.store, quiet
	o.Publish = func(domain.TenantID, []byte) error {
		applied <- 0
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- projections.NewRunner(o).Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return applied
}

// await waits until a query gives a value.
func (f fixture) await(t testing.TB, sql, want string) {
	t.Helper()
	ctx := deadline(t)
	for got := ""; got != want; {
		if ctx.Err() != nil {
			t.Fatalf("%s stays %s", sql, got)
		}
		got = f.value(t, sql)
	}
}

// A projection that may be parked stands still before the commit that it cannot apply, alone; retried, it goes on from there.
func TestAPoisonCommitParks(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 9)
	f.Commit()
	// As if a bug of one read model: a rule that the third commit breaks.
	if _, err := f.db.Exec(deadline(t), `ALTER TABLE read.audit_entries ADD CONSTRAINT bug CHECK (NOT event LIKE '%u_bob%')`); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	f.running(t, projections.Options{Park: []string{"audit_entries"}, Registerer: registry})
	for _, user := range []string{"ada", "bob", "cem"} {
		f.Acquire("acme", "lic_1", user)
		f.Commit()
	}
	f.await(t, `SELECT min(seq) FROM read.checkpoints WHERE projection <> 'audit_entries'`, "4")
	mustBe(t, "parked", f.value(t, `SELECT string_agg(projection || ' at ' || seq || ' of ' || commit_time, ', ') FROM read.checkpoints WHERE parked_at IS NOT NULL`),
		"audit_entries at 2 of "+f.value(t, `SELECT acquired_at FROM read.leases WHERE fence = 3`))
	mustBe(t, "entries", f.value(t, `SELECT max(seq) FROM read.audit_entries`), "2")
	mustBe(t, "leases", f.value(t, `SELECT count(*) FROM read.leases`), "3")

	standings, err := projections.Standings(deadline(t), f.db)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range standings {
		if parked := !s.ParkedAt.IsZero(); parked != (s.Projection == "audit_entries") || parked != strings.Contains(s.Because, "commit 3 (") || s.Time.IsZero() {
			t.Errorf("%+v", s)
		}
	}
	for gathered := errors.New(""); gathered != nil; {
		gathered = testutil.GatherAndCompare(registry, strings.NewReader(`
			# HELP ledger_projection_halted_total Partitions stopped by a commit that can not be applied, or by a broken chain.
			# TYPE ledger_projection_halted_total counter
			ledger_projection_halted_total 0
		`), "ledger_projection_halted_total")
		if n, err := testutil.GatherAndCount(registry, "ledger_projection_parked"); n == 0 {
			gathered = errors.Join(err, errors.New("not gathered yet"))
		}
		if deadline(t).Err() != nil {
			t.Fatal(gathered)
		}
	}

	// Still refused: it is parked again, at the same place.
	if n, err := projections.Retry(deadline(t), f.db, "audit_entries"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	f.await(t, `SELECT parked_at IS NOT NULL FROM read.checkpoints WHERE projection = 'audit_entries'`, "true")
	mustBe(t, "entries", f.value(t, `SELECT max(seq) FROM read.audit_entries`), "2")

	if _, err := f.db.Exec(deadline(t), `ALTER TABLE read.audit_entries DROP CONSTRAINT bug`); err != nil {
		t.Fatal(err)
	}
	if n, err := projections.Retry(deadline(t), f.db, "audit_entries"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	f.await(t, `SELECT min(seq) FROM read.checkpoints`, "4")
	f.checkSame(t)
}

func TestACommitThatCanNotBeReadParksOnlyThoseThatMay(t *testing.T) {
	teleport := []byte(`[{"specversion":"1.0","type":"ai.coditect.seat.teleported.v1","tenant":"acme","version":"3","data":{}}]`)
	t.Run("all", func(t *testing.T) {
		f := setup(t)
		f.Create("acme", "lic_1", 1)
		f.Commit()
		f.Append(0, teleport)
		var all []string
		for _, p := range projections.All() {
			all = append(all, p.Name())
		}
		f.running(t, projections.Options{Park: all})
		f.await(t, `SELECT count(*) FROM read.checkpoints WHERE parked_at IS NOT NULL AND seq = 1 AND parked_because LIKE '%seat.teleported%'`, f.value(t, `SELECT count(*) FROM read.checkpoints`))
	})
	t.Run("some", func(t *testing.T) {
		f := setup(t)
		f.Create("acme", "lic_1", 1)
		f.Commit()
		f.Append(0, teleport)
		if err := f.run(t, projections.Options{Park: []string{"usage", "tenants"}}); err == nil || !strings.Contains(err.Error(), "seat.teleported") {
			t.Fatal(err)
		}
		mustBe(t, "parked", f.value(t, `SELECT count(*) FROM read.checkpoints WHERE parked_at IS NOT NULL`), "0")
		f.checkpoint(t)
	})
}

// When one of those that refuse may not be parked, it stops everything, and says which it is.
func TestAPoisonCommitStopsWhatMayNotBeParked(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 9)
	f.Commit()
	f.Acquire("acme", "lic_1", "bob")
	f.Commit()
	if _, err := f.db.Exec(deadline(t), `ALTER TABLE read.leases ADD CHECK ("user" <> 'u_bob'); ALTER TABLE read.audit_entries ADD CHECK (NOT event LIKE '%u_bob%')`); err != nil {
		t.Fatal(err)
	}
	err := f.run(t, projections.Options{Park: []string{"audit_entries"}})
	if err == nil || !strings.Contains(err.Error(), "commit 2 (") || !strings.Contains(err.Error(), "leases: ") {
		t.Fatal(err)
	}
	if seq := f.checkpoint(t); seq != 1 {
		t.Errorf("the rows stand at %d", seq)
	}
	mustBe(t, "parked", f.value(t, `SELECT count(*) FROM read.checkpoints WHERE parked_at IS NOT NULL`), "0")
}

// A projection that a person parks stands still while the projector runs.
func TestParkingByHand(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 9)
	f.Commit()
	applied := f.running(t, projections.Options{})
	<-applied
	if n, err := projections.Park(deadline(t), f.db, "usage", "to look at it"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	f.Acquire("acme", "lic_1", "ada")
	f.Commit()
	<-applied // live readers are told by the others
	mustBe(t, "usage stands", f.value(t, `SELECT seq FROM read.checkpoints WHERE projection = 'usage'`), "1")
	mustBe(t, "leases stand", f.value(t, `SELECT seq FROM read.checkpoints WHERE projection = 'leases'`), "2")
	if n, err := projections.Park(deadline(t), f.db, "usage", ""); n != 0 || err != nil {
		t.Error(n, err)
	}
	if n, err := projections.Retry(deadline(t), f.db, "usage"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	f.await(t, `SELECT min(seq) FROM read.checkpoints`, "2")
	f.checkSame(t)
	if _, err := projections.Park(deadline(t), f.db, "usages", ""); !errors.Is(err, projections.ErrNoProjection) {
		t.Error(err)
	}
}
