package projections_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

// stored is an event of a tenant and the commit that it is in.
type stored struct {
	seq uint64
	eventstore.Event
}

// events returns what the journal holds, by tenant.
func (f fixture) events(t testing.TB) map[domain.TenantID][]stored {
	t.Helper()
	all := map[domain.TenantID][]stored{}
	last, err := f.store.Journal(0).Last(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= last; seq++ {
		record, err := f.store.Journal(0).Get(deadline(t), seq)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := eventstore.Commit{Body: record.Body}.Decode()
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			for _, e := range part.Events {
				all[part.Tenant] = append(all[part.Tenant], stored{seq, e})
			}
		}
	}
	return all
}

// view is what the API shows of a tenant.
type view struct {
	Tenant   []api.Tenant
	Licenses []api.License
	Leases   []api.Lease // in every state, newest first
}

// active returns the view's active leases.
func (v view) active() []api.Lease {
	return slices.DeleteFunc(slices.Clone(v.Leases), func(l api.Lease) bool { return l.State != api.LeaseStateActive })
}

func text(v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// fold returns what the first events of a tenant say. Of the users and machines in names it shows the names.
func fold(events []stored, names map[domain.Pseudonym]string) view {
	t := domain.NewTenant(events[0].Tenant)
	var leases []domain.LeaseID
	licenses := map[domain.LeaseID]domain.LicenseID{}
	for _, e := range events {
		t.Apply(e.Time, e.Data)
		if a, ok := e.Data.(*domain.SeatAcquired); ok {
			leases = append(leases, a.Lease)
			licenses[a.Lease] = a.License
		}
	}
	v := view{Licenses: []api.License{}, Leases: []api.Lease{}, Tenant: []api.Tenant{{Id: string(t.ID), Name: strings.ReplaceAll(t.Name, "\x00", "\uFFFD"), Status: api.TenantStatus(t.Status), CreatedAt: t.CreatedAt}}}
	t.Licenses(func(l *domain.License) {
		shown := api.License{Id: string(l.ID), Tenant: string(t.ID), Product: l.Product, Seats: l.Seats, InUse: l.InUse, Status: api.LicenseStatus(l.Status), IssuedAt: l.IssuedAt}
		p := l.Policy
		p.Features = slices.Clone(p.Features)
		for i, f := range p.Features {
			p.Features[i] = strings.ReplaceAll(f, "\x00", "\uFFFD")
		}
		p.Reservations = slices.Clone(p.Reservations)
		for i := range p.Reservations {
			p.Reservations[i].Name = strings.ReplaceAll(p.Reservations[i].Name, "\x00", "\uFFFD")
		}
		projections.ShowPolicy(&shown, p, func(p domain.Pseudonym) string { return names[p] })
		v.Licenses = append(v.Licenses, shown)
	})
	slices.SortFunc(v.Licenses, func(a, b api.License) int { return strings.Compare(a.Id, b.Id) })
	for _, id := range slices.Backward(leases) {
		l, ok := t.License(licenses[id]).Lease(id)
		if !ok {
			panic("the domain has forgotten a lease; make the history shorter")
		}
		shown := api.Lease{
			Id: string(l.ID), Fence: int64(l.Fence), License: string(l.License), User: names[l.Holder.User], Machine: names[l.Holder.Machine],
			State: api.LeaseState(l.State), AcquiredAt: l.AcquiredAt, ExpiresAt: l.ExpiresAt,
		}
		if l.Overage {
			shown.Overage = new(true)
		}
		if l.Borrowed {
			shown.Borrowed = new(true)
		}
		if !l.EndedAt.IsZero() {
			shown.EndedAt = new(l.EndedAt)
		}
		v.Leases = append(v.Leases, shown)
	}
	return v
}

// rowsAt returns what the rows say of a tenant as of a version, and its active leases once more, as they are found by their spans.
func (f fixture) rowsAt(t testing.TB, tenant domain.TenantID, version uint64) (v view, active []api.Lease) {
	t.Helper()
	lease := func(row pgx.CollectableRow) (api.Lease, error) { return projections.ScanLease(row) }
	err := pgx.BeginFunc(deadline(t), f.db, func(tx pgx.Tx) error {
		ctx := deadline(t)
		if err := projections.AsOf(ctx, tx, version); err != nil {
			return err
		}
		var err error
		if v.Tenant, err = collect(ctx, tx, func(row pgx.CollectableRow) (api.Tenant, error) { return projections.ScanTenant(row) },
			`SELECT `+projections.TenantColumns+` FROM `+projections.TenantTablesAt+` WHERE t.tenant_id = $1`, tenant); err != nil {
			return err
		}
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
		if err := projections.RenewalsAt(ctx, tx, tenant, version, v.Leases); err != nil {
			return err
		}
		return projections.RenewalsAt(ctx, tx, tenant, version, active)
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
				if random.IntN(3) == 0 {
					f.Commit()
				}
			}
			f.Commit()
			f.project(t, projections.Options{BatchMax: 1 + random.IntN(30)})
			if err := f.archiver().CatchUp(deadline(t)); err != nil {
				t.Fatal(err)
			}
			for tenant, events := range f.events(t) {
				for version := uint64(1); version <= uint64(len(events)); version += 1 + random.Uint64N(5) {
					want := fold(events[:version], names)
					got, active := f.rowsAt(t, tenant, version)
					if text(got) != text(want) {
						t.Fatalf("%s at version %d is\n%s\nnot\n%s", tenant, version, text(got), text(want))
					}
					if text(active) != text(want.active()) {
						t.Fatalf("of %s at version %d active are\n%s\nnot\n%s", tenant, version, text(active), text(want.active()))
					}
				}
				f.checkPlaces(t, tenant, events, random)
			}
		})
	}
}

// checkPlaces compares where times and commits lead with what the journal says.
func (f fixture) checkPlaces(t testing.TB, tenant domain.TenantID, events []stored, random *rand.Rand) {
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
