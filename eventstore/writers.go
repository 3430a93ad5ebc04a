package eventstore

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/domain"
)

// Writers are the Writers of all partitions of a ledger.
type Writers struct {
	info    LedgerInfo
	process string
	writers []*Writer
}

// WritersConfig is what Writers need.
type WritersConfig struct {
	Store      Store
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// Alone, Now, Snapshots, SnapshotEvery and Tracer are as in WriterConfig.
	Alone         bool
	Now           func() time.Time
	Snapshots     string
	SnapshotEvery int64
	Tracer        trace.Tracer
}

// NewWriters returns a Writer per partition. Errors: the folder for snapshots cannot be made.
func NewWriters(c WritersConfig) (*Writers, error) {
	ws := &Writers{info: c.Store.Info(), process: newID()}
	metrics := NewWriterMetrics(c.Registerer)
	err := ws.info.All(func(p Partition) error {
		w, err := NewWriter(WriterConfig{
			Partition: p, Store: c.Store, Log: c.Log, Metrics: metrics, Process: ws.process, Alone: c.Alone,
			Now: c.Now, Snapshots: c.Snapshots, SnapshotEvery: c.SnapshotEvery, Tracer: c.Tracer,
		})
		ws.writers = append(ws.writers, w)
		return err
	})
	return ws, err
}

// Run runs all Writers until ctx ends, or one fails for good.
func (ws *Writers) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range ws.writers {
		g.Go(func() error {
			if err := w.Run(ctx); err != nil {
				return fmt.Errorf("partition %d: %w", w.partition, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Process returns the random name under which this process owns partitions.
func (ws *Writers) Process() string { return ws.process }

// Ownership returns who owns the partition of a tenant, and a channel that is closed when that changes.
func (ws *Writers) Ownership(tenant domain.TenantID) (Ownership, <-chan struct{}) {
	return ws.of(tenant).Ownership()
}

// Ready returns nil once every partition is served here, or followed while another process serves it.
func (ws *Writers) Ready(context.Context) error {
	for _, w := range ws.writers {
		if err := w.ownership.ready(w.process); err != nil {
			return fmt.Errorf("partition %d: %w", w.partition, err)
		}
	}
	return nil
}

// Execute has a command done by the Writer of the tenant's partition. See Writer.Execute.
func (ws *Writers) Execute(ctx context.Context, r Request) (Result, error) {
	return ws.of(r.Tenant).Execute(ctx, r)
}

// Text returns the clear text of a pseudonym; empty when it was forgotten.
func (ws *Writers) Text(tenant domain.TenantID, p domain.Pseudonym) string {
	if p == "" {
		return ""
	}
	return ws.of(tenant).directory.Text(tenant, p)
}

// Moving returns the tenants, of those whose partitions this process owns, that have licenses on their way to another tenant.
func (ws *Writers) Moving() []domain.TenantID {
	var all []domain.TenantID
	for _, w := range ws.writers {
		if moving := w.moving.Load(); moving != nil {
			all = append(all, *moving...)
		}
	}
	return all
}

// AwaitErased returns nil once nothing of names that were deleted is left to be overwritten in the partition of a tenant, or another
// process has to do it. Errors: that of ctx.
func (ws *Writers) AwaitErased(ctx context.Context, tenant domain.TenantID) error {
	return ws.of(tenant).directory.AwaitErased(ctx)
}

func (ws *Writers) of(tenant domain.TenantID) *Writer { return ws.writers[ws.info.PartitionOf(tenant)] }
