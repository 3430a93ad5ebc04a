package queryapi

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

const tenantsSelect = `
	SELECT ` + projections.TenantColumns + `, c.licenses, c.seats, c.in_use
	FROM read.tenants t, LATERAL (
		SELECT count(*) AS licenses, coalesce(sum(s.seats) FILTER (WHERE l.status <> 'revoked'), 0) AS seats, coalesce(sum(s.in_use), 0) AS in_use
		FROM read.seat_counts s JOIN read.licenses l USING (tenant_id, license_id) WHERE s.tenant_id = t.tenant_id) AS c
	WHERE t.tenant_id > $1
	ORDER BY t.tenant_id LIMIT $2`

func (a *API) listTenants(w http.ResponseWriter, r *http.Request) error {
	p, err := pageOf(r, func(at place) bool { return at.Tenant != "" })
	if err != nil {
		return err
	}
	var reply api.TenantList
	q := reading{rows: func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, tenantsSelect, p.after.Tenant, p.limit+1)
		if err != nil {
			return err
		}
		reply.Items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.TenantSummary, error) {
			var s api.TenantSummary
			t, err := projections.ScanTenant(row, &s.Licenses, &s.Seats, &s.InUse)
			s.Id, s.Name, s.Status, s.CreatedAt = t.Id, t.Name, t.Status, t.CreatedAt
			return s, err
		})
		return err
	}}
	_ = a.ledger.All(func(p eventstore.Partition) error { q.partitions = append(q.partitions, p); return nil })
	if reply.Position, err = a.read(w, r, q); err != nil {
		return err
	}
	reply.Items, reply.Next = cut(p, reply.Items, func(t api.TenantSummary) place { return place{Tenant: t.Id} })
	return serve.Reply(w, http.StatusOK, reply)
}

const tenantSelect = `SELECT ` + projections.TenantColumns + `, t.version FROM read.tenants t WHERE t.tenant_id = $1`

// selectTenant returns a tenant and its version. Errors: 404 tenant_not_found.
func selectTenant(ctx context.Context, tx pgx.Tx, id domain.TenantID) (api.Tenant, uint64, error) {
	var version uint64
	rows, err := tx.Query(ctx, tenantSelect, id)
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
	var reply api.TenantResponse
	_, err := a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) (err error) {
		reply.Tenant, _, err = selectTenant(ctx, tx, tenant)
		return err
	})
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, reply)
}
