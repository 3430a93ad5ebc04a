package domain_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
)

// Two tenants, one license, and a carrier that repeats its steps, loses them, and does them late: at no time is the license usable in
// both, or a lease of it active in both; neither is lost, it is never oversold, its fences only grow, and what is stored gives the same
// state again.
func TestALicenseIsInOneTenantAtATime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
		tenants := map[domain.TenantID]*domain.Tenant{"acme": domain.NewTenant("acme"), "globex": domain.NewTenant("globex")}
		replicas := map[domain.TenantID]*domain.Tenant{"acme": domain.NewTenant("acme"), "globex": domain.NewTenant("globex")}
		do := func(id domain.TenantID, c domain.Command) domain.Answer {
			events, err := c.Decide(tenants[id], domain.Moment{At: now})
			for _, e := range events {
				tenants[id].Apply(now, e) // panics when a rule is broken
				replicas[id].Apply(now, e)
			}
			if err != nil {
				return domain.Answer{}
			}
			answer := c.Answer(tenants[id], events)
			if again, _ := c.Decide(tenants[id], domain.Moment{At: now}); len(again) > 0 {
				switch c.(type) {
				case domain.AcquireSeat, domain.IssueLicense: // a license again would have another id
				case domain.HeartbeatSeats: // its answer is another time
				default:
					rt.Fatalf("%T again leaves %d events", c, len(again))
				}
			}
			return answer
		}
		for id := range tenants {
			do(id, domain.CreateTenant{Tenant: id, Name: string(id)})
		}
		do("acme", domain.IssueLicense{License: "lic", Seats: 2, Policy: domain.Policy{LeaseSeconds: 60}, Key: domain.LicenseKey{ID: "k0"}})
		leases, transfers, fence := 0, 0, uint64(0)
		var late []domain.LicenseInfo // handed over, perhaps for the second time
		receive := func(l domain.LicenseInfo) {
			do("globex", domain.ReceiveLicense{
				Transfer: l.Transfer.ID, Suspended: l.Transfer.Suspended, Fences: l.Transfer.Fences, Leases: l.Transfer.Kept, InUse: l.Transfer.InUse,
				IssueLicense: domain.IssueLicense{License: l.Transfer.As, Seats: l.Seats, Policy: l.Policy, Key: l.Transfer.Key},
			})
		}
		// receiveLeases hands over some leases from one on, and reports whether all are there.
		receiveLeases := func(l domain.LicenseInfo, from, count int) bool {
			part := do("acme", domain.LeavingLeases{License: l.ID, From: from, Max: count}).Leaving
			do("globex", domain.ReceiveLeases{License: l.Transfer.As, Leases: part, Left: max(0, l.Transfer.Kept-from-len(part))})
			there := tenants["globex"].License(l.Transfer.As)
			return there != nil && there.Arriving == 0
		}
		usable := func(id domain.TenantID) (n int) {
			tenants[id].Licenses(func(l *domain.License) {
				if l.Status != domain.LicenseOver {
					n++
				}
			})
			return n
		}
		revoked := false
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "seconds")) * time.Second)
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0, 1, 2:
				for id, tenant := range tenants {
					tenant.Licenses(func(l *domain.License) {
						leases++
						answer := do(id, domain.AcquireSeat{License: l.ID, Lease: domain.LeaseID(fmt.Sprint("l", leases)), Holder: domain.Holder{User: domain.Pseudonym(fmt.Sprint("u", leases%4))}})
						if answer.Created && answer.Lease.Fence <= fence {
							rt.Fatalf("fence %d after %d", answer.Lease.Fence, fence)
						} else if answer.Created {
							fence = answer.Lease.Fence
						}
					})
				}
			case 3:
				if leases > 0 {
					id := domain.LeaseID(fmt.Sprint("l", rapid.IntRange(1, leases).Draw(rt, "lease")))
					for tenant := range tenants {
						tenants[tenant].Licenses(func(l *domain.License) {
							if rapid.Bool().Draw(rt, "release") {
								do(tenant, domain.ReleaseSeats{License: l.ID, Leases: []domain.LeaseID{id}})
							} else {
								do(tenant, domain.HeartbeatSeats{License: l.ID, Leases: []domain.LeaseID{id}})
							}
						})
					}
				}
			case 4:
				transfers++
				as := fmt.Sprint("lic", transfers)
				do("acme", domain.StartTransfer{License: "lic", Transfer: domain.TransferID("t" + as), To: "globex", As: domain.LicenseID(as), Key: domain.LicenseKey{ID: domain.KeyID("k" + as)}, Keep: rapid.Bool().Draw(rt, "keep"), Overlap: time.Hour})
			case 5:
				do("acme", domain.CancelTransfer{License: "lic"})
			case 6:
				late = append(late, do("acme", domain.AdvanceTransfers{}).Gone...)
			case 7:
				for _, l := range late {
					receive(l)
					all := receiveLeases(l, rapid.IntRange(0, 2).Draw(rt, "from"), rapid.IntRange(1, 2).Draw(rt, "leases"))
					if all && rapid.Bool().Draw(rt, "and the word of it") {
						do("acme", domain.CompleteTransfer{License: l.ID, Transfer: l.Transfer.ID})
					}
				}
			case 8:
				do("acme", []domain.Command{domain.SuspendLicense{License: "lic"}, domain.ReinstateLicense{License: "lic"}}[rapid.IntRange(0, 1).Draw(rt, "what")])
			case 9:
				if rapid.IntRange(0, 9).Draw(rt, "revoke") == 0 {
					do("acme", domain.RevokeLicense{License: "lic"})
					revoked = revoked || tenants["acme"].License("lic").Transfer == nil
				}
			}
			if both := usable("acme") + usable("globex"); both > 1 {
				rt.Fatalf("the license is usable %d times", both)
			}
			active := map[domain.LeaseID]domain.TenantID{}
			for id, tenant := range tenants {
				tenant.Licenses(func(l *domain.License) {
					l.Leases(func(lease domain.Lease) {
						if active[lease.ID] != "" {
							rt.Fatalf("lease %s is active at %s and %s", lease.ID, active[lease.ID], id)
						}
						active[lease.ID] = id
					})
				})
			}
			for id, tenant := range tenants {
				restored := domain.NewTenant(id)
				stored, _ := tenant.AppendBinary(nil)
				if err := restored.UnmarshalBinary(stored); err != nil || restored.OnTheirWay != tenant.OnTheirWay {
					rt.Fatalf("restored with %d licenses on their way, not %d: %v", restored.OnTheirWay, tenant.OnTheirWay, err)
				}
				tenant.Licenses(func(l *domain.License) {
					acquire := domain.AcquireSeat{License: l.ID, Lease: "probe", Holder: domain.Holder{User: "probe"}}
					want, _ := acquire.Decide(tenant, domain.Moment{At: now})
					if got, _ := acquire.Decide(restored, domain.Moment{At: now}); fmt.Sprintf("%+v", deref(got)) != fmt.Sprintf("%+v", deref(want)) {
						rt.Fatalf("restored it decides %+v, not %+v", deref(got), deref(want))
					}
					leaving := domain.LeavingLeases{License: l.ID, Max: 100}
					if got, want := leaving.Answer(restored, nil).Leaving, leaving.Answer(tenant, nil).Leaving; !slices.Equal(got, want) {
						rt.Fatalf("restored it hands over %+v, not %+v", got, want)
					}
				})
				if replicas[id].OnTheirWay != tenant.OnTheirWay || replicas[id].SeatsInUse != tenant.SeatsInUse {
					rt.Fatalf("a replay of %s is another: %d, %d", id, replicas[id].OnTheirWay, replicas[id].SeatsInUse)
				}
			}
		}
		if revoked {
			return
		}
		// Carried to its end, it is somewhere, once.
		now = now.Add(time.Hour)
		for range 2 {
			for _, l := range do("acme", domain.AdvanceTransfers{}).Gone {
				kept := do("acme", domain.LeavingLeases{License: l.ID, Max: 100}).Leaving
				receive(l)
				for from := range l.Transfer.Kept + 1 {
					receiveLeases(l, from, 1)
				}
				do("acme", domain.CompleteTransfer{License: l.ID, Transfer: l.Transfer.ID})
				// Those that arrived before may have run out since, heard of by nobody; all are known there.
				for _, lease := range kept {
					if there, ok := tenants["globex"].License(l.Transfer.As).Lease(lease.ID); !ok || there.Fence != lease.Fence || there.Holder != lease.Holder {
						rt.Fatalf("lease %+v is lost: %+v", lease, there)
					}
				}
			}
		}
		if n := usable("acme") + usable("globex"); n != 1 || tenants["acme"].OnTheirWay != 0 {
			rt.Fatalf("in the end the license is usable %d times, and %d are on their way", n, tenants["acme"].OnTheirWay)
		}
	})
}

