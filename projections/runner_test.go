package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// step does something of a history; draw returns a number below n.
func step(h *projectionstest.History, draw func(n int) int) {
	tenant := domain.TenantID(fmt.Sprint("tenant", draw(3)))
	license := domain.LicenseID(fmt.Sprint("lic_", draw(3)))
	if !h.Tenant(tenant).Exists() {
		h.Create(tenant, "lic_0", 3)
		return
	}
	l := h.Tenant(tenant).License(license)
	switch {
	case l == nil && draw(3) == 0:
		receive(h, tenant, license, draw(4))
		return
	case l == nil:
		h.Issue(tenant, license, draw(4))
		return
	case l.Arriving > 0:
		receiveLeases(h, tenant, license, 1+draw(l.Arriving))
	}
	var held []domain.LeaseID
	h.Tenant(tenant).License(license).Leases(func(l domain.Lease) { held = append(held, l.ID) })
	switch draw(30) {
	case 24, 25:
		h.Wait(tenant, license, fmt.Sprintf("%d@m_%d", draw(6), draw(3)))
	case 26:
		waiters := h.Tenant(tenant).Waiters()
		for _, w := range waiters[:min(len(waiters), 1)] {
			h.Do(tenant, domain.LeaveQueue{License: w.License, Holder: w.Holder, Cause: domain.DequeuedByCaller})
		}
	case 0, 1, 2, 3, 4, 14, 15:
		h.Acquire(tenant, license, fmt.Sprintf("%d@m_%d", draw(6), draw(3)))
	case 5, 6:
		if len(held) > 0 {
			h.Do(tenant, domain.HeartbeatSeats{License: license, Leases: held})
		}
	case 7, 8:
		if len(held) > 0 {
			h.Do(tenant, domain.ReleaseSeats{License: license, Leases: held[:1]})
		}
	case 9:
		h.Commit()
		h.Now = h.Now.Add(time.Duration(draw(400)) * time.Second)
		h.Do(tenant, domain.ExpireSeats{Max: 100})
	case 10:
		h.Do(tenant, domain.ChangeLicense{License: license, Seats: new(draw(5))})
	case 11:
		h.Do(tenant, domain.RevokeLicense{License: license})
	case 12:
		h.Do(tenant, []domain.Command{
			domain.SuspendTenant{}, domain.ReinstateTenant{}, domain.SuspendLicense{License: license}, domain.ReinstateLicense{License: license},
			domain.RenameTenant{Name: fmt.Sprint("name", draw(3))},
		}[draw(5)])
	case 13:
		h.Commit()
	case 16, 17:
		h.Do(tenant, domain.ChangeLicense{License: license, Policy: domain.PolicyChange{
			SeatPer:       new([]domain.SeatPer{domain.SeatPerProcess, domain.SeatPerMachine, domain.SeatPerUser}[draw(3)]),
			Overage:       new([]domain.Overage{domain.OverageNone, domain.OverageUnlimited}[draw(2)]),
			ReviveSeconds: new(1000 * draw(2)),
			OnShrink:      new([]domain.OnShrink{domain.ShrinkDrains, domain.ShrinkEvictsNewest}[draw(2)]),
			Features:      new([]string{"cam", "x\x00"}[:draw(3)]),
			BorrowDays:    new(draw(3)),
			Reservations:  new([]domain.Reservation{{Name: "a\x00", Users: []domain.Pseudonym{"u_2", "u_1"}}}[:draw(2)]),
		}})
	case 18:
		h.Do(tenant, []domain.Command{
			domain.RenewLicense{License: license, ExpiresAt: h.Now.Add(time.Duration(draw(3)) * time.Hour)},
			domain.RenewLicense{License: license}, domain.ConvertTrial{License: license},
			domain.ReleaseHolder{User: "u_1", Max: 9},
		}[draw(4)])
	case 19:
		if len(held) > 0 {
			h.Do(tenant, domain.EvictLease{License: license, Lease: held[0]})
		}
	case 28, 29:
		h.Do(tenant, []domain.Command{
			domain.StartTransfer{License: license, Transfer: domain.TransferID("trf_" + license), To: "elsewhere", As: "lic_9", Key: domain.LicenseKey{ID: "key_9"}, Keep: draw(2) == 0},
			domain.CancelTransfer{License: license}, domain.AdvanceTransfers{}, domain.CompleteTransfer{License: license, Transfer: domain.TransferID("trf_" + license)},
		}[draw(4)])
	case 27:
		user := fmt.Sprint("u_", draw(6))
		h.Do(tenant, domain.ForgetPerson{Pseudonym: domain.Pseudonym(user), Kind: "user"})
	case 22, 23:
		for _, id := range held[:min(len(held), 1)] {
			l, _ := h.Tenant(tenant).License(license).Lease(id)
			again := domain.LeaseID(fmt.Sprint(id, "_", h.Now.UnixMilli())) // of use when the present one has run out
			h.Do(tenant, domain.AcquireSeat{License: license, Lease: again, Holder: l.Holder, BorrowUntil: h.Now.Add(time.Duration(1+draw(24)) * time.Hour)})
		}
	case 20, 21:
		var late []domain.LeaseID
		for n := 1; n < 300; n++ {
			if l, ok := h.Tenant(tenant).License(license).Lease(domain.LeaseID(fmt.Sprint("lse_", n))); ok && l.State == domain.LeaseStateExpired {
				late = append(late, l.ID)
			}
		}
		if len(late) > 0 {
			h.Do(tenant, domain.HeartbeatSeats{License: license, Leases: late[draw(len(late)):]})
		}
	}
}

