package queryapi

import (
	"context"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/timeline"
	"github.com/coditect-ai/license-ledger/projections"
)

const latestSelect = `SELECT event FROM read.audit_entries WHERE tenant_id = $1 ORDER BY version DESC LIMIT $2`

// selectLatest returns at most limit events, as stored, newest first.
func selectLatest(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, limit int) ([]jsontext.Value, error) {
	rows, err := tx.Query(ctx, latestSelect, tenant, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (jsontext.Value, error) { return scanEvent(row) })
}

func scanEvent(row pgx.CollectableRow, more ...any) (jsontext.Value, error) {
	var text string
	err := row.Scan(append([]any{&text}, more...)...)
	return jsontext.Value(text), err
}

const namesSelect = `SELECT pseudonym, text FROM read.directory WHERE tenant_id = $1 AND pseudonym = ANY($2)`

// selectNames returns the text of the pseudonyms in events, and those whose text was forgotten.
func selectNames(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, events []jsontext.Value) (names map[string]string, forgotten []string, err error) {
	pseudonyms, err := projections.Pseudonyms(events)
	if err != nil {
		return nil, nil, err
	}
	if names, err = selectTexts(ctx, tx, tenant, pseudonyms); err != nil {
		return nil, nil, err
	}
	forgotten = []string{}
	for _, p := range pseudonyms {
		if _, known := names[string(p)]; !known {
			forgotten = append(forgotten, string(p))
		}
	}
	return names, forgotten, nil
}

// selectTexts returns what pseudonyms stand for; who was forgotten is not in it.
func selectTexts(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, pseudonyms []domain.Pseudonym) (map[string]string, error) {
	names := map[string]string{}
	if len(pseudonyms) == 0 {
		return names, nil
	}
	rows, err := tx.Query(ctx, namesSelect, tenant, pseudonyms)
	if err != nil {
		return nil, err
	}
	var pseudonym, text string
	_, err = pgx.ForEachRow(rows, []any{&pseudonym, &text}, func() error { names[pseudonym] = text; return nil })
	return names, err
}

// auditEntry is api.AuditEntry, with the event as stored.
type auditEntry struct {
	Event   jsontext.Value `json:"event"`
	License string         `json:"license,omitzero"`
	User    string         `json:"user,omitzero"`
	Machine string         `json:"machine,omitzero"`
	Reason  string         `json:"reason,omitzero"`
	Cause   string         `json:"cause,omitzero"`
	Before  jsontext.Value `json:"before,omitzero"`
	After   jsontext.Value `json:"after,omitzero"`

	// What the event says, for a CSV.
	tenant, kind, subject, actor, command string
	version                               int64
	time                                  time.Time
}

const (
	auditColumns = `e.event, e.license_id, coalesce(u.text, ''), coalesce(m.text, ''), e.reason, e.cause, e.before, e.after,
		e.tenant_id, e.type, e.subject, e.actor, e.command, e.version, e.time`
	auditTables = `read.audit_entries e
		LEFT JOIN read.directory u ON u.tenant_id = e.tenant_id AND u.pseudonym = e."user"
		LEFT JOIN read.directory m ON m.tenant_id = e.tenant_id AND m.pseudonym = e.machine`
)

func scanAuditEntry(row pgx.CollectableRow, more ...any) (auditEntry, error) {
	var e auditEntry
	var event string
	err := row.Scan(append([]any{&event, &e.License, &e.User, &e.Machine, &e.Reason, &e.Cause, (*[]byte)(&e.Before), (*[]byte)(&e.After),
		&e.tenant, &e.kind, &e.subject, &e.actor, &e.command, &e.version, &e.time}, more...)...)
	e.Event = jsontext.Value(event)
	return e, err
}

var timelineList = list[auditEntry]{
	name:    "timeline",
	columns: auditColumns,
	tables:  auditTables,
	scan:    scanAuditEntry,
	orders:  []order{{"time", []key{{"e.version", "bigint"}}}}, // a tenant's versions are in the order of time
	sort:    "-time",
	fields: []field[auditEntry]{
		{"time", func(e auditEntry) any { return e.time }},
		{"tenant", func(e auditEntry) any { return e.tenant }},
		{"version", func(e auditEntry) any { return e.version }},
		{"type", func(e auditEntry) any { return e.kind }},
		{"license", func(e auditEntry) any { return e.License }},
		{"user", func(e auditEntry) any { return e.User }},
		{"machine", func(e auditEntry) any { return e.Machine }},
		{"subject", func(e auditEntry) any { return e.subject }},
		{"actor", func(e auditEntry) any { return e.actor }},
		{"command", func(e auditEntry) any { return e.command }},
		{"reason", func(e auditEntry) any { return e.Reason }},
		{"cause", func(e auditEntry) any { return e.Cause }},
		{"before", func(e auditEntry) any { return string(e.Before) }},
		{"after", func(e auditEntry) any { return string(e.After) }},
	},
}

// timelinePage is api.Timeline.
type timelinePage struct {
	page[auditEntry] `json:",inline"`
	Names            map[string]string `json:"names"`
	Forgotten        []string          `json:"forgotten"`
}

func (a *API) listTimeline(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	terms := p.terms(timeline.Keys)
	var where conditions
	where.and(`e.tenant_id = ?`, tenant)
	var reply timelinePage
	return serveList(a, w, r, timelineList, p, listing[auditEntry]{
		read:  a.ofTenant(w, r),
		where: where,
		before: func(ctx context.Context, tx pgx.Tx, where *conditions) error {
			return whereTerms(ctx, tx, where, tenant, terms)
		},
		after: func(ctx context.Context, tx pgx.Tx, items []auditEntry) (err error) {
			reply.Names, reply.Forgotten, err = selectNames(ctx, tx, tenant, eventsOf(items))
			return err
		},
		reply: func(p page[auditEntry]) any { reply.page = p; return reply },
	})
}

func eventsOf(entries []auditEntry) []jsontext.Value {
	events := make([]jsontext.Value, len(entries))
	for i, e := range entries {
		events[i] = e.Event
	}
	return events
}
