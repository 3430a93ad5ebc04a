package queryapi

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/projections"
)

// Leases have one order: when the tenant got them, which is when they were acquired but for those that came from another tenant. Whatever else one could sort by changes
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

// selectSeats counts the seats of all licenses, or of one. Errors: 404 license_not_found.
func selectSeats(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, license string, at *instant) (seats, inUse int, err error) {
	var found int
	err = tx.QueryRow(ctx, `
		SELECT count(*), coalesce(sum(s.seats) FILTER (WHERE l.status <> 'revoked'), 0), coalesce(sum(s.in_use), 0)
		FROM `+at.tables(projections.LicenseTables, projections.LicenseTablesAt)+`
		WHERE l.tenant_id = $1 AND ($2 = '' OR l.license_id = $2)`, tenant, license).Scan(&found, &seats, &inUse)
	if err == nil && found == 0 && license != "" {
		err = noLicense(tenant, license)
	}
	return seats, inUse, err
}

func (a *API) listSeats(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	at, seats := a.instantOf(p, "as_of"), seatsList
	seats.tables = at.tables(seats.tables, projections.LeaseTablesAt)
	var where conditions
	where.and(`l.tenant_id = ?`, tenant)
	if caller := access.CallerOf(r.Context()); caller.Role == access.Member {
		if caller.Member == "" {
			return access.Forbidden("A key with the role member sees what is its member's, and this one is nobody's.")
		}
		where.and(`l."user" = ?`, caller.Member)
	}
	license := p.text("license")
	if license != "" {
		where.and(`l.license_id = ?`, license)
	}
	// Words of a partial index stand in the text: a plan for any argument could not use it.
	if state := p.oneOf("state", "active", "released", "expired", "revoked", "evicted", "transferred"); state != "" {
		where.and(`l.state = '` + state + `'`)
		if state == "active" {
			seats.tables = at.tables(seats.tables, projections.ActiveLeaseTablesAt)
		}
	}
	for _, name := range []string{"borrowed", "overage"} {
		if is := p.flag(name); is != nil && *is {
			where.and(`l.` + name)
		} else if is != nil {
			where.and(`NOT l.` + name)
		}
	}
	if at != nil && p.values.Has("borrowed") {
		p.invalid("borrowed", "borrowed cannot be asked for with as_of.") // it is known only once the rows are there
	}
	if from := p.instant("from"); !from.IsZero() {
		where.and(`(l.ended_at IS NULL OR l.ended_at > ?)`, from)
	}
	to := p.instant("to")
	user, machine := p.text("user"), p.text("machine")
	var reply seatsPage
	var renewals projections.Renewals // of all leases, for a file: its rows are sent as they are read
	seats.scan = func(row pgx.CollectableRow, more ...any) (api.Lease, error) {
		l, err := projections.ScanLease(row, more...)
		renewals.Correct(&l)
		return l, err
	}
	return serveList(a, w, r, seats, p, listing[api.Lease]{
		read:  a.ofTenant(w, r, at),
		where: where,
		before: func(ctx context.Context, tx pgx.Tx, where *conditions) (err error) {
			if reply.Seats, reply.InUse, err = selectSeats(ctx, tx, tenant, license, at); err != nil {
				return err
			}
			if at != nil && formatOf(r.Header.Values("Accept")) != formatPage {
				if renewals, err = projections.RenewalsAt(ctx, tx, tenant, at.version, nil); err != nil {
					return err
				}
			}
			if err := whereBetween(ctx, tx, where, `l.fence`, tenant, time.Time{}, to); err != nil {
				return err
			}
			if err := whereName(ctx, tx, where, `l."user"`, tenant, eventstore.UserName, user); err != nil {
				return err
			}
			return whereName(ctx, tx, where, `l.machine`, tenant, eventstore.MachineName, machine)
		},
		after: func(ctx context.Context, tx pgx.Tx, items []api.Lease) error {
			return correct(ctx, tx, tenant, items, at)
		},
		reply: func(p page[api.Lease]) any { reply.page = p; return reply },
	})
}

// correct puts leases right that were read as of an instant.
func correct(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, leases []api.Lease, at *instant) error {
	if at == nil {
		return nil
	}
	ids := make([]string, len(leases))
	for i, l := range leases {
		ids[i] = l.Id
	}
	renewals, err := projections.RenewalsAt(ctx, tx, tenant, at.version, ids)
	for i := range leases {
		renewals.Correct(&leases[i])
	}
	return err
}

// whereName adds that a column has a pseudonym of a text. Without a text it adds nothing.
func whereName(ctx context.Context, tx pgx.Tx, where *conditions, column string, tenant domain.TenantID, kind eventstore.NameKind, text string) error {
	if text == "" {
		return nil
	}
	pseudonyms, err := pseudonymsOf(ctx, tx, tenant, kind, text)
	if err == nil {
		where.and(oneOf(column, len(pseudonyms)), argOf(pseudonyms)...)
	}
	return err
}

// selectActiveLeases returns at most limit active leases, newest first.
func selectActiveLeases(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, limit int, at *instant) ([]api.Lease, error) {
	rows, err := tx.Query(ctx, `SELECT `+projections.LeaseColumns+` FROM `+at.tables(projections.LeaseTables, projections.ActiveLeaseTablesAt)+`
		WHERE l.tenant_id = $1 AND l.state = 'active' ORDER BY l.fence DESC LIMIT $2`, tenant, limit)
	if err != nil {
		return nil, err
	}
	leases, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.Lease, error) { return projections.ScanLease(row) })
	if err == nil {
		err = correct(ctx, tx, tenant, leases, at)
	}
	return leases, err
}
