package queryapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// leaseFilter says which leases of a tenant are asked for. Zero fields do not filter.
type leaseFilter struct {
	state   api.LeaseState
	license string
	before  int64 // only fences below; 0 means all
}

// selectLeases returns at most limit leases, newest first. What filters is part of the text only when it does: so each
// text has a plan, and an index, of its own.
func selectLeases(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, f leaseFilter, limit int) ([]api.Lease, error) {
	sql := `SELECT ` + projections.LeaseColumns + ` FROM ` + projections.LeaseTables + ` WHERE l.tenant_id = $1`
	args := []any{tenant, limit}
	if f.before != 0 {
		args = append(args, f.before)
		sql += ` AND l.fence < $` + strconv.Itoa(len(args))
	}
	if f.license != "" {
		args = append(args, f.license)
		sql += ` AND l.license_id = $` + strconv.Itoa(len(args))
	}
	switch f.state {
	case api.LeaseStateActive:
		sql += ` AND l.state = 'active'`
	case api.LeaseStateReleased:
		sql += ` AND l.state = 'released'`
	case api.LeaseStateExpired:
		sql += ` AND l.state = 'expired'`
	case api.LeaseStateRevoked:
		sql += ` AND l.state = 'revoked'`
	case api.LeaseStateEvicted:
		sql += ` AND l.state = 'evicted'`
	}
	rows, err := tx.Query(ctx, sql+` ORDER BY l.fence DESC LIMIT $2`, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.Lease, error) { return projections.ScanLease(row) })
}

const seatsSelect = `
	SELECT count(*), coalesce(sum(s.seats) FILTER (WHERE l.status <> 'revoked'), 0), coalesce(sum(s.in_use), 0)
	FROM read.seat_counts s JOIN read.licenses l USING (tenant_id, license_id)
	WHERE s.tenant_id = $1 AND ($2 = '' OR s.license_id = $2)`

func (a *API) listSeats(w http.ResponseWriter, r *http.Request) error {
	p, err := pageOf(r, func(at place) bool { return at.Fence > 0 })
	if err != nil {
		return err
	}
	query, err := queryOf(r)
	if err != nil {
		return err
	}
	filter := leaseFilter{state: api.LeaseState(query.Get("state")), license: query.Get("license"), before: p.after.Fence}
	switch filter.state {
	case "", api.LeaseStateActive, api.LeaseStateReleased, api.LeaseStateExpired, api.LeaseStateRevoked, api.LeaseStateEvicted:
	default:
		return serve.Invalid("state", "state must be active, released, expired, revoked or evicted.")
	}
	var reply api.SeatList
	reply.Position, err = a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error {
		if !storable(filter.license) {
			return noLicense(tenant, filter.license)
		}
		var found int
		if err := tx.QueryRow(ctx, seatsSelect, tenant, filter.license).Scan(&found, &reply.Seats, &reply.InUse); err != nil {
			return err
		}
		if found == 0 && filter.license != "" {
			return noLicense(tenant, filter.license)
		}
		var err error
		reply.Items, err = selectLeases(ctx, tx, tenant, filter, p.limit+1)
		return err
	})
	if err != nil {
		return err
	}
	reply.Items, reply.Next = cut(p, reply.Items, func(l api.Lease) place { return place{Fence: l.Fence} })
	return serve.Reply(w, http.StatusOK, reply)
}

// storable reports whether Postgres can hold the text, and so whether there can be a row with it.
func storable(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }
