package projections

import (
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
)

// seatCounts keeps read.seat_counts: seats and seats in use of each license.
type seatCounts struct{}

// Name implements Projection.
func (seatCounts) Name() string { return "seat_counts" }

// CountsOn says whose rows it counts: they must not be ahead of it for long.
func (seatCounts) CountsOn() []string { return []string{"licenses", "leases"} }

const seatCountsInsert = `
	INSERT INTO read.seat_counts (tenant_id, license_id, seats, in_use)
	SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::int[])`

// Seats null means unchanged. A revoked license has nobody left, however many there were. Where leases share seats, or did,
// they are counted below. When read.licenses is ahead and says that they do not share seats any more, more leases may end here
// than there are seats; the change of the policy, which is still to come, counts them.
const seatCountsUpdate = `
	UPDATE read.seat_counts s
	SET seats = coalesce(c.seats, s.seats), in_use = CASE
		WHEN c.revoked THEN 0
		WHEN c.recount OR l.seat_per <> '' THEN s.in_use
		ELSE greatest(0, s.in_use + c.delta) END
	FROM unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::bool[], $6::bool[]) AS c (tenant_id, license_id, seats, delta, revoked, recount),
		read.licenses l
	WHERE s.tenant_id = c.tenant_id AND s.license_id = c.license_id AND l.tenant_id = c.tenant_id AND l.license_id = c.license_id`

// seatOf is whose seat a lease e of the license l has part in.
const seatOf = `CASE l.seat_per WHEN 'user' THEN e."user" WHEN 'machine' THEN e.machine ELSE e.lease_id END`

// The rows of licenses and leases are those after the batch already, or later ones of a projection that is ahead; then the
// batches that this one still has to apply count again.
const seatCountsRecount = `
	UPDATE read.seat_counts s
	SET in_use = (
		SELECT count(DISTINCT ` + seatOf + `)
		FROM read.leases e WHERE e.tenant_id = l.tenant_id AND e.license_id = l.license_id AND e.state = 'active')
	FROM unnest($1::text[], $2::text[], $3::bool[]) AS c (tenant_id, license_id, recount), read.licenses l
	WHERE s.tenant_id = c.tenant_id AND s.license_id = c.license_id AND l.tenant_id = c.tenant_id AND l.license_id = c.license_id
		AND (c.recount OR l.seat_per <> '')`

type seatCountChange struct {
	issued, revoked bool
	recount         bool // the policy changed
	seats           *int
	delta           int // of seats in use
}

// Apply implements Projection.
func (seatCounts) Apply(b *Batch, q *pgx.Batch) error {
	var changes ordered[licenseKey, seatCountChange]
	for _, event := range b.Events() {
		switch e := event.Data.(type) {
		case *domain.LicenseIssued:
			c := changes.at(licenseKey{event.Tenant, e.License})
			c.issued, c.seats = true, &e.Seats
		case *domain.LicenseResized:
			changes.at(licenseKey{event.Tenant, e.License}).seats = &e.Seats
		case *domain.SeatAcquired:
			changes.at(licenseKey{event.Tenant, e.License}).delta++
		case *domain.PolicyChanged:
			changes.at(licenseKey{event.Tenant, e.License}).recount = true
		case *domain.SeatRevived:
			changes.at(licenseKey{event.Tenant, e.License}).delta += len(e.Leases)
		case *domain.SeatEvicted:
			changes.at(licenseKey{event.Tenant, e.License}).delta -= len(e.Leases)
		case *domain.SeatReleased:
			changes.at(licenseKey{event.Tenant, e.License}).delta--
		case *domain.SeatExpired:
			changes.at(licenseKey{event.Tenant, e.License}).delta--
		case *domain.LicenseRevoked:
			c := changes.at(licenseKey{event.Tenant, e.License})
			c.revoked, c.delta = true, 0
		}
	}
	type columns struct {
		tenants, ids     []string
		seats            []*int
		deltas           []int
		revoked, recount []bool
	}
	var issued, changed columns
	for key, c := range changes.all() {
		into := &changed
		if c.issued {
			into = &issued
		}
		into.tenants, into.ids = append(into.tenants, string(key.tenant)), append(into.ids, string(key.license))
		into.seats, into.deltas, into.revoked = append(into.seats, c.seats), append(into.deltas, c.delta), append(into.revoked, c.revoked)
		into.recount = append(into.recount, c.recount)
	}
	change(q, "seat counts of licenses issued", len(issued.ids), seatCountsInsert,
		issued.tenants, issued.ids, issued.seats, issued.deltas)
	change(q, "seat counts", len(changed.ids), seatCountsUpdate,
		changed.tenants, changed.ids, changed.seats, changed.deltas, changed.revoked, changed.recount)
	for _, c := range []columns{issued, changed} {
		if len(c.ids) > 0 {
			q.Queue(seatCountsRecount, c.tenants, c.ids, c.recount)
		}
	}
	return nil
}
