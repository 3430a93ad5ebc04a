package queryapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/internal/timeline"
	"github.com/coditect-ai/license-ledger/projections"
)

// leaseLife is api.LeaseLife with the events as stored.
type leaseLife struct {
	Lease      api.Lease         `json:"lease"`
	Heartbeats int               `json:"heartbeats"`
	RenewedAt  time.Time         `json:"renewed_at"`
	Ended      *leaseEnd         `json:"ended,omitzero"`
	Events     []auditEntry      `json:"events"`
	EventsMore bool              `json:"events_more"`
	Names      map[string]string `json:"names"`
	Timeline   string            `json:"timeline"`
	reflects   `json:",inline"`
}

// leaseEnd is api.LeaseEnd.
type leaseEnd struct {
	State  api.LeaseState `json:"state"`
	At     time.Time      `json:"at"`
	Actor  string         `json:"actor"`
	Reason string         `json:"reason,omitzero"`
	Cause  string         `json:"cause,omitzero"`
}

const leaseSelect = `
	SELECT ` + projections.LeaseColumns + `, l.heartbeats, l.renewed_at FROM ` + projections.LeaseTables + `
	WHERE l.tenant_id = $1 AND l.lease_id = $2`

// lifeEventsMax is the contract of LeaseLife.
const lifeEventsMax = 200

// getLease answers with a lease from its acquire to its end.
func (a *API) getLease(w http.ResponseWriter, r *http.Request) error {
	id := mux.Vars(r)["lease"]
	var reply leaseLife
	reflected, err := a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error {
		if !storable(id) {
			return noLease(tenant, id)
		}
		rows, err := tx.Query(ctx, leaseSelect, tenant, id)
		if err != nil {
			return err
		}
		reply.Lease, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (api.Lease, error) {
			return projections.ScanLease(row, &reply.Heartbeats, &reply.RenewedAt)
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return noLease(tenant, id)
		}
		if err != nil {
			return err
		}
		reply.RenewedAt = reply.RenewedAt.UTC()
		reply.Timeline = timeline.Link(tenant, "lease", id)
		return reply.readEvents(ctx, tx, tenant)
	})
	if err != nil {
		return err
	}
	reply.reflects = reflected
	return serve.Reply(w, http.StatusOK, reply)
}

// readEvents reads what happened to the lease, oldest first, and who ended it.
func (l *leaseLife) readEvents(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error {
	var where conditions
	where.and(`e.tenant_id = ?`, tenant)
	if err := whereLease(ctx, tx, &where, tenant, l.Lease.Id); err != nil {
		return err
	}
	read := func(descending bool, limit int) ([]auditEntry, error) {
		sql, args := timelineList.sql(where, sorted{order{keys: timelineList.orders[0].keys}, descending}, limit)
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) (auditEntry, error) { return scanAuditEntry(row, new(string)) })
	}
	var err error
	if l.Events, err = read(false, lifeEventsMax+1); err != nil {
		return err
	}
	if l.EventsMore = len(l.Events) > lifeEventsMax; l.EventsMore {
		l.Events = l.Events[:lifeEventsMax]
	}
	if l.Lease.EndedAt != nil {
		last, err := read(true, 1)
		if err != nil {
			return err
		}
		l.Ended = &leaseEnd{State: l.Lease.State, At: *l.Lease.EndedAt}
		if len(last) > 0 {
			l.Ended.Actor, l.Ended.Reason, l.Ended.Cause = last[0].actor, last[0].Reason, last[0].Cause
		}
	}
	l.Names, err = selectNames(ctx, tx, tenant, eventsOf(l.Events))
	return err
}

func noLease(tenant domain.TenantID, id string) error {
	return serve.NewProblem(http.StatusNotFound, string(domain.LeaseNotFound), "No such lease",
		fmt.Sprintf("The tenant %q has no lease %q.", tenant, id))
}
