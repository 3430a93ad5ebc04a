package eventstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// How fast a Writer is when few or very many callers wait for it, each of whom acquires and releases: being overloaded must
// not make it slower.
func BenchmarkWriter(b *testing.B) {
	for _, callers := range []int{128, 6000} {
		b.Run(fmt.Sprint(callers, " callers"), func(b *testing.B) {
			store := eventstoretest.NewStore(1)
			w, err := eventstore.NewWriter(eventstore.WriterConfig{
				Store: store, Log: slog.New(slog.DiscardHandler), Metrics: eventstore.NewWriterMetrics(prometheus.NewRegistry()), Alone: true,
			})
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(b.Context())
			done := make(chan error, 1)
			go func() { done <- w.Run(ctx) }()
			<-w.Leading()
			do := func(urgent bool, c domain.Command) {
				_, err := w.Execute(context.Background(), eventstore.Request{Tenant: "acme", Actor: "key:0123456789abcdef", Urgent: urgent,
					Prepare: func(s eventstore.Scope) (domain.Command, error) {
						for _, text := range []string{"ada", "laptop"} { // what an acquire looks up
							s.Pseudonym(eventstore.UserName, text)
						}
						return c, nil
					}})
				if err != nil {
					b.Error(err)
				}
			}
			do(false, domain.CreateTenant{Tenant: "acme", Name: "Acme"})
			do(false, domain.IssueLicense{License: "lic", Product: "cad", Seats: 1 << 20, Policy: domain.Policy{LeaseSeconds: 3600}, Key: domain.LicenseKey{ID: "key"}})
			work := make(chan int)
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for i := range work {
						lease := domain.LeaseID(fmt.Sprintf("lse_%016d", i))
						do(false, domain.AcquireSeat{License: "lic", Lease: lease, Holder: domain.Holder{User: domain.Pseudonym(lease), Machine: "m"}})
						do(true, domain.ReleaseSeats{License: "lic", Leases: []domain.LeaseID{lease}})
					}
				})
			}
			n := 0
			for b.Loop() {
				work <- n
				n++
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(2*n)/b.Elapsed().Seconds(), "commands/s")
			stop()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}