// receive gives a tenant a license that comes from another one, with one seat and some leases.
func receive(h *projectionstest.History, tenant domain.TenantID, license domain.LicenseID, leases int) {
	h.Do(tenant, domain.ReceiveLicense{
		IssueLicense: domain.IssueLicense{License: license, Product: "cad", Seats: 1, Policy: domain.Policy{LeaseSeconds: 300}, Key: domain.LicenseKey{ID: domain.KeyID(license)}},
		Transfer:     domain.TransferID("trf_" + license), Fences: 1000, Leases: leases, InUse: leases,
	})
}

// receiveLeases gives it some of those that are to come.
func receiveLeases(h *projectionstest.History, tenant domain.TenantID, license domain.LicenseID, some int) {
	to := h.Tenant(tenant).License(license).Arriving
	c := domain.ReceiveLeases{License: license, Left: to - some}
	for n := range some {
		c.Leases = append(c.Leases, domain.Lease{
			ID: domain.LeaseID(fmt.Sprint("in_", license, "_", to-n)), Holder: domain.Holder{User: domain.Pseudonym(fmt.Sprint("u_", to-n)), Machine: "m_1"},
			Fence: uint64(1000 - (to - n)), AcquiredAt: h.Now.Add(-time.Hour), ExpiresAt: h.Now.Add(time.Minute), Borrowed: n == 1,
		})
	}
	h.Do(tenant, c)
}

// stepPeople does something with members or keys.
func stepPeople(h *projectionstest.History, draw func(n int) int) {
	tenant := domain.TenantID(fmt.Sprint("tenant", draw(3)))
	user := domain.Pseudonym(fmt.Sprint("u_", draw(2)))
	role := []domain.Role{domain.RoleOwner, domain.RoleAdmin, domain.RoleAuditor}[draw(3)]
	fresh := domain.StoredKey{ID: domain.KeyID(fmt.Sprint("k", h.Tenant(tenant).Version)), Hash: []byte{byte(1 + draw(9))}}
	var keys []domain.KeyID
	h.Tenant(tenant).TenantKeys(func(k domain.TenantKey) { keys = append(keys, k.ID) })
	slices.Sort(keys)
	keys = append(keys, "k")
	some := keys[draw(len(keys))]
	h.Do(tenant, []domain.Command{
		domain.InviteMember{User: user, Role: role}, domain.InviteMember{User: user, Role: role},
		domain.ChangeMemberRole{User: user, Role: role}, domain.RemoveMember{User: user},
		domain.CreateTenantKey{Key: fresh, Name: "a\x00", Member: user}, domain.CreateTenantKey{Key: fresh, Name: "b", Member: user},
		domain.CreateTenantKey{Key: fresh, Name: "c", Role: role},
		domain.RotateTenantKey{OldKey: some, Key: fresh, Overlap: time.Hour}, domain.RotateTenantKey{OldKey: keys[len(keys)-min(2, len(keys))], Key: fresh},
		domain.RevokeTenantKey{Key: some},
	}[draw(10)])
}

