package projections

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
)

// leases keeps read.leases: one row per lease, active or ended. However often a lease was renewed in a batch, its row
// is written once.
type leases struct{}

// Name implements Projection.
func (leases) Name() string { return "leases" }

const leasesInsert = `
	INSERT INTO read.leases (tenant_id, lease_id, license_id, fence, "user", machine, process, overage, borrowed, state, acquired_at, expires_at, ended_at)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bool[], $9::bool[], $10::text[],
		$11::timestamptz[], $12::timestamptz[], $13::timestamptz[])`

// Null means unchanged. A lease that becomes active again has not ended.
const leasesUpdate = `
	UPDATE read.leases l
	SET state = coalesce(c.state, l.state), expires_at = coalesce(c.expires_at, l.expires_at), borrowed = coalesce(c.borrowed, l.borrowed),
		ended_at = CASE WHEN c.state = 'active' THEN NULL ELSE coalesce(c.ended_at, l.ended_at) END
	FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::timestamptz[], $6::timestamptz[])
		AS c (tenant_id, lease_id, state, borrowed, expires_at, ended_at)
	WHERE l.tenant_id = c.tenant_id AND l.lease_id = c.lease_id`

// There is no event per lease of a revoked license. It runs last: nothing happens on a license after it was revoked.
const leasesRevoke = `
	UPDATE read.leases l
	SET state = 'revoked', ended_at = c.at
	FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS c (tenant_id, license_id, at)
	WHERE l.tenant_id = c.tenant_id AND l.license_id = c.license_id AND l.state = 'active'`

type leaseChange struct {
	acquired   *domain.SeatAcquired // nil when the row is there already
	acquiredAt time.Time
	fence      uint64
	state      *string
	borrowed   *bool
	expiresAt  *time.Time
	endedAt    *time.Time
}

// Apply implements Projection.
func (leases) Apply(b *Batch, q *pgx.Batch) error {
	var changes ordered[leaseKey, leaseChange]
	var revokedTenants, revokedLicenses []string
	var revokedAt []time.Time
	end := func(key leaseKey, state domain.LeaseState, at time.Time) {
		c := changes.at(key)
		c.state, c.endedAt = new(string(state)), &at
	}
	for _, event := range b.Events() {
		switch e := event.Data.(type) {
		case *domain.SeatAcquired:
			c := changes.at(leaseKey{event.Tenant, e.Lease})
			c.acquired, c.acquiredAt, c.fence = e, event.Time, event.Version
			c.state, c.borrowed, c.expiresAt = new(string(domain.LeaseStateActive)), &e.Borrowed, &e.ExpiresAt
		case *domain.SeatBorrowed:
			c := changes.at(leaseKey{event.Tenant, e.Lease})
			c.borrowed, c.expiresAt = new(true), &e.ExpiresAt
		case *domain.SeatHeartbeat:
			for _, id := range e.Leases {
				c := changes.at(leaseKey{event.Tenant, id})
				c.borrowed, c.expiresAt = new(false), &e.ExpiresAt
			}
		case *domain.SeatRevived:
			for _, id := range e.Leases {
				c := changes.at(leaseKey{event.Tenant, id})
				c.state, c.borrowed, c.expiresAt, c.endedAt = new(string(domain.LeaseStateActive)), new(false), &e.ExpiresAt, nil
			}
		case *domain.SeatEvicted:
			for _, id := range e.Leases {
				end(leaseKey{event.Tenant, id}, domain.LeaseStateEvicted, event.Time)
			}
		case *domain.SeatReleased:
			end(leaseKey{event.Tenant, e.Lease}, domain.LeaseStateReleased, event.Time)
		case *domain.SeatExpired:
			end(leaseKey{event.Tenant, e.Lease}, domain.LeaseStateExpired, event.Time)
		case *domain.LicenseRevoked:
			revokedTenants = append(revokedTenants, string(event.Tenant))
			revokedLicenses = append(revokedLicenses, string(e.License))
			revokedAt = append(revokedAt, event.Time)
		}
	}
	type columns struct {
		tenants, ids, licenses, users, machines, processes []string
		fences                                             []uint64
		overages                                           []bool
		states                                             []*string
		borrowed                                           []*bool
		acquiredAt                                         []time.Time
		expiresAt, endedAt                                 []*time.Time
	}
	var acquired, changed columns
	for key, c := range changes.all() {
		into := &changed
		if a := c.acquired; a != nil {
			into = &acquired
			into.licenses, into.fences = append(into.licenses, string(a.License)), append(into.fences, c.fence)
			into.users, into.machines = append(into.users, string(a.User)), append(into.machines, string(a.Machine))
			into.processes, into.acquiredAt = append(into.processes, string(a.Process)), append(into.acquiredAt, c.acquiredAt)
			into.overages = append(into.overages, a.Overage)
		}
		into.tenants, into.ids = append(into.tenants, string(key.tenant)), append(into.ids, string(key.lease))
		into.states, into.borrowed = append(into.states, c.state), append(into.borrowed, c.borrowed)
		into.expiresAt, into.endedAt = append(into.expiresAt, c.expiresAt), append(into.endedAt, c.endedAt)
	}
	change(q, "leases acquired", len(acquired.ids), leasesInsert,
		acquired.tenants, acquired.ids, acquired.licenses, acquired.fences, acquired.users, acquired.machines,
		acquired.processes, acquired.overages, acquired.borrowed, acquired.states, acquired.acquiredAt, acquired.expiresAt, acquired.endedAt)
	change(q, "leases changed", len(changed.ids), leasesUpdate,
		changed.tenants, changed.ids, changed.states, changed.borrowed, changed.expiresAt, changed.endedAt)
	if len(revokedAt) > 0 {
		q.Queue(leasesRevoke, revokedTenants, revokedLicenses, revokedAt)
	}
	return nil
}
