package queryapi

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

var tenantsList = list[api.TenantSummary]{
	name:    "tenants",
	columns: projections.TenantColumns + `, c.licenses, c.seats, c.in_use`,
	tables:  tenantsTables(`read.tenants t`, projections.LicenseTables),
	scan: func(row pgx.CollectableRow, more ...any) (api.TenantSummary, error) {
		var s api.TenantSummary
		t, err := projections.ScanTenant(row, append([]any{&s.Licenses, &s.Seats, &s.InUse}, more...)...)
		s.Id, s.Name, s.Status, s.CreatedAt = t.Id, t.Name, t.Status, t.CreatedAt
		return s, err
	},
	orders: []order{
		{"id", []key{{"t.tenant_id", "text"}}},
		{"name", []key{{tenantName, "text"}, {"t.tenant_id", "text"}}},
		{"created_at", []key{{"t.created_at", "timestamptz"}, {"t.tenant_id", "text"}}},
	},
	sort: "id",
	fields: []field[api.TenantSummary]{
		{"id", func(t api.TenantSummary) any { return t.Id }},
		{"name", func(t api.TenantSummary) any { return t.Name }},
		{"status", func(t api.TenantSummary) any { return t.Status }},
		{"created_at", func(t api.TenantSummary) any { return t.CreatedAt }},
		{"licenses", func(t api.TenantSummary) any { return t.Licenses }},
		{"seats", func(t api.TenantSummary) any { return t.Seats }},
		{"in_use", func(t api.TenantSummary) any { return t.InUse }},
	},
}

// tenantsTables are tenants with their counts c.
func tenantsTables(tenants, licenses string) string {
	return tenants + `, LATERAL (
		SELECT count(*) AS licenses, coalesce(sum(s.seats) FILTER (WHERE l.status <> 'revoked'), 0) AS seats, coalesce(sum(s.in_use), 0) AS in_use
		FROM ` + licenses + ` WHERE l.tenant_id = t.tenant_id) AS c`
}

// tenantName is what tenants are sorted by and found by: in one order on every server, whatever its locale.
const tenantName = `lower(t.name) COLLATE "C"`

func (a *API) listTenants(w http.ResponseWriter, r *http.Request) error {
	if err := a.note(r, access.TenantRead, domain.Staff); err != nil {
		return err
	}
	p := paramsOf(r)
	at, tenants := a.instantOf(p, "as_of"), tenantsList
	tenants.tables = at.tables(tenants.tables, tenantsTables(projections.AllTenantTablesAt, projections.LicenseTablesOfAllAt))
	var where conditions
	if status := p.oneOf("status", "active", "suspended"); status != "" {
		where.and(`t.status = ?`, status)
	}
	if name := p.text("name"); name != "" {
		where.and(tenantName+` >= lower(?::text) AND `+tenantName+` < lower(?::text) || U&'\+10FFFF'`, name, name)
	}
	if q := p.text("q"); q != "" {
		where.and(`(strpos(t.tenant_id, lower(?::text)) > 0 OR strpos(lower(t.name), lower(?::text)) > 0)`, q, q)
	}
	return serveList(a, w, r, tenants, p, listing[api.TenantSummary]{read: a.ofAll(w, r, at), where: where})
}

// selectTenant returns a tenant and its version. Errors: 404 tenant_not_found.
func selectTenant(ctx context.Context, tx pgx.Tx, id domain.TenantID, at *instant) (api.Tenant, uint64, error) {
	var version uint64
	tables := at.tables(`read.tenants t`, projections.TenantTablesAt)
	rows, err := tx.Query(ctx, `SELECT `+projections.TenantColumns+`, t.version FROM `+tables+` WHERE t.tenant_id = $1`, id)
	if err != nil {
		return api.Tenant{}, 0, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.Tenant, error) { return projections.ScanTenant(row, &version) })
	if err != nil {
		return api.Tenant{}, 0, err
	}
	if len(all) == 0 {
		return api.Tenant{}, 0, noTenant(id)
	}
	return all[0], version, nil
}

func (a *API) getTenant(w http.ResponseWriter, r *http.Request) error {
	p := paramsOf(r)
	at := a.instantOf(p, "as_of")
	if err := p.done(); err != nil {
		return err
	}
	var reply api.TenantResponse
	_, err := a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) (err error) {
		reply.Tenant, _, err = selectTenant(ctx, tx, tenant, at)
		return err
	}, at)
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, reply)
}
