package queryapi

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/timeline"
)

var denialsList = list[api.Denial]{
	name: "denials",
	columns: `d.version, d.time, d.license_id, coalesce(u.text, ''), coalesce(m.text, ''), p.text, d.reason, d.count, d.seats, d.in_use,
		d.tenant_id, d."user", d.machine`,
	tables: `read.denials d
		LEFT JOIN read.directory u ON u.tenant_id = d.tenant_id AND u.pseudonym = d."user"
		LEFT JOIN read.directory m ON m.tenant_id = d.tenant_id AND m.pseudonym = d.machine
		LEFT JOIN read.directory p ON p.tenant_id = d.tenant_id AND p.pseudonym = d.process`,
	scan: func(row pgx.CollectableRow, more ...any) (api.Denial, error) {
		var d api.Denial
		var tenant, user, machine string
		err := row.Scan(append([]any{&d.Id, &d.Time, &d.License, &d.User, &d.Machine, &d.Process, &d.Reason, &d.Count, &d.Seats, &d.InUse,
			&tenant, &user, &machine}, more...)...)
		d.Time = d.Time.UTC()
		d.Timeline = timeline.Link(domain.TenantID(tenant), "type", "seat.denied", "license", d.License, "user", user, "machine", machine,
			"after", d.Time.Format(time.RFC3339Nano), "before", d.Time.Add(time.Millisecond).Format(time.RFC3339Nano))
		return d, err
	},
	orders: []order{{"time", []key{{"d.version", "bigint"}}}},
	sort:   "-time",
	fields: []field[api.Denial]{
		{"id", func(d api.Denial) any { return d.Id }},
		{"time", func(d api.Denial) any { return d.Time }},
		{"license", func(d api.Denial) any { return d.License }},
		{"user", func(d api.Denial) any { return d.User }},
		{"machine", func(d api.Denial) any { return d.Machine }},
		{"process", func(d api.Denial) any { return d.Process }},
		{"reason", func(d api.Denial) any { return d.Reason }},
		{"count", func(d api.Denial) any { return d.Count }},
		{"seats", func(d api.Denial) any { return d.Seats }},
		{"in_use", func(d api.Denial) any { return d.InUse }},
	},
}

func (a *API) listDenials(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	var where conditions
	where.and(`d.tenant_id = ?`, tenant)
	if license := p.text("license"); license != "" {
		where.and(`d.license_id = ?`, license)
	}
	if reason := p.text("reason"); reason != "" {
		where.and(`d.reason = ?`, reason)
	}
	user, machine, from, to := p.text("user"), p.text("machine"), p.instant("from"), p.instant("to")
	return serveList(a, w, r, denialsList, p, listing[api.Denial]{
		read:  a.ofTenant(w, r),
		where: where,
		before: func(ctx context.Context, tx pgx.Tx, where *conditions) error {
			if err := whereBetween(ctx, tx, where, `d.version`, tenant, from, to); err != nil {
				return err
			}
			if err := whereName(ctx, tx, where, `d."user"`, tenant, eventstore.UserName, user); err != nil {
				return err
			}
			return whereName(ctx, tx, where, `d.machine`, tenant, eventstore.MachineName, machine)
		},
	})
}
