package projections

import (
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// queue keeps read.queue: who waits for a seat of each license; and read.seat_ends: the pace at which seats are given back,
// from which their wait is estimated.
type queue struct{}

// Name implements Projection.
func (queue) Name() string { return "queue" }

// Tables says which tables are its own.
func (queue) Tables() []string { return []string{"queue", "seat_ends"} }

const queueInsert = `
	INSERT INTO read.queue (tenant_id, license_id, "user", machine, process, priority, version, since)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::timestamptz[])`

const queueDelete = `
	DELETE FROM read.queue q
	USING unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS c (tenant_id, license_id, "user", machine, process)
	WHERE q.tenant_id = c.tenant_id AND q.license_id = c.license_id AND q."user" = c."user" AND q.machine = c.machine AND q.process = c.process`

// SeatEndsMax is how many ends of leases are kept of each license.
const SeatEndsMax = 32

const seatEndsAppend = `
	INSERT INTO read.seat_ends AS s (tenant_id, license_id, ended)
	SELECT c.tenant_id, c.license_id, c.ended::timestamptz[] FROM unnest($1::text[], $2::text[], $3::text[]) AS c (tenant_id, license_id, ended)
	ON CONFLICT (tenant_id, license_id) DO UPDATE
	SET ended = (s.ended || excluded.ended)[greatest(1, cardinality(s.ended) + cardinality(excluded.ended) - $4 + 1):]`

// queueKey names a row of read.queue.
type queueKey struct {
	licenseKey
	holder domain.Holder
}

// queueChange is what a batch does to one row.
type queueChange struct {
	came       *domain.SeatQueued // nil: it does not wait after the batch
	event      *eventstore.Event  // in which it came
	fresh      bool               // the batch begins with its coming: there is no row
	mustBeGone bool               // the batch begins with its leaving: there is a row
}

// Apply implements Projection.
func (queue) Apply(b *Batch, q *pgx.Batch) error {
	var waiters ordered[queueKey, queueChange]
	var ends ordered[licenseKey, []time.Time]
	for _, event := range b.Events() {
		at := func(license domain.LicenseID, h domain.Holder) (c *queueChange, first bool) {
			key := queueKey{licenseKey{event.Tenant, license}, h}
			_, seen := waiters.values[key]
			return waiters.at(key), !seen
		}
		end := func(license domain.LicenseID, leases int) {
			all := ends.at(licenseKey{event.Tenant, license})
			for range leases {
				*all = append(*all, event.Time)
			}
			*all = (*all)[max(0, len(*all)-SeatEndsMax):]
		}
		switch e := event.Data.(type) {
		case *domain.SeatQueued:
			c, first := at(e.License, e.Holder)
			c.came, c.event, c.fresh = e, event, c.fresh || first
		case *domain.SeatDequeued:
			c, first := at(e.License, e.Holder)
			c.came, c.mustBeGone = nil, c.mustBeGone || first
		case *domain.SeatAcquired:
			c, _ := at(e.License, e.Holder) // it may have waited
			c.came = nil
		case *domain.SeatEvicted:
			end(e.License, len(e.Leases))
		case *domain.SeatReleased:
			end(e.License, 1)
		case *domain.SeatExpired:
			end(e.License, 1)
		}
	}
	type columns struct {
		tenants, licenses, users, machines, processes []string
		priorities                                    []int
		versions                                      []uint64
		since                                         []time.Time
	}
	var came, left, acquired columns
	for key, c := range waiters.all() {
		var into []*columns
		switch {
		case c.mustBeGone:
			into = append(into, &left)
		case !c.fresh:
			into = append(into, &acquired)
		}
		if c.came != nil {
			into = append(into, &came)
			came.priorities, came.versions, came.since = append(came.priorities, c.came.Priority), append(came.versions, c.event.Version), append(came.since, c.event.Time)
		}
		for _, to := range into {
			to.tenants, to.licenses = append(to.tenants, string(key.tenant)), append(to.licenses, string(key.license))
			to.users, to.machines = append(to.users, string(key.holder.User)), append(to.machines, string(key.holder.Machine))
			to.processes = append(to.processes, string(key.holder.Process))
		}
	}
	change(q, "waiters who left", len(left.users), queueDelete, left.tenants, left.licenses, left.users, left.machines, left.processes)
	if len(acquired.users) > 0 {
		q.Queue(queueDelete, acquired.tenants, acquired.licenses, acquired.users, acquired.machines, acquired.processes)
	}
	change(q, "waiters who came", len(came.users), queueInsert, came.tenants, came.licenses, came.users, came.machines, came.processes,
		came.priorities, came.versions, came.since)
	var tenants, licenses, times []string
	for key, all := range ends.all() {
		tenants, licenses, times = append(tenants, string(key.tenant)), append(licenses, string(key.license)), append(times, timesText(*all))
	}
	change(q, "ends of leases", len(times), seatEndsAppend, tenants, licenses, times, SeatEndsMax)
	return nil
}

// timesText returns times as an array of Postgres.
func timesText(all []time.Time) string {
	texts := make([]string, len(all))
	for i, at := range all {
		texts[i] = at.UTC().Format(time.RFC3339Nano)
	}
	return "{" + strings.Join(texts, ",") + "}"
}
