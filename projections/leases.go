package projections

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// leases keeps read.leases: one row per lease, active or ended. However often a lease was renewed in a batch, its row
// is written once. Between which of its tenant's versions it was held stays in the row, so that it can be asked as of any.
type leases struct{}

// Name implements Projection.
func (leases) Name() string { return "leases" }

const leasesInsert = `
	INSERT INTO read.leases (tenant_id, lease_id, license_id, fence, "user", machine, process, overage, acquired_at,
		moved_fence, state, ended_at, held, borrowed, expires_at, renewed, renewed_at, heartbeats, features)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bool[], $9::timestamptz[],
		$10::bigint[], $11::text[], $12::timestamptz[], $13::int8multirange[], $14::bool[], $15::timestamptz[], $16::bigint[], $17::timestamptz[], $18::int[],
		$19::jsonb[])`

// It changes no column of an index.
const leasesRenew = `
	UPDATE read.leases l
	SET borrowed = c.borrowed, expires_at = c.expires_at, renewed = c.renewed, renewed_at = c.renewed_at, heartbeats = l.heartbeats + c.heartbeats
	FROM unnest($1::text[], $2::text[], $3::bool[], $4::timestamptz[], $5::bigint[], $6::timestamptz[], $7::int[])
		AS c (tenant_id, lease_id, borrowed, expires_at, renewed, renewed_at, heartbeats)
	WHERE l.tenant_id = c.tenant_id AND l.lease_id = c.lease_id`

// Null means unchanged. What was held until now ends, and what came after it in the batch is added.
const leasesChange = `
	UPDATE read.leases l
	SET state = c.state, ended_at = c.ended_at, held = l.held * int8multirange(int8range(NULL, c.until)) + c.again,
		borrowed = coalesce(c.borrowed, l.borrowed), expires_at = coalesce(c.expires_at, l.expires_at),
		renewed = coalesce(c.renewed, l.renewed), renewed_at = coalesce(c.renewed_at, l.renewed_at), heartbeats = l.heartbeats + c.heartbeats
	FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::int8multirange[], $7::bool[], $8::timestamptz[], $9::bigint[],
		$10::timestamptz[], $11::int[])
		AS c (tenant_id, lease_id, state, ended_at, until, again, borrowed, expires_at, renewed, renewed_at, heartbeats)
	WHERE l.tenant_id = c.tenant_id AND l.lease_id = c.lease_id`

// There is no event per lease of a revoked license. It runs last: nothing happens on a license after it was revoked.
const leasesRevoke = `
	UPDATE read.leases l
	SET state = c.state, ended_at = c.at, held = l.held * int8multirange(int8range(NULL, c.version))
	FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[]) AS c (tenant_id, license_id, state, at, version)
	WHERE l.tenant_id = c.tenant_id AND l.license_id = c.license_id AND l.state = 'active'`

// leaseChange is what a batch does to one lease.
type leaseChange struct {
	acquired   *domain.SeatAcquired // nil when the row is there already
	acquiredAt time.Time
	version    uint64 // of its event

	state   *string // nil: unchanged, and endedAt too
	endedAt *time.Time
	until   *uint64 // the version at which ended what the row says is held; nil: it ended before, or has not
	again   held    // since then

	borrowed   *bool      // nil: not renewed, and the following too
	expiresAt  *time.Time // as the last renewal says
	renewed    *uint64    // its version
	renewedAt  *time.Time
	heartbeats int
}

func (c *leaseChange) begin(e *eventstore.Event) {
	c.state, c.endedAt = new(string(domain.LeaseStateActive)), nil
	c.again = append(c.again, span{from: e.Version})
}

func (c *leaseChange) end(e *eventstore.Event, state domain.LeaseState) {
	c.state, c.endedAt = new(string(state)), &e.Time
	if last := len(c.again) - 1; last >= 0 {
		c.again[last].until = e.Version
	} else {
		c.until = &e.Version
	}
}

func (c *leaseChange) renew(e *eventstore.Event, expiresAt time.Time, borrowed bool) {
	c.expiresAt, c.borrowed, c.renewed, c.renewedAt = &expiresAt, &borrowed, &e.Version, &e.Time
}

