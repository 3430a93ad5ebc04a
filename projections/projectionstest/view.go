package projectionstest

import (
	"context"
	"slices"
	"strings"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

// Stored is an event and the commit that it is in.
type Stored struct {
	Seq uint64
	eventstore.Event
}

// Events returns what a journal holds, by tenant.
func Events(t TB, store eventstore.Store) map[domain.TenantID][]Stored {
	t.Helper()
	all := map[domain.TenantID][]Stored{}
	err := store.Info().All(func(p eventstore.Partition) error {
		last, err := store.Journal(p).Last(context.Background())
		for seq := uint64(1); seq <= last && err == nil; seq++ {
			var record eventstore.Record
			if record, err = store.Journal(p).Get(context.Background(), seq); err != nil {
				break
			}
			var parts []eventstore.Slice
			parts, err = eventstore.Commit{Body: record.Body}.Decode()
			for _, part := range parts {
				for _, e := range part.Events {
					all[part.Tenant] = append(all[part.Tenant], Stored{seq, e})
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatalf("read the journal: %v", err)
	}
	return all
}

// View is what the API shows of a tenant.
type View struct {
	Tenant   api.Tenant
	Licenses []api.License // by id
	Leases   []api.Lease   // in every state, newest first
	Members  []api.Member  // by id, with those that were removed
}

// Active returns the active leases of a View.
func (v View) Active() []api.Lease {
	return slices.DeleteFunc(slices.Clone(v.Leases), func(l api.Lease) bool { return l.State != api.LeaseStateActive })
}

// ViewOf returns what the first events of a tenant mean, as the domain says: what rows as of the last of them have to show. names are
// those of users and machines. Of each license at most 256 leases may have ended: the domain forgets.
func ViewOf(events []Stored, names map[domain.Pseudonym]string) View {
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
	v := View{
		Tenant:   api.Tenant{Id: string(t.ID), Name: shown(t.Name), Status: api.TenantStatus(t.Status), CreatedAt: t.CreatedAt},
		Licenses: []api.License{}, Leases: []api.Lease{}, Members: []api.Member{},
	}
	t.Licenses(func(l *domain.License) {
		one := api.License{
			Id: string(l.ID), Tenant: string(t.ID), Product: shown(l.Product), Seats: l.Seats, InUse: l.InUse,
			Status: api.LicenseStatus(l.Status), IssuedAt: l.IssuedAt,
		}
		p := l.Policy
		p.Features, p.Reservations = slices.Clone(p.Features), slices.Clone(p.Reservations)
		for i := range p.Features {
			p.Features[i] = shown(p.Features[i])
		}
		for i := range p.Reservations {
			p.Reservations[i].Name = shown(p.Reservations[i].Name)
		}
		projections.ShowTransfer(&one, l.LicenseInfo)
		projections.ShowPolicy(&one, p, func(p domain.Pseudonym) string { return names[p] })
		v.Licenses = append(v.Licenses, one)
	})
	slices.SortFunc(v.Licenses, func(a, b api.License) int { return strings.Compare(a.Id, b.Id) })
	t.Members(func(m domain.Member) {
		one := api.Member{Id: string(m.User), User: names[m.User], Role: api.Role(m.Role), Status: api.MemberStatusMember}
		if m.Removed {
			one.Status = api.MemberStatusRemoved
		}
		v.Members = append(v.Members, one)
	})
	slices.SortFunc(v.Members, func(a, b api.Member) int { return strings.Compare(a.Id, b.Id) })
	for _, id := range slices.Backward(leases) {
		l, ok := t.License(licenses[id]).Lease(id)
		if !ok {
			panic("the domain has forgotten a lease; make the history shorter")
		}
		one := api.Lease{
			Id: string(l.ID), Fence: int64(l.Fence), License: string(l.License), User: names[l.Holder.User], Machine: names[l.Holder.Machine],
			State: api.LeaseState(l.State), AcquiredAt: l.AcquiredAt, ExpiresAt: l.ExpiresAt,
		}
		if l.Overage {
			one.Overage = new(true)
		}
		if l.Borrowed {
			one.Borrowed = new(true)
		}
		if !l.EndedAt.IsZero() {
			one.EndedAt = new(l.EndedAt)
		}
		v.Leases = append(v.Leases, one)
	}
	return v
}

// shown is text as Postgres can hold it.
func shown(text string) string { return strings.ReplaceAll(text, "\x00", "\uFFFD") }