const emptyAll = `DELETE FROM read.checkpoints; DELETE FROM read.tenants; DELETE FROM read.licenses; DELETE FROM read.seat_counts;
	DELETE FROM read.leases; DELETE FROM read.audit_entries; DELETE FROM read.audit_entries_of_feature; DELETE FROM read.directory; DELETE FROM read.history;
	DELETE FROM read.queue; DELETE FROM read.seat_ends; DELETE FROM read.denials;

	DELETE FROM read.usage_licenses; DELETE FROM read.usage_leases; DELETE FROM read.usage_minutes; DELETE FROM read.usage_hours;
	DELETE FROM read.usage_days; DELETE FROM read.usage_holders;
	DELETE FROM read.members; DELETE FROM read.tenant_keys`

// Whatever happened, and wherever the batches were cut: the rows are those of a fold of the journal.
func TestRowsAreTheFoldOfTheJournal(t *testing.T) {
	t.Parallel()
	db := projectionstest.New(t)
	rapid.Check(t, func(r *rapid.T) {
		if _, err := db.Exec(context.Background(), emptyAll); err != nil {
			r.Fatal(err)
		}
		store := eventstoretest.NewStore(rapid.IntRange(1, 2).Draw(r, "partitions"))
		h := projectionstest.NewHistory(r, store)
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(r, "draw") }
		runner := projections.NewRunner(projections.Options{
			DB: db, Store: store, Log: quiet, BatchMax: rapid.IntRange(1, 20).Draw(r, "batch"), Publish: discard,
		})
		for range rapid.IntRange(1, 4).Draw(r, "rounds") {
			for range rapid.IntRange(1, 60).Draw(r, "steps") {
				if draw(5) == 0 {
					stepPeople(h, draw)
				} else {
					step(h, draw)
				}
			}
			h.Commit()
			if err := runner.CatchUp(context.Background()); err != nil {
				r.Fatal(err)
			}
			differences, err := projections.Compare(context.Background(), db, store)
			if err != nil || len(differences) > 0 {
				r.Fatal(err, differences)
			}
		}
	})
}

func discard(domain.TenantID, []byte) error { return nil }

// busy writes n steps of a history that is the same each time.
func (f fixture) busy(n int) {
	random, people := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
	for range n {
		step(f.History, random.IntN)
		if people.IntN(5) == 0 {
			stepPeople(f.History, people.IntN)
		}
		if random.IntN(3) == 0 {
			f.Commit()
		}
	}
	f.Commit()
}

func TestReplayFromZeroGivesTheSameRows(t *testing.T) {
	f := setup(t)
	for range 5 {
		f.busy(100)
		f.project(t, projections.Options{BatchMax: 7})
	}
	rows := func() string {
		var all []string
		for _, table := range []string{"tenants", "licenses", "seat_counts", "leases", "audit_entries", "audit_entries_of_feature", "directory", "history", "queue", "seat_ends", "denials", "members", "tenant_keys"} {
			all = append(all, f.value(t, `SELECT string_agg(r::text, E'\n' ORDER BY r::text) FROM read.`+table+` r`))
		}
		return strings.Join(all, "\n\n")
	}
	incremental := rows()
	if _, err := f.db.Exec(deadline(t), emptyAll); err != nil {
		t.Fatal(err)
	}
	f.project(t, projections.Options{})
	if rows() != incremental {
		t.Error("a replay from zero gives other rows")
	}
	f.checkSame(t)
}

func TestTwoProjectorsDoNoHarm(t *testing.T) {
	f := setup(t)
	f.busy(600)
	var both errgroup.Group
	for range 2 {
		runner := projections.NewRunner(projections.Options{DB: f.db, Store: f.store, BatchMax: 3, Log: quiet})
		both.Go(func() error { return runner.CatchUp(deadline(t)) })
	}
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
	f.checkSame(t)
}

