package queryapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/internal/why"
	"github.com/coditect-ai/license-ledger/projections"
)

// denialWhy is api.DenialWhy with the event as stored.
type denialWhy struct {
	Denial      jsontext.Value    `json:"denial"`
	Reproduced  bool              `json:"reproduced"`
	License     api.License       `json:"license"`
	Holders     []api.Lease       `json:"holders"`
	HoldersMore bool              `json:"holders_more"`
	Waiting     []api.Waiter      `json:"waiting"`
	Ways        []api.Way         `json:"ways"`
	Names       map[string]string `json:"names"`
	Forgotten   []string          `json:"forgotten"`
	reflects    `json:",inline"`
}

// whyHoldersMax is the contract of DenialWhy.
const whyHoldersMax = 1_000

const denialSelect = `SELECT event, time, seq FROM read.audit_entries WHERE tenant_id = $1 AND version = $2 AND type = 'ai.coditect.seat.denied.v1'`

func (a *API) explainDenial(w http.ResponseWriter, r *http.Request) error {
	if err := paramsOf(r).done(); err != nil {
		return err
	}
	id := mux.Vars(r)["denial"]
	var reply denialWhy
	now, err := a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error {
		notFound := serve.NewProblem(http.StatusNotFound, "denial_not_found", "No such denial", fmt.Sprintf("%q is not the version of a denial of %s.", id, tenant))
		version, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return notFound
		}
		var event string
		var at time.Time
		var seq uint64
		if err := tx.QueryRow(ctx, denialSelect, tenant, version).Scan(&event, &at, &seq); errors.Is(err, pgx.ErrNoRows) {
			return notFound
		} else if err != nil {
			return err
		}
		if archived, err := projections.ArchivedTo(ctx, tx, tenant); err != nil {
			return err
		} else if archived < uint64(version) {
			return &behindError{archive: true, least: eventstore.Position{Partition: a.ledger.PartitionOf(tenant), Seq: seq}, lag: 1}
		}
		var denied struct{ Data domain.SeatDenied }
		if err := json.Unmarshal([]byte(event), &denied); err != nil {
			return err
		}
		reply.Denial = jsontext.Value(event)
		if reply.Names, reply.Forgotten, err = selectNames(ctx, tx, tenant, []jsontext.Value{reply.Denial}); err != nil {
			return err
		}
		return reply.explain(ctx, tx, tenant, uint64(version), at.UTC(), denied.Data)
	})
	if err != nil {
		return err
	}
	reply.reflects = now
	return serve.Reply(w, http.StatusOK, reply)
}

// A refusal that came too soon after another is recorded up to a minute later, with those after it: then what the decision saw is the
// tenant of a moment before. Those are the moments that it may have been.
const (
	denialMomentsSelect = `
		SELECT version - 1, time FROM read.audit_entries WHERE tenant_id = $1 AND version < $2 AND version > 2 AND time >= $3 ORDER BY version DESC LIMIT 50`
	denialDelay = time.Minute + time.Second
)

type moment struct {
	version uint64
	at      time.Time
}

// explain fills in what the decision saw and what would have changed it.
func (d *denialWhy) explain(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, version uint64, at time.Time, denied domain.SeatDenied) error {
	moments := []moment{{version - 1, at}}
	if denied.Count > 0 {
		rows, err := tx.Query(ctx, denialMomentsSelect, tenant, version, at.Add(-denialDelay))
		if err != nil {
			return err
		}
		var m moment
		if _, err := pgx.ForEachRow(rows, []any{&m.version, &m.at}, func() error { moments = append(moments, moment{m.version, m.at.UTC()}); return nil }); err != nil {
			return err
		}
	}
	for _, m := range moments {
		scene, err := d.see(ctx, tx, tenant, m, denied)
		if err != nil {
			return err
		}
		if d.Reproduced = scene.Reproduces(); d.Reproduced {
			d.Ways = d.shown(scene.Ways())
			return nil
		}
	}
	d.Ways = []api.Way{}
	_, err := d.see(ctx, tx, tenant, moments[0], denied)
	return err
}

const waitingAtSelect = `
	WITH waiting AS (
		SELECT a.version, a.time, a.event::json #>> '{data,user}' AS "user", a.event::json #>> '{data,machine}' AS machine,
			coalesce(a.event::json #>> '{data,process}', '') AS process, coalesce((a.event::json #>> '{data,priority}')::int, 0) AS priority
		FROM read.audit_entries a
		WHERE a.tenant_id = $1 AND a.subject = $2 AND a.type = 'ai.coditect.seat.queued.v1' AND a.version <= $3
	)
	SELECT w."user", w.machine, w.process, w.priority, w.time, coalesce(u.text, ''), coalesce(m.text, ''), p.text
	FROM waiting w
		LEFT JOIN read.directory u ON u.tenant_id = $1 AND u.pseudonym = w."user"
		LEFT JOIN read.directory m ON m.tenant_id = $1 AND m.pseudonym = w.machine
		LEFT JOIN read.directory p ON p.tenant_id = $1 AND p.pseudonym = w.process
	WHERE NOT EXISTS (
			SELECT FROM read.audit_entries d
			WHERE d.tenant_id = $1 AND d.subject = $2 AND d.type = 'ai.coditect.seat.dequeued.v1' AND d.version > w.version AND d.version <= $3
				AND d.event::json #>> '{data,user}' = w."user" AND d.event::json #>> '{data,machine}' = w.machine
				AND coalesce(d.event::json #>> '{data,process}', '') = w.process)
		AND NOT EXISTS (
			SELECT FROM read.leases l
			WHERE l.tenant_id = $1 AND l.license_id = $2 AND l.fence > w.version AND l.fence <= $3
				AND l."user" = w."user" AND l.machine = w.machine AND l.process = w.process)
	ORDER BY w.priority DESC, w.version`