// Apply implements Projection.
func (leases) Apply(b *Batch, q *pgx.Batch) error {
	var changes ordered[leaseKey, leaseChange]
	var revokedTenants, revokedLicenses, revokedStates []string
	var revokedAt []time.Time
	var revokedVersions []uint64
	for _, event := range b.Events() {
		at := func(id domain.LeaseID) *leaseChange { return changes.at(leaseKey{event.Tenant, id}) }
		switch e := event.Data.(type) {
		case *domain.SeatAcquired:
			c := at(e.Lease)
			c.acquired, c.acquiredAt, c.version = e, event.Time, event.Version
			if e.Arrived() {
				c.acquiredAt = e.AcquiredAt
			}
			c.begin(event)
			c.renew(event, e.ExpiresAt, e.Borrowed)
		case *domain.SeatBorrowed:
			at(e.Lease).renew(event, e.ExpiresAt, true)
		case *domain.SeatHeartbeat:
			for _, id := range e.Leases {
				c := at(id)
				c.renew(event, e.ExpiresAt, false)
				c.heartbeats++
			}
		case *domain.SeatRevived:
			for _, id := range e.Leases {
				c := at(id)
				c.begin(event)
				c.renew(event, e.ExpiresAt, false)
			}
		case *domain.SeatEvicted:
			for _, id := range e.Leases {
				at(id).end(event, domain.LeaseStateEvicted)
			}
		case *domain.SeatReleased:
			at(e.Lease).end(event, domain.LeaseStateReleased)
		case *domain.SeatExpired:
			at(e.Lease).end(event, domain.LeaseStateExpired)
		case *domain.LicenseRevoked:
			revokedTenants = append(revokedTenants, string(event.Tenant))
			revokedLicenses, revokedStates = append(revokedLicenses, string(e.License)), append(revokedStates, string(e.LeasesEnd()))
			revokedAt, revokedVersions = append(revokedAt, event.Time), append(revokedVersions, event.Version)
		}
	}
	type columns struct {
		tenants, ids, licenses, users, machines, processes []string
		fences                                             []uint64
		movedFences                                        []*uint64
		overages                                           []bool
		acquiredAt                                         []time.Time
		states                                             []*string
		endedAt                                            []*time.Time
		untils                                             []*uint64
		helds                                              []string
		borrowed                                           []*bool
		expiresAt                                          []*time.Time
		renewed                                            []*uint64
		renewedAt                                          []*time.Time
		heartbeats                                         []int
		features                                           [][]string
	}
	var acquired, renewed, changed columns
	for key, c := range changes.all() {
		into := &changed
		switch a := c.acquired; {
		case a != nil:
			into = &acquired
			into.licenses, into.fences = append(into.licenses, string(a.License)), append(into.fences, c.version)
			var moved *uint64
			if a.Fence > 0 {
				moved = &a.Fence
			}
			into.movedFences = append(into.movedFences, moved)
			into.users, into.machines = append(into.users, string(a.User)), append(into.machines, string(a.Machine))
			into.processes, into.acquiredAt = append(into.processes, string(a.Process)), append(into.acquiredAt, c.acquiredAt)
			into.overages, into.features = append(into.overages, a.Overage), append(into.features, featuresOf(a))
		case c.state == nil:
			into = &renewed
		}
		into.tenants, into.ids = append(into.tenants, string(key.tenant)), append(into.ids, string(key.lease))
		into.states, into.endedAt = append(into.states, c.state), append(into.endedAt, c.endedAt)
		into.untils, into.helds = append(into.untils, c.until), append(into.helds, c.again.String())
		into.borrowed, into.expiresAt = append(into.borrowed, c.borrowed), append(into.expiresAt, c.expiresAt)
		into.renewed, into.renewedAt = append(into.renewed, c.renewed), append(into.renewedAt, c.renewedAt)
		into.heartbeats = append(into.heartbeats, c.heartbeats)
	}
	change(q, "leases acquired", len(acquired.ids), leasesInsert,
		acquired.tenants, acquired.ids, acquired.licenses, acquired.fences, acquired.users, acquired.machines, acquired.processes,
		acquired.overages, acquired.acquiredAt, acquired.movedFences, acquired.states, acquired.endedAt, acquired.helds, acquired.borrowed, acquired.expiresAt,
		acquired.renewed, acquired.renewedAt, acquired.heartbeats, jsonEach(acquired.features))
	change(q, "leases renewed", len(renewed.ids), leasesRenew,
		renewed.tenants, renewed.ids, renewed.borrowed, renewed.expiresAt, renewed.renewed, renewed.renewedAt, renewed.heartbeats)
	change(q, "leases changed", len(changed.ids), leasesChange,
		changed.tenants, changed.ids, changed.states, changed.endedAt, changed.untils, changed.helds, changed.borrowed, changed.expiresAt,
		changed.renewed, changed.renewedAt, changed.heartbeats)
	if len(revokedAt) > 0 {
		q.Queue(leasesRevoke, revokedTenants, revokedLicenses, revokedStates, revokedAt, revokedVersions)
	}
	return nil
}

// featuresOf returns the features that a lease was acquired with, each once; nil: none.
func featuresOf(a *domain.SeatAcquired) []string {
	if len(a.Features) == 0 {
		return nil
	}
	features := cleanAll(a.Features)
	slices.Sort(features)
	return slices.Compact(features)
}

// span is the versions of a tenant between which a lease was held: from the event that began it up to before the one that
// ended it; 0: it goes on.
type span struct{ from, until uint64 }

// held is the spans of one lease, in order. There are several when it was revived.
type held []span

// String returns it as a multirange of Postgres.
func (h held) String() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, s := range h {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "[%d,", s.from)
		if s.until > 0 {
			fmt.Fprint(&b, s.until)
		}
		b.WriteByte(')')
	}
	b.WriteByte('}')
	return b.String()
}