// killer cancels a context before the statement whose turn has come.
type killer struct {
	left atomic.Int64
	kill context.CancelFunc
}

func (k *killer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	k.strike()
	return ctx
}
func (*killer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (k *killer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	k.strike()
	return ctx
}
func (k *killer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) { k.strike() }
func (*killer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)       {}

func (k *killer) strike() {
	if k.left.Add(-1) == 0 {
		k.kill()
	}
}

// However a projector dies, rows and checkpoint are of one commit, and the next goes on from there.
func TestDyingAnywhereLeavesRowsAndCheckpointTogether(t *testing.T) {
	f := setup(t)
	f.busy(400)
	end, err := f.store.Journal(0).Last(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	config := f.db.Config().Copy()
	killer := &killer{}
	config.ConnConfig.Tracer = killer
	db, err := pgxpool.NewWithConfig(deadline(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	random := rand.New(rand.NewPCG(3, 4))
	deaths := 0
	for {
		ctx, kill := context.WithCancel(deadline(t))
		killer.kill = kill
		killer.left.Store(1 + random.Int64N(120)) // a batch is some fifty statements
		err := projections.NewRunner(projections.Options{DB: db, Store: f.store, BatchMax: 10, Log: quiet, Publish: discard}).CatchUp(ctx)
		died := ctx.Err() != nil
		kill()
		if err != nil && !died {
			t.Fatal(err)
		}
		f.checkSame(t)
		if !died {
			break
		}
		deaths++
	}
	if seq := f.checkpoint(t); seq != end || deaths < 5 {
		t.Errorf("after %d deaths the rows stand at %d of %d", deaths, seq, end)
	}
}

func TestACommitThatCanNotBeReadStops(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 1)
	f.Commit()
	f.Append(0, []byte(`[{"specversion":"1.0","type":"ai.coditect.seat.teleported.v1","tenant":"acme","version":"3","data":{}}]`))
	f.Commit()
	registry := prometheus.NewRegistry()
	runner := projections.NewRunner(projections.Options{DB: f.db, Store: f.store, Log: quiet, Registerer: registry})
	err := runner.Run(deadline(t))
	if err == nil || !strings.Contains(err.Error(), "partition 0: commit 2 (") || !strings.Contains(err.Error(), "seat.teleported") {
		t.Fatalf("the error does not say what and where: %v", err)
	}
	if runner.Ready() == nil {
		t.Error("ready")
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
		# HELP ledger_projection_halted_total Partitions stopped by a commit that can not be applied, or by a broken chain.
		# TYPE ledger_projection_halted_total counter
		ledger_projection_halted_total 1
	`), "ledger_projection_halted_total"); err != nil {
		t.Error(err)
	}
	if seq := f.checkpoint(t); seq != 1 {
		t.Errorf("the rows stand at %d, not just before the commit", seq)
	}
	f.checkSame(t)
}

func TestACommitThatTheDatabaseRefusesStops(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 9)
	f.Commit()
	for _, user := range []string{"ada", "bob", "cem", "dan"} {
		f.Acquire("acme", "lic_1", user)
		f.Commit()
	}
	// As if a bug: a rule that the fourth commit breaks.
	if _, err := f.db.Exec(deadline(t), `ALTER TABLE read.leases ADD CHECK ("user" <> 'u_cem')`); err != nil {
		t.Fatal(err)
	}
	err := f.run(t, projections.Options{})
	if err == nil || !strings.Contains(err.Error(), "commit 4 (") {
		t.Fatalf("the error does not say where: %v", err)
	}
	if seq := f.checkpoint(t); seq != 3 {
		t.Errorf("the rows stand at %d, not just before the commit", seq)
	}
	f.checkSame(t)
}

func TestRowsThatAreNotThereStop(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 9)
	f.Acquire("acme", "lic_1", "ada")
	f.Commit()
	f.project(t, projections.Options{})
	if _, err := f.db.Exec(deadline(t), `DELETE FROM read.leases`); err != nil {
		t.Fatal(err)
	}
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1"}})
	f.Commit()
	if err := f.run(t, projections.Options{}); err == nil || !strings.Contains(err.Error(), "leases changed: 0 rows instead of 1") {
		t.Fatalf("the error does not say what: %v", err)
	}
}

func TestAJournalThatIsNotTheSameStops(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, f *fixture){
		"rolled back": func(_ *testing.T, f *fixture) { f.store.Journal(0).(*eventstoretest.Log).Truncate(1) },
		"last commit changed": func(_ *testing.T, f *fixture) {
			f.store.Journal(0).(*eventstoretest.Log).Replace(2, func(r *eventstore.Record) { r.Body = append(r.Body, ' ') })
		},
		"swapped and longer": func(t *testing.T, f *fixture) {
			f.store = eventstoretest.NewStore(1)
			f.History = projectionstest.NewHistory(t, f.store)
			f.Create("evil", "lic_1", 9)
			for range 5 {
				f.Acquire("evil", "lic_1", "eve")
				f.Commit()
				f.Do("evil", domain.RenameTenant{Name: f.Now.String()})
			}
			f.Commit()
		},
		"rows of another ledger": func(t *testing.T, f *fixture) {
			if _, err := f.db.Exec(deadline(t), `UPDATE read.checkpoints SET ledger_id = 'another'`); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.Create("acme", "lic_1", 9)
			f.Commit()
			f.Acquire("acme", "lic_1", "ada")
			f.Commit()
			f.project(t, projections.Options{})
			before := f.value(t, `SELECT string_agg(l::text, ' ') FROM read.leases l`)
			spoil(t, &f)
			mustBeBroken(t, f.run(t, projections.Options{}))
			mustBe(t, "the rows", f.value(t, `SELECT string_agg(l::text, ' ') FROM read.leases l`), before)
		})
	}
}

// Another projector, that follows another copy of the journal, moved the checkpoint to a commit of the same number.
func TestACheckpointThatAnotherJournalMovedStops(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 9)
	f.Commit()
	applied := make(chan struct{}, 1)
	stopped := make(chan error, 1)
	runner := projections.NewRunner(projections.Options{
		DB: f.db, Store: f.store, Log: quiet, Publish: func(domain.TenantID, []byte) error { applied <- struct{}{}; return nil },
	})
	go func() { stopped <- runner.Run(deadline(t)) }()
	<-applied
	if _, err := f.db.Exec(deadline(t), `UPDATE read.checkpoints SET hash = sha256(hash)`); err != nil {
		t.Fatal(err)
	}
	f.Acquire("acme", "lic_1", "ada")
	f.Commit()
	mustBeBroken(t, <-stopped)
	mustBe(t, "leases", f.value(t, `SELECT count(*) FROM read.leases`), "0")
}

func TestCompareFindsWhatIsWrong(t *testing.T) {
	f := setup(t)
	f.busy(400)
	f.Create("crowded", "lic_1", 0)
	f.Do("crowded", domain.AcquireSeat{License: "lic_1", Lease: "lse_queued", Holder: domain.Holder{User: "u_1", Machine: "m_1"}, Queue: true})
	f.Commit()
	f.project(t, projections.Options{})
	f.checkSame(t)
	spoils := 0
	for _, spoil := range []string{
		`UPDATE read.tenants SET name = 'x' WHERE tenant_id = 'tenant0'`,
		`DELETE FROM read.licenses WHERE tenant_id = 'tenant0' AND license_id = 'lic_0'`,
		`UPDATE read.licenses SET transfer = transfer || '{"transfer":"gone"}' WHERE tenant_id = 'tenant1' AND license_id = 'lic_0'`,
		`UPDATE read.seat_counts SET in_use = in_use + 1 WHERE tenant_id = 'tenant0' AND license_id = 'lic_0'`,
		`UPDATE read.leases SET expires_at = expires_at + interval '1 ms' WHERE lease_id = 'lse_1'`,
		`INSERT INTO read.audit_entries (tenant_id, version, partition, seq, index, type, time, subject, actor, command, event, license_id, "user", machine, reason, cause, traffic)
			VALUES ('tenant0', 1000, 0, 1, 0, '', now(), '', '', '', '', '', '', '', '', '', false)`,
		`UPDATE read.audit_entries SET "user" = 'u_x' WHERE (tenant_id, version) = (SELECT tenant_id, min(version) FROM read.audit_entries WHERE type LIKE '%.released.%' GROUP BY 1 LIMIT 1)`,
		`UPDATE read.audit_entries SET machine = '' WHERE (tenant_id, version) = (SELECT tenant_id, min(version) FROM read.audit_entries WHERE type LIKE '%.expired.%' GROUP BY 1 LIMIT 1)`,
		`INSERT INTO read.audit_entries_of_feature (tenant_id, feature, version) VALUES ('tenant0', 'cam', 1)`,
		`UPDATE read.denials SET count = count + 1 WHERE (tenant_id, version) = (SELECT tenant_id, min(version) FROM read.denials GROUP BY 1 LIMIT 1)`,
		`UPDATE read.leases SET features = '["one"]' WHERE (tenant_id, fence) = (SELECT tenant_id, max(fence) FROM read.leases GROUP BY 1 ORDER BY 1 LIMIT 1)`,
		`UPDATE read.leases SET held = held + '{[9000,)}' WHERE lease_id = 'lse_2'`,
		`UPDATE read.leases SET moved_fence = 9000 WHERE (tenant_id, fence) = (SELECT tenant_id, max(fence) FROM read.leases GROUP BY 1 ORDER BY 1 DESC LIMIT 1)`,
		`UPDATE read.history SET until_version = until_version + 1 WHERE (tenant_id, kind, version) = (
			SELECT tenant_id, kind, min(version) FROM read.history WHERE kind = 'license' AND until_version IS NOT NULL GROUP BY 1, 2 LIMIT 1)`,
		`UPDATE read.history SET state = state || '{"role":"billing"}' WHERE (tenant_id, kind, version) = (
			SELECT tenant_id, kind, min(version) FROM read.history WHERE kind = 'member' AND until_version IS NOT NULL GROUP BY 1, 2 LIMIT 1)`,
		`DELETE FROM read.queue WHERE (tenant_id, version) = (SELECT tenant_id, max(version) FROM read.queue GROUP BY 1 LIMIT 1)`,
		`UPDATE read.seat_ends SET ended = ended[2:] WHERE (tenant_id, license_id) = (
			SELECT tenant_id, license_id FROM read.seat_ends WHERE cardinality(ended) > 0 ORDER BY 1, 2 LIMIT 1)`,
	} {
		if tag, err := f.db.Exec(deadline(t), spoil); err != nil || tag.RowsAffected() != 1 {
			t.Fatalf("%s: %v, %v", spoil, tag, err)
		}
		spoils++
	}
	differences, err := projections.Compare(deadline(t), f.db, f.store)
	if err != nil || len(differences) != spoils {
		t.Errorf("%v, %v", differences, err)
	}
	f.store.Journal(0).(*eventstoretest.Log).Truncate(1)
	_, err = projections.Compare(deadline(t), f.db, f.store)
	mustBeBroken(t, err)
}

func TestADirectoryThatWasRolledBackStops(t *testing.T) {
	f := setup(t)
	f.Name("acme", "u_ada", eventstore.UserName, "ada")
	f.Create("acme", "lic_1", 9)
	f.Commit()
	f.store.Directory(0).(*eventstoretest.Log).Truncate(0)
	mustBeBroken(t, f.run(t, projections.Options{}))
}

func TestANewProjectionCatchesUpFirst(t *testing.T) {
	f := setup(t)
	f.busy(200)
	f.project(t, projections.Options{Projections: projections.All()[:4]})
	f.busy(200)
	f.project(t, projections.Options{Projections: projections.All()[:2]})
	f.busy(50)
	f.project(t, projections.Options{BatchMax: 5}) // three groups: at two places, and at the beginning
	f.checkpoint(t)
	f.checkSame(t)
}

// A database that goes away is waited for.
func TestTheDatabaseMayGoAway(t *testing.T) {
	f := setup(t)
	f.busy(200)
	config := f.db.Config().Copy()
	dials := 0
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
		if dials++; dials < 4 {
			return errors.New("connection refused")
		}
		return nil
	}
	db, err := pgxpool.NewWithConfig(deadline(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	// Once there, its connections break in the middle of work.
	var runner *projections.Runner
	batches := 0
	runner = projections.NewRunner(projections.Options{DB: db, Store: f.store, BatchMax: 10, Log: quiet, Publish: func(domain.TenantID, []byte) error {
		if batches++; batches%7 == 1 {
			_, err := f.db.Exec(deadline(t), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid()`)
			return err
		}
		return nil
	}})
	if runner.Ready() == nil {
		t.Error("ready before it started")
	}
	if err := runner.CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := runner.Ready(); err != nil {
		t.Error(err)
	}
	f.checkSame(t)
}

