package queryapi

import (
	"context"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/timeline"
)

// licenseVersion is api.LicenseVersion.
type licenseVersion struct {
	Version  int64          `json:"version"`
	From     time.Time      `json:"from"`
	Until    *time.Time     `json:"until,omitzero"`
	Type     string         `json:"type"`
	Actor    string         `json:"actor"`
	Reason   string         `json:"reason,omitzero"`
	Before   jsontext.Value `json:"before,omitzero"`
	After    jsontext.Value `json:"after,omitzero"`
	Timeline string         `json:"timeline"`

	event jsontext.Value
}

// A row of history is there for each event that changed what a license is; the event says who and why.
var licenseHistoryList = list[licenseVersion]{
	name:    "license-history",
	columns: `h.version, h.at, h.until_at, e.type, e.actor, e.reason, e.before, e.after, e.event, h.tenant_id, h.id`,
	tables:  `read.history h JOIN read.audit_entries e ON e.tenant_id = h.tenant_id AND e.version = h.version`,
	orders:  []order{{"time", []key{{"h.version", "bigint"}}}},
	sort:    "-time",
	scan: func(row pgx.CollectableRow, more ...any) (licenseVersion, error) {
		var v licenseVersion
		var tenant domain.TenantID
		var license, event string
		err := row.Scan(append([]any{
			&v.Version, &v.From, &v.Until, &v.Type, &v.Actor, &v.Reason, (*[]byte)(&v.Before), (*[]byte)(&v.After), &event, &tenant, &license,
		}, more...)...)
		if v.From, v.event = v.From.UTC(), jsontext.Value(event); v.Until != nil {
			*v.Until = v.Until.UTC()
		}
		v.Timeline = timeline.Link(tenant, "type", v.Type, "license", license,
			"after", v.From.Format(time.RFC3339Nano), "before", v.From.Add(time.Millisecond).Format(time.RFC3339Nano))
		return v, err
	},
	fields: []field[licenseVersion]{
		{"version", func(v licenseVersion) any { return v.Version }},
		{"from", func(v licenseVersion) any { return v.From }},
		{"until", func(v licenseVersion) any { return v.Until }},
		{"type", func(v licenseVersion) any { return v.Type }},
		{"actor", func(v licenseVersion) any { return v.Actor }},
		{"reason", func(v licenseVersion) any { return v.Reason }},
		{"before", func(v licenseVersion) any { return string(v.Before) }},
		{"after", func(v licenseVersion) any { return string(v.After) }},
	},
}

// licenseHistoryPage is api.LicenseHistory.
type licenseHistoryPage struct {
	page[licenseVersion] `json:",inline"`
	Names                map[string]string `json:"names"`
	Forgotten            []string          `json:"forgotten"`
}

// listLicenseHistory answers with each version of a license and its policy: what changed, who changed it, when and why.
func (a *API) listLicenseHistory(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	id := mux.Vars(r)["license"]
	var where conditions
	where.and(`h.tenant_id = ? AND h.kind = 'license' AND h.id = ?`, tenant, id)
	var reply licenseHistoryPage
	return serveList(a, w, r, licenseHistoryList, paramsOf(r), listing[licenseVersion]{
		read:   a.ofTenant(w, r),
		where:  where,
		before: func(ctx context.Context, tx pgx.Tx, _ *conditions) error { return mustHave(ctx, tx, tenant, id) },
		after: func(ctx context.Context, tx pgx.Tx, items []licenseVersion) (err error) {
			events := make([]jsontext.Value, len(items))
			for i, v := range items {
				events[i] = v.event
			}
			reply.Names, reply.Forgotten, err = selectNames(ctx, tx, tenant, events)
			return err
		},
		reply: func(p page[licenseVersion]) any { reply.page = p; return reply },
	})
}
