package queryapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

var licensesList = list[api.License]{
	name:    "licenses",
	columns: projections.LicenseColumns,
	tables:  projections.LicenseTables,
	scan:    projections.ScanLicense,
	orders: []order{
		{"id", []key{{"l.license_id", "text"}}},
		{"product", []key{{`l.product COLLATE "C"`, "text"}, {"l.license_id", "text"}}},
		{"issued_at", []key{{"l.issued_at", "timestamptz"}, {"l.license_id", "text"}}},
		{"expires_at", []key{{licenseExpiresAt, "timestamptz"}, {"l.license_id", "text"}}},
	},
	sort: "id",
	fields: []field[api.License]{
		{"id", func(l api.License) any { return l.Id }},
		{"tenant", func(l api.License) any { return l.Tenant }},
		{"product", func(l api.License) any { return l.Product }},
		{"status", func(l api.License) any { return l.Status }},
		{"seats", func(l api.License) any { return l.Seats }},
		{"in_use", func(l api.License) any { return l.InUse }},
		{"trial", func(l api.License) any { return l.Trial }},
		{"issued_at", func(l api.License) any { return l.IssuedAt }},
		{"starts_at", func(l api.License) any { return l.StartsAt }},
		{"expires_at", func(l api.License) any { return l.ExpiresAt }},
		{"grace_days", func(l api.License) any { return l.GraceDays }},
		{"lease_seconds", func(l api.License) any { return l.LeaseSeconds }},
		{"heartbeat_seconds", func(l api.License) any { return l.HeartbeatSeconds }},
		{"revive_seconds", func(l api.License) any { return l.ReviveSeconds }},
		{"seat_per", func(l api.License) any { return l.SeatPer }},
		{"overage", func(l api.License) any { return l.Overage }},
		{"overage_percent", func(l api.License) any { return l.OveragePercent }},
		{"max_per_user", func(l api.License) any { return l.MaxPerUser }},
		{"max_per_machine", func(l api.License) any { return l.MaxPerMachine }},
		{"borrow_days", func(l api.License) any { return l.BorrowDays }},
		{"borrow_max", func(l api.License) any { return l.BorrowMax }},
		{"borrow_low_water", func(l api.License) any { return l.BorrowLowWater }},
		{"on_shrink", func(l api.License) any { return l.OnShrink }},
		{"features", func(l api.License) any { return strings.Join(l.Features, " ") }},
	},
}

// licenseExpiresAt is infinity when a license has no end.
const licenseExpiresAt = `read.license_expires_at(l.policy)`

func (a *API) listLicenses(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	at, licenses := a.instantOf(p, "as_of"), licensesList
	licenses.tables = at.tables(licenses.tables, projections.LicenseTablesAt)
	var where conditions
	where.and(`l.tenant_id = ?`, tenant)
	if status := p.oneOf("status", "active", "suspended", "revoked"); status != "" {
		where.and(`l.status = ?`, status)
	}
	if product := p.text("product"); product != "" {
		where.and(`l.product COLLATE "C" = ?`, product)
	}
	if trial := p.flag("trial"); trial != nil {
		where.and(`coalesce((l.policy ->> 'trial')::boolean, false) = ?`, *trial)
	}
	if before := p.instant("expires_before"); !before.IsZero() {
		where.and(licenseExpiresAt+` < ?`, before)
	}
	return serveList(a, w, r, licenses, p, listing[api.License]{read: a.ofTenant(w, r, at), where: where})
}

// selectLicenses returns all licenses of a tenant, by id.
func selectLicenses(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, at *instant) ([]api.License, error) {
	rows, err := tx.Query(ctx, `SELECT `+projections.LicenseColumns+` FROM `+at.tables(projections.LicenseTables, projections.LicenseTablesAt)+`
		WHERE l.tenant_id = $1 ORDER BY l.license_id`, tenant)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanLicense)
}

func scanLicense(row pgx.CollectableRow) (api.License, error) { return projections.ScanLicense(row) }

// selectLicense returns one license. Errors: 404 license_not_found.
func selectLicense(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, id string, at *instant) (api.License, error) {
	if !storable(id) {
		return api.License{}, noLicense(tenant, id)
	}
	rows, err := tx.Query(ctx, `SELECT `+projections.LicenseColumns+` FROM `+at.tables(projections.LicenseTables, projections.LicenseTablesAt)+`
		WHERE l.tenant_id = $1 AND l.license_id = $2`, tenant, id)
	if err != nil {
		return api.License{}, err
	}
	l, err := pgx.CollectExactlyOneRow(rows, scanLicense)
	if errors.Is(err, pgx.ErrNoRows) {
		err = noLicense(tenant, id)
	}
	return l, err
}

// mustHave refuses a license that a tenant does not have. Errors: 404 license_not_found.
func mustHave(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, id string) error {
	exists := false
	var err error
	if storable(id) {
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM read.licenses WHERE tenant_id = $1 AND license_id = $2)`, tenant, id).Scan(&exists)
	}
	if err == nil && !exists {
		err = noLicense(tenant, id)
	}
	return err
}

func (a *API) getLicense(w http.ResponseWriter, r *http.Request) error {
	p := paramsOf(r)
	at := a.instantOf(p, "as_of")
	if err := p.done(); err != nil {
		return err
	}
	var reply api.LicenseResponse
	_, err := a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) (err error) {
		reply.License, err = selectLicense(ctx, tx, tenant, mux.Vars(r)["license"], at)
		return err
	}, at)
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, reply)
}
