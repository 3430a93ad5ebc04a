package queryapi

import (
	"context"
	"net/http"

	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

const licensesSelect = `
	SELECT ` + projections.LicenseColumns + ` FROM ` + projections.LicenseTables + `
	WHERE l.tenant_id = $1 AND l.license_id > $2
	ORDER BY l.license_id LIMIT $3`

// selectLicenses returns at most limit licenses after an id, by id; nil means all.
func selectLicenses(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, after string, limit *int) ([]api.License, error) {
	rows, err := tx.Query(ctx, licensesSelect, tenant, after, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, projections.ScanLicense)
}

func (a *API) listLicenses(w http.ResponseWriter, r *http.Request) error {
	p, err := pageOf(r, func(at place) bool { return at.License != "" })
	if err != nil {
		return err
	}
	var reply api.LicenseList
	reply.Position, err = a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) (err error) {
		reply.Items, err = selectLicenses(ctx, tx, tenant, p.after.License, new(p.limit+1))
		return err
	})
	if err != nil {
		return err
	}
	reply.Items, reply.Next = cut(p, reply.Items, func(l api.License) place { return place{License: l.Id} })
	return serve.Reply(w, http.StatusOK, reply)
}

const licenseSelect = `
	SELECT ` + projections.LicenseColumns + ` FROM ` + projections.LicenseTables + `
	WHERE l.tenant_id = $1 AND l.license_id = $2`

func (a *API) getLicense(w http.ResponseWriter, r *http.Request) error {
	id := mux.Vars(r)["license"]
	var reply api.LicenseResponse
	_, err := a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error {
		if !storable(id) {
			return noLicense(tenant, id)
		}
		rows, err := tx.Query(ctx, licenseSelect, tenant, id)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, projections.ScanLicense)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return noLicense(tenant, id)
		}
		reply.License = all[0]
		return nil
	})
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, reply)
}