// awayLog is a Log whose transport fails a few times.
type awayLog struct {
	eventstore.Log
	failures atomic.Int64
}

func (l *awayLog) Read(ctx context.Context, after uint64, f func(uint64, eventstore.Record) error) error {
	if l.failures.Add(-1) >= 0 {
		return errors.New("no servers available")
	}
	return l.Log.Read(ctx, after, f)
}

type awayStore struct {
	eventstore.Store
	journal *awayLog
}

func (s awayStore) Journal(eventstore.Partition) eventstore.Log { return s.journal }

func TestTheJournalMayGoAway(t *testing.T) {
	f := setup(t)
	f.busy(50)
	store := awayStore{f.store, &awayLog{Log: f.store.Journal(0)}}
	store.journal.failures.Store(3)
	if err := projections.NewRunner(projections.Options{DB: f.db, Store: store, Log: quiet}).CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
	f.checkSame(t)
}

func TestRunEndsWithItsContext(t *testing.T) {
	f := setup(t)
	f.busy(50)
	end, err := f.store.Journal(0).Last(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(deadline(t))
	defer stop()
	registry := prometheus.NewRegistry()
	err = projections.NewRunner(projections.Options{
		DB: f.db, Store: f.store, Registerer: registry, Log: quiet,
		Publish: func(_ domain.TenantID, payload []byte) error {
			var c projections.Change
			if err := json.Unmarshal(payload, &c); err != nil {
				return err
			}
			if c.Seq == end {
				stop()
			}
			return nil
		},
	}).Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Error(err, problems)
	}
	for _, name := range []string{"ledger_projection_lag_commits", "ledger_projection_lag_seconds", "ledger_projection_commits_total"} {
		if n, err := testutil.GatherAndCount(registry, name); err != nil || n == 0 {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// onlooker is a projection that looks at the events of a batch when it is its turn, and after each step of those that need several.
type onlooker struct {
	name string
	see  func(from uint64, events string)
}

func (o onlooker) Name() string { return o.name }

func (o onlooker) Apply(b *projections.Batch, _ *pgx.Batch) error {
	var look func(again int) error
	look = func(again int) error {
		var text strings.Builder
		for place, e := range b.Events() {
			data, err := json.Marshal(e.Data)
			if err != nil {
				return err
			}
			whole := *e
			whole.Data = nil
			fmt.Fprintf(&text, "%v %+v %s\n", place, whole, data)
		}
		o.see(b.From.Seq, text.String())
		if again > 0 {
			b.Then(func(*pgx.Batch) error { return look(again - 1) })
		}
		return nil
	}
	return look(3)
}

// The events of a batch are not copied for each projection: none may change them.
func TestNoProjectionChangesEvents(t *testing.T) {
	f := setup(t)
	f.busy(600)
	var first, last sync.Map // what is seen of the batch after a commit; batches are made while others are written
	var changed atomic.Bool
	all := append([]projections.Projection{onlooker{"first", func(from uint64, events string) { first.LoadOrStore(from, events) }}}, projections.All()...)
	all = append(all, onlooker{"last", func(from uint64, events string) {
		was, _ := first.Load(from)
		last.Store(from, events)
		if events != was {
			changed.Store(true)
		}
	}})
	f.project(t, projections.Options{Projections: all, BatchMax: 50})
	seen := 0
	last.Range(func(_, events any) bool { seen += strings.Count(events.(string), "\n"); return true })
	if seen < 100 || changed.Load() {
		t.Errorf("of %d events; changed: %t", seen, changed.Load())
	}
}
