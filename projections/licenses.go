package projections

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
)

// licenses keeps read.licenses: one row per license. How many seats it has and uses is in read.seat_counts.
type licenses struct{}

// Name implements Projection.
func (licenses) Name() string { return "licenses" }

const licensesInsert = `
	INSERT INTO read.licenses (tenant_id, license_id, product, status, lease_seconds, issued_at)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::timestamptz[])`

const licensesUpdate = `
	UPDATE read.licenses l
	SET status = c.status
	FROM unnest($1::text[], $2::text[], $3::text[]) AS c (tenant_id, license_id, status)
	WHERE l.tenant_id = c.tenant_id AND l.license_id = c.license_id`

type licenseChange struct {
	issued   *domain.LicenseIssued
	issuedAt time.Time
	status   domain.LicenseStatus
}

// Apply implements Projection.
func (licenses) Apply(b *Batch, q *pgx.Batch) error {
	var changes ordered[licenseKey, licenseChange]
	for _, event := range b.Events() {
		switch e := event.Data.(type) {
		case *domain.LicenseIssued:
			c := changes.at(licenseKey{event.Tenant, e.License})
			c.issued, c.issuedAt, c.status = e, event.Time, domain.LicenseActive
		case *domain.LicenseSuspended:
			changes.at(licenseKey{event.Tenant, e.License}).status = domain.LicenseOnSuspense
		case *domain.LicenseReinstated:
			changes.at(licenseKey{event.Tenant, e.License}).status = domain.LicenseActive
		case *domain.LicenseRevoked:
			changes.at(licenseKey{event.Tenant, e.License}).status = domain.LicenseOver
		}
	}
	type columns struct {
		tenants, ids, products, status []string
		leaseSeconds                   []int
		issuedAt                       []time.Time
	}
	var issued, changed columns
	for key, c := range changes.all() {
		into := &changed
		if c.issued != nil {
			into = &issued
			into.products = append(into.products, clean(c.issued.Product))
			into.leaseSeconds = append(into.leaseSeconds, c.issued.LeaseSeconds)
			into.issuedAt = append(into.issuedAt, c.issuedAt)
		}
		into.tenants, into.ids = append(into.tenants, string(key.tenant)), append(into.ids, string(key.license))
		into.status = append(into.status, string(c.status))
	}
	change(q, "licenses issued", len(issued.ids), licensesInsert,
		issued.tenants, issued.ids, issued.products, issued.status, issued.leaseSeconds, issued.issuedAt)
	change(q, "licenses changed", len(changed.ids), licensesUpdate,
		changed.tenants, changed.ids, changed.status)
	return nil
}
