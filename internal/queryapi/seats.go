package queryapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

// Leases have one order: when they were acquired, which is that of their fences. Whatever else one could sort by changes
// with heartbeats or at the end, and an index on it would cost each of them.
var seatsList = list[api.Lease]{
	name:    "seats",
	columns: projections.LeaseColumns,
	tables:  projections.LeaseTables,
	scan:    projections.ScanLease,
	orders:  []order{{"acquired_at", []key{{"l.fence", "bigint"}}}},
	sort:    "-acquired_at",
	fields: []field[api.Lease]{
		{"id", func(l api.Lease) any { return l.Id }},
		{"fence", func(l api.Lease) any { return l.Fence }},
		{"license", func(l api.Lease) any { return l.License }},
		{"user", func(l api.Lease) any { return l.User }},
		{"machine", func(l api.Lease) any { return l.Machine }},
		{"process", func(l api.Lease) any { return l.Process }},
		{"state", func(l api.Lease) any { return l.State }},
		{"overage", func(l api.Lease) any { return l.Overage != nil && *l.Overage }},
		{"borrowed", func(l api.Lease) any { return l.Borrowed != nil && *l.Borrowed }},
		{"acquired_at", func(l api.Lease) any { return l.AcquiredAt }},
		{"expires_at", func(l api.Lease) any { return l.ExpiresAt }},
		{"ended_at", func(l api.Lease) any { return l.EndedAt }},
	},
}

// seatsPage is api.SeatList.
type seatsPage struct {
	page[api.Lease] `json:",inline"`
	Seats           int `json:"seats"`
	InUse           int `json:"in_use"`
}

const seatsSelect = `
	SELECT count(*), coalesce(sum(s.seats) FILTER (WHERE l.status <> 'revoked'), 0), coalesce(sum(s.in_use), 0)
	FROM read.seat_counts s JOIN read.licenses l USING (tenant_id, license_id)
	WHERE s.tenant_id = $1 AND ($2 = '' OR s.license_id = $2)`

func (a *API) listSeats(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	var where conditions
	where.and(`l.tenant_id = ?`, tenant)
	license := p.text("license")
	if license != "" {
		where.and(`l.license_id = ?`, license)
	}
	// Words of a partial index stand in the text: a plan for any argument could not use it.
	if state := p.oneOf("state", "active", "released", "expired", "revoked", "evicted"); state != "" {
		where.and(`l.state = '` + state + `'`)
	}
	for _, name := range []string{"borrowed", "overage"} {
		if is := p.flag(name); is != nil && *is {
			where.and(`l.` + name)
		} else if is != nil {
			where.and(`NOT l.` + name)
		}
	}
	if from := p.instant("from"); !from.IsZero() {
		where.and(`(l.ended_at IS NULL OR l.ended_at > ?)`, from)
	}
	if to := p.instant("to"); !to.IsZero() {
		where.and(`l.acquired_at < ?`, to)
	}
	user, machine := p.text("user"), p.text("machine")
	var reply seatsPage
	return serveList(a, w, r, seatsList, p, listing[api.Lease]{
		read:  a.ofTenant(w, r),
		where: where,
		before: func(ctx context.Context, tx pgx.Tx, where *conditions) error {
			var found int
			if err := tx.QueryRow(ctx, seatsSelect, tenant, license).Scan(&found, &reply.Seats, &reply.InUse); err != nil {
				return err
			}
			if found == 0 && license != "" {
				return noLicense(tenant, license)
			}
			if err := whereName(ctx, tx, where, `l."user"`, tenant, eventstore.UserName, user); err != nil {
				return err
			}
			return whereName(ctx, tx, where, `l.machine`, tenant, eventstore.MachineName, machine)
		},
		reply: func(p page[api.Lease]) any { reply.page = p; return reply },
	})
}

const pseudonymsSelect = `SELECT pseudonym FROM read.directory WHERE tenant_id = $1 AND kind = $2 AND text = $3`

// whereName adds that a column has a pseudonym of a text, or the text itself, which may be the pseudonym of somebody who
// was forgotten. Without a text it adds nothing.
func whereName(ctx context.Context, tx pgx.Tx, where *conditions, column string, tenant domain.TenantID, kind eventstore.NameKind, text string) error {
	if text == "" {
		return nil
	}
	rows, err := tx.Query(ctx, pseudonymsSelect, tenant, kind, text)
	if err != nil {
		return err
	}
	pseudonyms, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if strings.HasPrefix(text, "u_") || strings.HasPrefix(text, "m_") {
		pseudonyms = append(pseudonyms, text)
	}
	switch len(pseudonyms) {
	case 0:
		where.and(`false`)
	case 1:
		where.and(column+` = ?`, pseudonyms[0]) // an index gives these in order
	default:
		where.and(column+` = ANY(?)`, pseudonyms)
	}
	return nil
}

const activeLeasesSelect = `
	SELECT ` + projections.LeaseColumns + ` FROM ` + projections.LeaseTables + `
	WHERE l.tenant_id = $1 AND l.state = 'active' ORDER BY l.fence DESC LIMIT $2`

// selectActiveLeases returns at most limit active leases, newest first.
func selectActiveLeases(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, limit int) ([]api.Lease, error) {
	rows, err := tx.Query(ctx, activeLeasesSelect, tenant, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.Lease, error) { return projections.ScanLease(row) })
}
