package domain_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
)

// full returns a tenant with one license on which that many leases are active, and their ids.
func full(leases int) (*domain.Tenant, []domain.LeaseID) {
	tenant, ids := domain.NewTenant("acme"), make([]domain.LeaseID, leases)
	tenant.Apply(day, &domain.TenantCreated{Tenant: "acme", Name: "Acme"})
	tenant.Apply(day, &domain.LicenseIssued{License: "lic1", Seats: leases + 1, Policy: domain.Policy{LeaseSeconds: 3600}})
	for i := range ids {
		ids[i] = domain.LeaseID(fmt.Sprintf("lse_%016d", i))
		tenant.Apply(day, &domain.SeatAcquired{License: "lic1", Lease: ids[i], ExpiresAt: day.Add(time.Hour), Holder: domain.Holder{
			User: domain.Pseudonym(fmt.Sprintf("u_%016d", i)), Machine: domain.Pseudonym(fmt.Sprintf("m_%016d", i)),
		}})
	}
	return tenant, ids
}

func do(b *testing.B, t *domain.Tenant, c domain.Command, now domain.Moment) domain.Answer {
	events, err := c.Decide(t, now)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range events {
		t.Apply(now.At, e)
	}
	return c.Answer(t, events)
}

var sizes = []int{1_000, 100_000, 1_000_000}

// A seat taken and given back costs the same beside a thousand leases and beside a million: nothing is scanned.
func BenchmarkAcquireRelease(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			tenant, _ := full(size)
			now := domain.Moment{At: day}
			for i := 0; b.Loop(); i++ {
				now.At = now.At.Add(time.Microsecond)
				id := domain.LeaseID(fmt.Sprint("new", i))
				do(b, tenant, domain.AcquireSeat{License: "lic1", Lease: id, Holder: domain.Holder{User: "new"}}, now)
				do(b, tenant, domain.ReleaseSeats{License: "lic1", Leases: []domain.LeaseID{id}}, now)
			}
		})
	}
}

// What it costs to find out that nothing has run out.
func BenchmarkNothingDue(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			tenant, _ := full(size)
			for b.Loop() {
				if events, _ := (domain.ExpireSeats{Max: 200}).Decide(tenant, domain.Moment{At: day}); len(events) > 0 {
					b.Fatal("something expired")
				}
				tenant.NextDue()
			}
		})
	}
}

// A thousand leases renewed at once.
func BenchmarkHeartbeats(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			tenant, ids := full(size)
			now := domain.Moment{At: day}
			for b.Loop() {
				now.At = now.At.Add(time.Millisecond)
				from := rand.IntN(len(ids) - 999)
				do(b, tenant, domain.HeartbeatSeats{License: "lic1", Leases: ids[from : from+1000]}, now)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/lease")
		})
	}
}
