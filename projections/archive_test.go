package projections_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// archive copies what the journal holds and opens the copy.
func (f fixture) archive(t testing.TB) *projections.Archive {
	t.Helper()
	if err := f.archiver().CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
	archive, err := projections.OpenArchive(deadline(t), f.db)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

func (f fixture) archiver() *projections.Archiver {
	return projections.NewArchiver(f.db, f.store, quiet, nil)
}

// mustBeCopy fails the test when a log is not a copy of another.
func mustBeCopy(t testing.TB, what string, original, copy eventstore.Log) {
	t.Helper()
	ctx := deadline(t)
	last, err := original.Last(ctx)
	copied, err2 := copy.Last(ctx)
	if err != nil || err2 != nil || last != copied {
		t.Fatalf("%s: %d records instead of %d (%v, %v)", what, copied, last, err, err2)
	}
	for seq := uint64(1); seq <= last; seq++ {
		want, err := original.Get(ctx, seq)
		got, err2 := copy.Get(ctx, seq)
		if err != nil || err2 != nil || !reflect.DeepEqual(want, got) {
			t.Fatalf("%s: record %d is %v, not %v (%v, %v)", what, seq, got, want, err, err2)
		}
	}
}

func (f fixture) mustBeArchived(t testing.TB, archive *projections.Archive) {
	t.Helper()
	if archive.Info() != f.store.Info() {
		t.Errorf("%v, not %v", archive.Info(), f.store.Info())
	}
	for p := range eventstore.Partition(f.store.Info().Partitions) {
		mustBeCopy(t, "commits", f.store.Journal(p), archive.Journal(p))
		mustBeCopy(t, "names", f.store.Directory(p), archive.Directory(p))
	}
}

// The archive holds the journal as it is stored: its chain holds, read models can be made of it, and each tenant's events are found.
func TestTheArchiveIsTheJournal(t *testing.T) {
	t.Parallel()
	store := eventstoretest.NewStore(2)
	f := fixture{History: projectionstest.NewHistory(t, store), store: store, db: projectionstest.New(t)}
	f.Name("tenant0", "u_1", eventstore.UserName, "ada")
	f.busy(200)
	f.archive(t)
	f.Name("tenant1", "u_2", eventstore.UserName, "bob")
	f.busy(200)
	f.Name("tenant1", "u_3", eventstore.UserName, "cem") // no commit needs him
	archive := f.archive(t)
	f.mustBeArchived(t, archive)

	tenants := map[domain.TenantID][]byte{}
	for p := range eventstore.Partition(2) {
		last, err := store.Journal(p).Last(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		err = eventstore.ReadCommits(deadline(t), archive.Journal(p), eventstore.Checkpoint{}, func(at eventstore.Checkpoint, c eventstore.Commit) error {
			slices, err := c.Decode()
			for _, s := range slices {
				tenants[s.Tenant] = append(tenants[s.Tenant], s.Stored...)
			}
			if err == nil && at.Seq == last {
				err = context.Canceled
			}
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	for tenant, want := range tenants {
		var got []byte
		var head eventstore.Hash
		var version uint64
		var commits []uint64
		if err := archive.ReadTenant(deadline(t), tenant, 0, func(s projections.TenantSlice) error {
			decoded, err := s.Decode()
			if err != nil {
				return err
			}
			if *decoded.Events[0].Prev != head || decoded.Tenant != tenant || decoded.Events[len(decoded.Events)-1].Version != s.Last ||
				!decoded.Events[0].Time.Equal(s.Time) {
				t.Errorf("slice of %s at %d: %v", tenant, s.Commit, decoded)
			}
			got, head, version = append(got, s.Stored...), decoded.Head(), s.Last
			commits = append(commits, s.Commit)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes of events in the archive, %d in the journal", tenant, len(got), len(want))
		}
		p := store.Info().PartitionOf(tenant)
		last, err := store.Journal(p).Last(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		if known, upTo, err := archive.TenantCommits(deadline(t), tenant); err != nil || upTo != last || !reflect.DeepEqual(known, commits) {
			t.Errorf("%s is in %v up to %d of %d, not in %v; %v", tenant, known, upTo, last, commits, err)
		}
		// From the middle of it.
		var rest int
		if err := archive.ReadTenant(deadline(t), tenant, version/2, func(s projections.TenantSlice) error {
			rest += int(s.Last - s.First + 1)
			return nil
		}); err != nil || rest > int(version-version/2) || rest == 0 {
			t.Errorf("%d events of %s after %d of %d, %v", rest, tenant, version/2, version, err)
		}
	}

	if err := projections.NewRunner(projections.Options{DB: f.db, Store: archive, Log: quiet}).CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
	f.checkSame(t)
}

func TestReadingTheArchiveWaitsForMore(t *testing.T) {
	f := setup(t)
	f.busy(50)
	archive := f.archive(t)
	last, err := archive.Journal(0).Last(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	end := errors.New("end")
	read := make(chan error, 1)
	at := make(chan uint64, 1000)
	go func() {
		read <- archive.Journal(0).Read(deadline(t), 0, func(seq uint64, _ eventstore.Record) error {
			at <- seq
			if seq > last {
				return end
			}
			return nil
		})
	}()
	for seq := uint64(0); seq < last; seq = <-at {
	}
	f.busy(20)
	f.archive(t)
	if err := <-read; !errors.Is(err, end) {
		t.Error(err)
	}
}

func TestNothingChangesTheArchive(t *testing.T) {
	f := setup(t)
	f.Name("acme", "u_ada", eventstore.UserName, "ada")
	f.busy(20)
	archive := f.archive(t)
	for _, change := range []string{
		`UPDATE archive.commits SET body = ''`, `DELETE FROM archive.commits WHERE seq = 1`, `TRUNCATE archive.commits`,
		`UPDATE archive.slices SET start = 1`, `DELETE FROM archive.slices`, `TRUNCATE archive.slices`,
		`UPDATE archive.names SET body = 'x'`, `UPDATE archive.names SET body = NULL, id = 'x'`, `DELETE FROM archive.names`, `TRUNCATE archive.names`,
		`UPDATE archive.ledger SET ledger_id = 'x'`, `DELETE FROM archive.ledger`, `TRUNCATE archive.ledger`,
	} {
		if _, err := f.db.Exec(deadline(t), change); err == nil || !strings.Contains(err.Error(), "the archive is only added to") {
			t.Errorf("%s: %v", change, err)
		}
	}
	f.mustBeArchived(t, archive)
	if err := <-archive.Journal(0).Append(eventstore.Place{}, eventstore.Record{}); !errors.Is(err, projections.ErrArchiveReadOnly) {
		t.Error(err)
	}
}

func TestSeveralArchiversThatDieLeaveOneCopy(t *testing.T) {
	f := setup(t)
	f.Name("tenant0", "u_1", eventstore.UserName, "ada")
	f.busy(300)
	config := f.db.Config().Copy()
	killer := &killer{}
	config.ConnConfig.Tracer = killer
	db, err := pgxpool.NewWithConfig(deadline(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	random := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		ctx, kill := context.WithCancel(deadline(t))
		killer.kill = kill
		killer.left.Store(1 + random.Int64N(12))
		var both errgroup.Group
		for range 2 {
			both.Go(func() error { return projections.NewArchiver(db, f.store, quiet, nil).CatchUp(ctx) })
		}
		if err := both.Wait(); err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		kill()
		f.busy(10)
		f.Name("tenant0", "u_2", eventstore.UserName, "bob")
	}
	f.mustBeArchived(t, f.archive(t))
}

func TestAnotherJournalIsNotArchived(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, f *fixture){
		"rolled back": func(_ *testing.T, f *fixture) { f.store.Journal(0).(*eventstoretest.Log).Truncate(3) },
		"last commit changed": func(t *testing.T, f *fixture) {
			last, err := f.store.Journal(0).Last(deadline(t))
			if err != nil {
				t.Fatal(err)
			}
			f.store.Journal(0).(*eventstoretest.Log).Replace(last, func(r *eventstore.Record) { r.Body = append(r.Body, ' ') })
		},
		"swapped": func(t *testing.T, f *fixture) {
			f.store = eventstoretest.NewStore(1)
			f.History = projectionstest.NewHistory(t, f.store)
			f.busy(200)
		},
		"names lost": func(_ *testing.T, f *fixture) { f.store.Directory(0).(*eventstoretest.Log).Truncate(0) },
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.Name("acme", "u_ada", eventstore.UserName, "ada")
			f.Create("acme", "lic_1", 9)
			f.Commit()
			for range 9 {
				f.Acquire("acme", "lic_1", "ada")
				f.Commit()
				f.Do("acme", domain.RenameTenant{Name: f.Now.String()})
				f.Commit()
			}
			f.archive(t)
			before := f.value(t, `SELECT string_agg(c::text, ' ' ORDER BY seq) FROM archive.commits c`)
			spoil(t, &f)
			mustBeBroken(t, f.archiver().Run(deadline(t)))
			mustBe(t, "the archive", f.value(t, `SELECT string_agg(c::text, ' ' ORDER BY seq) FROM archive.commits c`), before)
			// It is a witness for those who write, too, whatever became of the read models.
			mustBeBroken(t, projections.NewRunner(projections.Options{DB: f.db, Store: f.store, Log: quiet}).CheckJournal(deadline(t)))
		})
	}
}

func TestWhatCanNotBeReadIsArchived(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 9)
	f.Commit()
	f.Append(0, []byte(`[{"specversion":"1.0","type":"ai.coditect.seat.teleported.v1","time":"2026-03-01T09:00:00Z","tenant":"other","version":"1",`+
		`"prev":"`+eventstore.Hash{}.String()+`","data":{"a":1}}]`))
	f.Append(0, []byte("no JSON\x00"))
	f.Acquire("acme", "lic_1", "ada")
	f.Commit()
	registry := prometheus.NewRegistry()
	if err := projections.NewArchiver(f.db, f.store, quiet, registry).CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
	f.mustBeArchived(t, f.archive(t))
	// A newer program's event has its place, what is no event has none.
	mustBe(t, "slices", f.value(t, `SELECT string_agg(tenant_id || ' ' || first || '-' || last || ' in ' || seq, ', ' ORDER BY seq) FROM archive.slices`),
		"acme 1-2 in 1, other 1-1 in 2, acme 3-3 in 4")
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
		# HELP ledger_archive_unreadable_total Commits copied whose events cannot be read: they are in no tenant's slices.
		# TYPE ledger_archive_unreadable_total counter
		ledger_archive_unreadable_total{partition="0"} 1
		# HELP ledger_archive_lag_commits Commits in the journal that are not in the archive yet: what losing the journal now would lose.
		# TYPE ledger_archive_lag_commits gauge
		ledger_archive_lag_commits{partition="0"} 0
	`), "ledger_archive_unreadable_total", "ledger_archive_lag_commits"); err != nil {
		t.Error(err)
	}
}

// A tenant's commit that is missing in the index is missed.
func TestAGapInATenantsHistoryIsFound(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 9)
	f.Commit()
	f.Append(0, []byte(`no JSON`))
	for range 3 {
		f.Acquire("acme", "lic_1", "ada")
		f.Commit()
		f.Do("acme", domain.RenameTenant{Name: f.Now.String()})
		f.Commit()
	}
	archive := f.archive(t)
	if _, err := f.db.Exec(deadline(t), `ALTER TABLE archive.slices DISABLE TRIGGER USER; DELETE FROM archive.slices WHERE first = 4`); err != nil {
		t.Fatal(err)
	}
	mustBeBroken(t, archive.ReadTenant(deadline(t), "acme", 0, func(projections.TenantSlice) error { return nil }))
}

// Whoever is forgotten in the directory is forgotten in the archive.
func TestForgettingReachesTheArchive(t *testing.T) {
	f := setup(t)
	f.Name("acme", "u_ada", eventstore.UserName, "ada")
	f.Name("acme", "u_bob", eventstore.UserName, "bob")
	f.Create("acme", "lic_1", 9)
	f.Commit()
	archive := f.archive(t)
	directory := f.store.Directory(0)
	held, err := directory.Get(deadline(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	said := eventstore.Record{
		ID: uuid.NewString(), Header: map[string]string{"Content-Type": "application/json"},
		Body: []byte(`{"names":[],"forgotten":[{"tenant":"acme","pseudonym":"u_bob"}],"replaces":[2]}`),
	}
	if err := <-directory.Append(eventstore.Place{Seq: 2, ID: held.ID}, said); err != nil {
		t.Fatal(err)
	}
	f.archive(t) // no commit needed it
	if _, err := archive.Directory(0).Get(deadline(t), 2); !errors.Is(err, eventstore.ErrNoRecord) {
		t.Errorf("bob is still there: %v", err)
	}
	mustBe(t, "names", f.value(t, `SELECT string_agg(seq || coalesce(' ' || convert_from(body, 'UTF8'), ''), ', ' ORDER BY seq) FROM archive.names`),
		`1 [{"tenant":"acme","pseudonym":"u_ada","kind":"user","text":"ada"}], 2, 3 `+string(said.Body))
	var seqs []uint64
	end := errors.New("end")
	if err := archive.Directory(0).Read(deadline(t), 0, func(seq uint64, _ eventstore.Record) error {
		if seqs = append(seqs, seq); seq == 3 {
			return end
		}
		return nil
	}); !errors.Is(err, end) || !reflect.DeepEqual(seqs, []uint64{1, 3}) {
		t.Errorf("%v, %v", seqs, err)
	}

	// A journal that is restored has the same places, and nothing in this one.
	restored := eventstoretest.NewStore(1)
	if _, err := eventstore.Restore(deadline(t), archive, restored, nil); err != nil {
		t.Fatal(err)
	}
	for seq, want := range map[uint64]string{1: "ada", 2: "[]", 3: "replaces"} {
		if r, err := restored.Directory(0).Get(deadline(t), seq); err != nil || !strings.Contains(string(r.Body), want) {
			t.Errorf("record %d is %s, %v", seq, r.Body, err)
		}
	}
	mustBeCopy(t, "commits", f.store.Journal(0), restored.Journal(0))
}

func TestNothingArchivedIsNoLedger(t *testing.T) {
	f := setup(t)
	if _, err := projections.OpenArchive(deadline(t), f.db); !errors.Is(err, eventstore.ErrNoLedger) {
		t.Error(err)
	}
}
