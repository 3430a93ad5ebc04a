package projections_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// BenchmarkCatchUp projects a journal of seats that are acquired, renewed twice and released, 20 events per commit.
func BenchmarkCatchUp(b *testing.B) {
	for _, batchMax := range []int{100, 500, 2000} {
		for _, publish := range []projections.Publisher{nil, discard} {
			b.Run(fmt.Sprintf("batch=%d/live=%v", batchMax, publish != nil), func(b *testing.B) {
				store := eventstoretest.NewStore(1)
				h := projectionstest.NewHistory(b, store)
				events := 0
				for tenant := range 10 {
					h.Create(domain.TenantID(fmt.Sprint("tenant", tenant)), "lic_1", 1000)
				}
				h.Commit()
				for round := range 400 {
					tenant := domain.TenantID(fmt.Sprint("tenant", round%10))
					var held []domain.LeaseID
					for i := range 18 {
						held = append(held, h.Acquire(tenant, "lic_1", fmt.Sprint(round, ".", i)))
					}
					events += 18
					h.Commit()
					for range 2 {
						events += h.Do(tenant, domain.HeartbeatSeats{License: "lic_1", Leases: held})
						h.Commit()
					}
					events += h.Do(tenant, domain.ReleaseSeats{License: "lic_1", Leases: held})
					h.Commit()
				}
				commits, err := store.Journal(0).Last(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				var took time.Duration
				for b.Loop() {
					b.StopTimer()
					db := projectionstest.New(b)
					b.StartTimer()
					start := time.Now()
					err := projections.NewRunner(projections.Options{DB: db, Store: store, BatchMax: batchMax, Publish: publish}).CatchUp(context.Background())
					if err != nil {
						b.Fatal(err)
					}
					took += time.Since(start)
				}
				b.ReportMetric(float64(events*b.N)/took.Seconds(), "events/s")
				b.ReportMetric(float64(commits)*float64(b.N)/took.Seconds(), "commits/s")
			})
		}
	}
}
