package projections_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// text is what a test shows of a value.
func text(v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// rowsAt returns what the rows say of a tenant as of a version, and its active leases once more, as they are found by their spans.
func (f fixture) rowsAt(t testing.TB, tenant domain.TenantID, version uint64) (v projectionstest.View, active []api.Lease) {
	t.Helper()
	lease := func(row pgx.CollectableRow) (api.Lease, error) { return projections.ScanLease(row) }
	err := pgx.BeginFunc(deadline(t), f.db, func(tx pgx.Tx) error {
		ctx := deadline(t)
		if err := projections.AsOf(ctx, tx, tenant, version); err != nil {
			return err
		}
		tenants, err := collect(ctx, tx, func(row pgx.CollectableRow) (api.Tenant, error) { return projections.ScanTenant(row) },
			`SELECT `+projections.TenantColumns+` FROM `+projections.TenantTablesAt+` WHERE t.tenant_id = $1`, tenant)
		if err != nil || len(tenants) != 1 {
			return fmt.Errorf("%d tenants: %w", len(tenants), err)
		}
		v.Tenant = tenants[0]
		if v.Licenses, err = collect(ctx, tx, func(row pgx.CollectableRow) (api.License, error) { return projections.ScanLicense(row) },
			`SELECT `+projections.LicenseColumns+` FROM `+projections.LicenseTablesAt+` WHERE l.tenant_id = $1 ORDER BY l.license_id`, tenant); err != nil {
			return err
		}
		if v.Leases, err = collect(ctx, tx, lease,
			`SELECT `+projections.LeaseColumns+` FROM `+projections.LeaseTablesAt+` WHERE l.tenant_id = $1 ORDER BY l.fence DESC`, tenant); err != nil {
			return err
		}
		if active, err = collect(ctx, tx, lease,
			`SELECT `+projections.LeaseColumns+` FROM `+projections.ActiveLeaseTablesAt+` WHERE l.tenant_id = $1 ORDER BY l.fence DESC`, tenant); err != nil {
			return err
		}
		if v.Members, err = collect(ctx, tx, func(row pgx.CollectableRow) (api.Member, error) { return projections.ScanMember(row) },
			`SELECT `+projections.MemberColumns+` FROM `+projections.MemberTablesAt+` WHERE m.tenant_id = $1 ORDER BY m."user"`, tenant); err != nil {
			return err
		}
		all, err := projections.RenewalsAt(ctx, tx, tenant, version, nil)
		if err != nil {
			return err
		}
		for i := range v.Leases {
			all.Correct(&v.Leases[i])
		}
		var ids []string
		for _, l := range active {
			ids = append(ids, l.Id)
		}
		some, err := projections.RenewalsAt(ctx, tx, tenant, version, append([]string{}, ids...))
		for i := range active {
			some.Correct(&active[i])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v, active
}

func collect[T any](ctx context.Context, tx pgx.Tx, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// At every version of every tenant the rows say what the domain says that the events up to it mean; and times and commits lead to
// the right version.
func TestAsOfIsTheFoldOfTheJournal(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := setup(t)
			random := rand.New(rand.NewPCG(seed, 7))
			names := map[domain.Pseudonym]string{}
			for tenant := range 3 {
				for user := range 6 {
					p := domain.Pseudonym(fmt.Sprint("u_", user))
					names[p] = fmt.Sprint("user ", user)
					f.Name(domain.TenantID(fmt.Sprint("tenant", tenant)), p, eventstore.UserName, names[p])
				}
				for machine := range 3 {
					p := domain.Pseudonym(fmt.Sprint("m_", machine))
					names[p] = fmt.Sprint("machine ", machine)
					f.Name(domain.TenantID(fmt.Sprint("tenant", tenant)), p, eventstore.MachineName, names[p])
				}
			}
			for range 200 {
				step(f.History, random.IntN)
				if random.IntN(5) == 0 {
					stepPeople(f.History, random.IntN)
				}
				if random.IntN(3) == 0 {
					f.Commit()
				}
			}
			f.Commit()
			f.project(t, projections.Options{BatchMax: 1 + random.IntN(30)})
			if err := f.archiver().CatchUp(deadline(t)); err != nil {
				t.Fatal(err)
			}
			for tenant, events := range projectionstest.Events(t, f.store) {
				for version := uint64(1); version <= uint64(len(events)); version += 1 + random.Uint64N(5) {
					want := projectionstest.ViewOf(events[:version], names)
					got, active := f.rowsAt(t, tenant, version)
					if text(got) != text(want) {
						t.Fatalf("%s at version %d is\n%s\nnot\n%s", tenant, version, text(got), text(want))
					}
					if text(active) != text(want.Active()) {
						t.Fatalf("of %s at version %d active are\n%s\nnot\n%s", tenant, version, text(active), text(want.Active()))
					}
				}
				f.checkPlaces(t, tenant, events, random)
			}
		})
	}
}

// checkPlaces compares where times and commits lead with what the journal says.
func (f fixture) checkPlaces(t testing.TB, tenant domain.TenantID, events []projectionstest.Stored, random *rand.Rand) {
	t.Helper()
	err := pgx.BeginFunc(deadline(t), f.db, func(tx pgx.Tx) error {
		for range 50 {
			// Around the time of some event, and between two.
			at := events[random.IntN(len(events))].Time.Add(time.Duration(random.IntN(3)-1) * time.Millisecond)
			seq, archived, err := projections.PlaceAt(deadline(t), tx, 0, at)
			if err != nil {
				return err
			}
			version, err := projections.VersionAt(deadline(t), tx, tenant, seq)
			if err != nil {
				return err
			}
			var want uint64
			for _, e := range events {
				if !e.Time.After(at) {
					want = e.Version
				}
			}
			if version != want || seq > archived {
				t.Errorf("at %s %s is at version %d, commit %d of %d, not at version %d", at, tenant, version, seq, archived, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
