package projections

import (
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
)

// TenantColumns is a select list for ScanTenant, of read.tenants t.
const TenantColumns = `t.tenant_id, t.name, t.status, t.created_at`

// ScanTenant reads a row of TenantColumns, and what follows them into more. Times are UTC, here and below.
func ScanTenant(row pgx.CollectableRow, more ...any) (api.Tenant, error) {
	var t api.Tenant
	err := row.Scan(append([]any{&t.Id, &t.Name, &t.Status, &t.CreatedAt}, more...)...)
	t.CreatedAt = t.CreatedAt.UTC()
	return t, err
}

// LicenseColumns and LicenseTables are a select list and its tables for ScanLicense; the license is l, its counts are s.
const (
	LicenseColumns = `l.license_id, l.tenant_id, l.product, s.seats, s.in_use, l.status, l.lease_seconds, l.issued_at`
	LicenseTables  = `read.licenses l JOIN read.seat_counts s ON s.tenant_id = l.tenant_id AND s.license_id = l.license_id`
)

// ScanLicense reads a row of LicenseColumns.
func ScanLicense(row pgx.CollectableRow) (api.License, error) {
	var l api.License
	err := row.Scan(&l.Id, &l.Tenant, &l.Product, &l.Seats, &l.InUse, &l.Status, &l.LeaseSeconds, &l.IssuedAt)
	l.HeartbeatSeconds = (&domain.LicenseInfo{LeaseSeconds: l.LeaseSeconds}).HeartbeatSeconds()
	l.IssuedAt = l.IssuedAt.UTC()
	return l, err
}

// LeaseColumns and LeaseTables are a select list and its tables for ScanLease; the lease is l. Names that are not known
// any more are empty.
const (
	LeaseColumns = `l.lease_id, l.fence, l.license_id, coalesce(u.text, ''), coalesce(m.text, ''), p.text,
		l.state, l.acquired_at, l.expires_at, l.ended_at`
	LeaseTables = `read.leases l
		LEFT JOIN read.directory u ON u.tenant_id = l.tenant_id AND u.pseudonym = l."user"
		LEFT JOIN read.directory m ON m.tenant_id = l.tenant_id AND m.pseudonym = l.machine
		LEFT JOIN read.directory p ON p.tenant_id = l.tenant_id AND p.pseudonym = l.process`
)

// ScanLease reads a row of LeaseColumns, and what follows them into more.
func ScanLease(row pgx.CollectableRow, more ...any) (api.Lease, error) {
	var l api.Lease
	err := row.Scan(append([]any{
		&l.Id, &l.Fence, &l.License, &l.User, &l.Machine, &l.Process, &l.State, &l.AcquiredAt, &l.ExpiresAt, &l.EndedAt,
	}, more...)...)
	l.AcquiredAt, l.ExpiresAt = l.AcquiredAt.UTC(), l.ExpiresAt.UTC()
	if l.EndedAt != nil {
		*l.EndedAt = l.EndedAt.UTC()
	}
	return l, err
}

// Pseudonyms returns those that events hold, without repetitions. Events are as stored.
func Pseudonyms[E ~[]byte](events []E) ([]domain.Pseudonym, error) {
	var found ordered[domain.Pseudonym, struct{}]
	for _, raw := range events {
		var event struct{ Data domain.Holder }
		if err := json.Unmarshal(raw, &event); err != nil {
			return nil, err
		}
		for _, p := range []domain.Pseudonym{event.Data.User, event.Data.Machine, event.Data.Process} {
			if p != "" {
				found.at(p)
			}
		}
	}
	return found.keys, nil
}
