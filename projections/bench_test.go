package projections_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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

// BenchmarkAsOf asks for the active leases of a tenant as of the middle of its history, when 500 were held, and puts their ends right:
// ten times as many leases before and after make it little slower.
func BenchmarkAsOf(b *testing.B) {
	for _, rounds := range []int{10, 100} {
		store := eventstoretest.NewStore(1)
		h := projectionstest.NewHistory(b, store)
		h.Create("acme", "lic_1", 10_000)
		h.Commit()
		var held []domain.LeaseID
		for round := range rounds {
			for i := range 100 { // each is held for five rounds
				held = append(held, h.Acquire("acme", "lic_1", fmt.Sprint(round, ".", i)))
			}
			if len(held) > 500 {
				h.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: held[:100]})
				held = held[100:]
			}
			for range 3 {
				h.Do("acme", domain.HeartbeatSeats{License: "lic_1", Leases: held})
				h.Commit()
			}
		}
		db := projectionstest.New(b)
		ctx := context.Background()
		if err := projections.NewRunner(projections.Options{DB: db, Store: store, Log: quiet}).CatchUp(ctx); err != nil {
			b.Fatal(err)
		}
		if err := projections.NewArchiver(db, store, quiet, nil).CatchUp(ctx); err != nil {
			b.Fatal(err)
		}
		if _, err := db.Exec(ctx, `ANALYZE`); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("leases=%d", 100*rounds), func(b *testing.B) {
			found := 0
			for b.Loop() {
				err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
					version := h.Tenant("acme").Version / 2
					if err := projections.AsOf(ctx, tx, "acme", version); err != nil {
						return err
					}
					ids, err := collect(ctx, tx, pgx.RowTo[string], `SELECT l.lease_id FROM `+projections.ActiveLeaseTablesAt+` WHERE l.tenant_id = 'acme'`)
					if err != nil {
						return err
					}
					found = len(ids)
					_, err = projections.RenewalsAt(ctx, tx, "acme", version, ids)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(found), "leases")
		})
	}
}