// see reads what a decision saw at a moment.
func (d *denialWhy) see(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, m moment, denied domain.SeatDenied) (why.Scene, error) {
	scene := why.Scene{At: m.at, Denied: denied, License: domain.LicenseInfo{ID: denied.License}}
	then := &instant{version: m.version}
	if err := projections.AsOf(ctx, tx, tenant, m.version); err != nil {
		return scene, err
	}
	shown, _, err := selectTenant(ctx, tx, tenant, then)
	if err != nil {
		return scene, err
	}
	scene.Status = domain.TenantStatus(shown.Status)

	var policy []byte
	rows, err := tx.Query(ctx, `SELECT `+projections.LicenseColumns+`, l.policy FROM `+projections.LicenseTablesAt+`
		WHERE l.tenant_id = $1 AND l.license_id = $2`, tenant, denied.License)
	if err != nil {
		return scene, err
	}
	d.License, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (api.License, error) { return projections.ScanLicense(row, &policy) })
	if err == nil {
		err = json.Unmarshal(policy, &scene.License.Policy)
	}
	if err != nil {
		return scene, err
	}
	scene.License.Seats, scene.License.Status = d.License.Seats, domain.LicenseStatus(d.License.Status)

	var holders []domain.Holder
	rows, err = tx.Query(ctx, `SELECT `+projections.LeaseColumns+`, l."user", l.machine, l.process FROM `+projections.ActiveLeaseTablesAt+`
		WHERE l.tenant_id = $1 AND l.license_id = $2 ORDER BY l.fence DESC`, tenant, denied.License)
	if err != nil {
		return scene, err
	}
	d.Holders, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.Lease, error) {
		var h domain.Holder
		l, err := projections.ScanLease(row, &h.User, &h.Machine, &h.Process)
		holders = append(holders, h)
		return l, err
	})
	if err == nil {
		err = correct(ctx, tx, tenant, d.Holders, then)
	}
	if err != nil {
		return scene, err
	}
	for i, l := range d.Holders {
		scene.Leases = append(scene.Leases, domain.Lease{
			ID: domain.LeaseID(l.Id), Fence: uint64(l.Fence), Holder: holders[i], Overage: l.Overage != nil, Borrowed: l.Borrowed != nil,
			AcquiredAt: l.AcquiredAt, ExpiresAt: l.ExpiresAt,
		})
	}
	d.HoldersMore = len(d.Holders) > whyHoldersMax
	d.Holders = d.Holders[:min(len(d.Holders), whyHoldersMax)]

	if rows, err = tx.Query(ctx, waitingAtSelect, tenant, denied.License, m.version); err != nil {
		return scene, err
	}
	d.Waiting, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.Waiter, error) {
		waiter := api.Waiter{Position: len(scene.Waiting) + 1}
		var h domain.Holder
		err := row.Scan(&h.User, &h.Machine, &h.Process, &waiter.Priority, &waiter.Since, &waiter.User, &waiter.Machine, &waiter.Process)
		scene.Waiting = append(scene.Waiting, why.Waiter{Holder: h, Priority: waiter.Priority})
		waiter.Since = waiter.Since.UTC()
		return waiter, err
	})
	return scene, err
}

// shown returns ways as the API shows them: the users of reservations by their names.
func (d *denialWhy) shown(ways []why.Way) []api.Way {
	all := []api.Way{}
	for _, way := range ways {
		shown := api.Way{Changes: []api.WayChange{}}
		for _, c := range way {
			one := api.WayChange{Of: api.WayChangeOf(c.Of), From: d.value(c.From), To: d.value(c.To)}
			if c.Field != "" {
				one.Field = &c.Field
			}
			if c.Of == why.OfLeases {
				ids := make([]string, len(c.Leases))
				for i, id := range c.Leases {
					ids[i] = string(id)
				}
				one.Leases = &ids
			}
			shown.Changes = append(shown.Changes, one)
		}
		all = append(all, shown)
	}
	return all
}

func (d *denialWhy) value(v any) any {
	reservations, ok := v.([]domain.Reservation)
	if !ok {
		return v
	}
	shown := []api.Reservation{}
	for i, r := range d.License.Reservations { // in the same order
		r.Seats = reservations[i].Seats
		shown = append(shown, r)
	}
	return shown
}
