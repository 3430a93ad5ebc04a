package projections

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
)

// tenants keeps read.tenants: one row per tenant. It reads all events of a tenant, because each counts up its version.
type tenants struct{}

// Name implements Projection.
func (tenants) Name() string { return "tenants" }

const tenantsInsert = `
	INSERT INTO read.tenants (tenant_id, name, status, created_at, version)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[])`

// Null means unchanged.
const tenantsUpdate = `
	UPDATE read.tenants t
	SET name = coalesce(c.name, t.name), status = coalesce(c.status, t.status), version = c.version
	FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS c (tenant_id, name, status, version)
	WHERE t.tenant_id = c.tenant_id`

type tenantChange struct {
	createdAt    *time.Time
	name, status *string
	version      uint64
}

// Apply implements Projection.
func (tenants) Apply(b *Batch, q *pgx.Batch) error {
	var changes ordered[domain.TenantID, tenantChange]
	for _, event := range b.Events() {
		if event.Tenant == domain.Staff {
			continue
		}
		c := changes.at(event.Tenant)
		c.version = event.Version
		switch e := event.Data.(type) {
		case *domain.TenantCreated:
			c.createdAt, c.name, c.status = &event.Time, new(clean(e.Name)), new(string(domain.TenantActive))
		case *domain.TenantRenamed:
			c.name = new(clean(e.Name))
		case *domain.TenantSuspended:
			c.status = new(string(domain.TenantOnSuspense))
		case *domain.TenantReinstated:
			c.status = new(string(domain.TenantActive))
		}
	}
	type columns struct {
		ids           []string
		names, status []*string
		createdAt     []*time.Time
		versions      []uint64
	}
	var created, changed columns
	for id, c := range changes.all() {
		into := &changed
		if c.createdAt != nil {
			into = &created
		}
		into.ids = append(into.ids, string(id))
		into.names, into.status = append(into.names, c.name), append(into.status, c.status)
		into.createdAt, into.versions = append(into.createdAt, c.createdAt), append(into.versions, c.version)
	}
	change(q, "tenants created", len(created.ids), tenantsInsert,
		created.ids, created.names, created.status, created.createdAt, created.versions)
	change(q, "tenants changed", len(changed.ids), tenantsUpdate,
		changed.ids, changed.names, changed.status, changed.versions)
	return nil
}
