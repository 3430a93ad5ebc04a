package projections

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
)

// denials keeps read.denials: one row per denial. Its id is the version of its event.
type denials struct{}

// Name implements Projection.
func (denials) Name() string { return "denials" }

const denialsInsert = `
	INSERT INTO read.denials (tenant_id, version, time, license_id, "user", machine, process, reason, count, seats, in_use)
	SELECT * FROM unnest($1::text[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
		$9::int[], $10::int[], $11::int[])`

// Apply implements Projection.
func (denials) Apply(b *Batch, q *pgx.Batch) error {
	var tenants, licenses, users, machines, processes, reasons []string
	var versions []uint64
	var times []time.Time
	var counts, seats, inUse []int
	for _, event := range b.Events() {
		e, ok := event.Data.(*domain.SeatDenied)
		if !ok {
			continue
		}
		tenants, versions, times = append(tenants, string(event.Tenant)), append(versions, event.Version), append(times, event.Time)
		licenses, reasons = append(licenses, string(e.License)), append(reasons, clean(e.Reason))
		users, machines, processes = append(users, string(e.User)), append(machines, string(e.Machine)), append(processes, string(e.Process))
		counts, seats, inUse = append(counts, max(e.Count, 1)), append(seats, e.Seats), append(inUse, e.InUse)
	}
	change(q, "denials", len(versions), denialsInsert,
		tenants, versions, times, licenses, users, machines, processes, reasons, counts, seats, inUse)
	return nil
}
