package domain_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
)

// Two tenants, one license, and a carrier that repeats its steps, loses them, and does them late: at no time is the license usable in
// both, it is never lost, never oversold, and what is stored gives the same state again.
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
		leases, transfers := 0, 0
		var late []domain.LicenseInfo // handed over, perhaps for the second time
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
						do(id, domain.AcquireSeat{License: l.ID, Lease: domain.LeaseID(fmt.Sprint("l", leases)), Holder: domain.Holder{User: domain.Pseudonym(fmt.Sprint("u", leases%4))}})
					})
				}
			case 3:
				if leases > 0 {
					id := domain.LeaseID(fmt.Sprint("l", rapid.IntRange(1, leases).Draw(rt, "lease")))
					do("acme", domain.ReleaseSeats{License: "lic", Leases: []domain.LeaseID{id}})
				}
			case 4:
				transfers++
				as := fmt.Sprint("lic", transfers)
				do("acme", domain.StartTransfer{License: "lic", Transfer: domain.TransferID("t" + as), To: "globex", As: domain.LicenseID(as), Key: domain.LicenseKey{ID: domain.KeyID("k" + as)}})
			case 5:
				do("acme", domain.CancelTransfer{License: "lic"})
			case 6:
				late = append(late, do("acme", domain.AdvanceTransfers{}).Gone...)
			case 7:
				for _, l := range late {
					do("globex", domain.ReceiveLicense{Transfer: l.Transfer.ID, Suspended: l.Transfer.Suspended, IssueLicense: domain.IssueLicense{
						License: l.Transfer.As, Seats: l.Seats, Policy: l.Policy, Key: l.Transfer.Key,
					}})
					if rapid.Bool().Draw(rt, "and the word of it") {
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
			for id, tenant := range tenants {
				restored := domain.NewTenant(id)
				stored, _ := tenant.AppendBinary(nil)
				if err := restored.UnmarshalBinary(stored); err != nil || restored.OnTheirWay != tenant.OnTheirWay {
					rt.Fatalf("restored with %d licenses on their way, not %d: %v", restored.OnTheirWay, tenant.OnTheirWay, err)
				}
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
				do("globex", domain.ReceiveLicense{Transfer: l.Transfer.ID, IssueLicense: domain.IssueLicense{License: l.Transfer.As, Seats: l.Seats, Policy: l.Policy, Key: l.Transfer.Key}})
				do("acme", domain.CompleteTransfer{License: l.ID, Transfer: l.Transfer.ID})
			}
		}
		if n := usable("acme") + usable("globex"); n != 1 || tenants["acme"].OnTheirWay != 0 {
			rt.Fatalf("in the end the license is usable %d times, and %d are on their way", n, tenants["acme"].OnTheirWay)
		}
	})
}
