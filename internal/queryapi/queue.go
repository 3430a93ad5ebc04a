package queryapi

import (
	"context"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

const queueSelect = `
	SELECT row_number() OVER (ORDER BY q.priority DESC, q.version), coalesce(u.text, ''), coalesce(m.text, ''), p.text, q.priority, q.since
	FROM read.queue q
		LEFT JOIN read.directory u ON u.tenant_id = q.tenant_id AND u.pseudonym = q."user"
		LEFT JOIN read.directory m ON m.tenant_id = q.tenant_id AND m.pseudonym = q.machine
		LEFT JOIN read.directory p ON p.tenant_id = q.tenant_id AND p.pseudonym = q.process
	WHERE q.tenant_id = $1 AND q.license_id = $2
	ORDER BY 1`

// seatEndsSelect finds nothing when no lease has ended yet.
const seatEndsSelect = `
	SELECT s.seats, s.in_use, coalesce(cardinality(e.ended), 0), e.ended[1]
	FROM read.seat_counts s LEFT JOIN read.seat_ends e USING (tenant_id, license_id)
	WHERE s.tenant_id = $1 AND s.license_id = $2`

// getQueue answers who waits for a seat. At most a thousand do: there are no pages.
func (a *API) getQueue(w http.ResponseWriter, r *http.Request) error {
	id := mux.Vars(r)["license"]
	var reply api.LicenseQueue
	now, err := a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error {
		if !storable(id) {
			return noLicense(tenant, id)
		}
		var ended int
		var since *time.Time
		rows, err := tx.Query(ctx, seatEndsSelect, tenant, id)
		if err != nil {
			return err
		}
		found, err := pgx.ForEachRow(rows, []any{&reply.Seats, &reply.InUse, &ended, &since}, func() error { return nil })
		if err != nil {
			return err
		}
		if found.RowsAffected() == 0 {
			return noLicense(tenant, id)
		}
		if rows, err = tx.Query(ctx, queueSelect, tenant, id); err != nil {
			return err
		}
		reply.Items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.Waiter, error) {
			var waiter api.Waiter
			err := row.Scan(&waiter.Position, &waiter.User, &waiter.Machine, &waiter.Process, &waiter.Priority, &waiter.Since)
			waiter.Since = waiter.Since.UTC()
			if since != nil {
				each := time.Since(*since).Seconds() / float64(ended)
				waiter.EstimateSeconds = new(max(1, int(each*float64(waiter.Position))))
			}
			return waiter, err
		})
		reply.Waiting = len(reply.Items)
		return err
	})
	if err != nil {
		return err
	}
	reply.Position, reply.AgeSeconds = now.Position, now.AgeSeconds
	return serve.Reply(w, http.StatusOK, reply)
}