// deref returns the events themselves, to be compared.
func deref(events []domain.Event) (all []any) {
	for _, e := range events {
		all = append(all, reflect.ValueOf(e).Elem().Interface())
	}
	return all
}

// More leases go along than a license remembers of those that ended: none is forgotten before it is known to be there.
func TestAllLeasesGoAlong(t *testing.T) {
	t.Parallel()
	const leases = 300
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	tenant := domain.NewTenant("acme")
	do := func(c domain.Command) domain.Answer {
		t.Helper()
		events, err := c.Decide(tenant, domain.Moment{At: now})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			tenant.Apply(now, e)
		}
		return c.Answer(tenant, events)
	}
	do(domain.CreateTenant{Tenant: "acme", Name: "Acme"})
	do(domain.IssueLicense{License: "lic", Seats: 1, Policy: domain.Policy{LeaseSeconds: 60, Overage: domain.OverageUnlimited}, Key: domain.LicenseKey{ID: "k0"}})
	for i := range leases {
		do(domain.AcquireSeat{License: "lic", Lease: domain.LeaseID(fmt.Sprint("l", i)), Holder: domain.Holder{User: domain.Pseudonym(fmt.Sprint("u", i))}})
	}
	do(domain.StartTransfer{License: "lic", Transfer: "trf", To: "globex", As: "lic9", Key: domain.LicenseKey{ID: "k9"}, Keep: true})
	stored, _ := tenant.AppendBinary(nil)
	if tenant = domain.NewTenant("acme"); tenant.UnmarshalBinary(stored) != nil {
		t.Fatal("cannot be restored")
	}
	for from := 0; from < leases; from += 7 {
		part := do(domain.LeavingLeases{License: "lic", From: from, Max: 7}).Leaving
		if len(part) != min(7, leases-from) || part[0].ID != domain.LeaseID(fmt.Sprint("l", from)) || !part[0].ExpiresAt.Equal(now.Add(time.Minute)) {
			t.Fatalf("from %d: %+v", from, part)
		}
	}
	do(domain.CompleteTransfer{License: "lic", Transfer: "trf"})
	if _, known := tenant.License("lic").Lease("l0"); known || do(domain.LeavingLeases{License: "lic", Max: 7}).Leaving != nil {
		t.Error("what is known to be there is remembered here")
	}
}
