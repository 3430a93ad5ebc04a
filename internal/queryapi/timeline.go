package queryapi

import (
	"context"
	"math"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// timeline is api.Timeline with the events as stored.
type timeline struct {
	Items     []jsontext.Value  `json:"items"`
	Next      string            `json:"next"`
	Names     map[string]string `json:"names"`
	Forgotten []string          `json:"forgotten"`
	Position  string            `json:"position"`
}

// entry is an event and its place in the list.
type entry struct {
	version int64
	event   jsontext.Value
}

const timelineSelect = `
	SELECT version, event FROM read.audit_entries
	WHERE tenant_id = $1 AND version < $2
	ORDER BY version DESC LIMIT $3`

// selectTimeline returns at most limit events with a version below before, newest first.
func selectTimeline(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, before int64, limit int) ([]entry, error) {
	rows, err := tx.Query(ctx, timelineSelect, tenant, before, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (entry, error) {
		var e entry
		var text string
		err := row.Scan(&e.version, &text)
		e.event = jsontext.Value(text)
		return e, err
	})
}

const namesSelect = `SELECT pseudonym, text FROM read.directory WHERE tenant_id = $1 AND pseudonym = ANY($2)`

// selectNames returns the text of the pseudonyms in events, and those whose text was forgotten.
func selectNames(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, events []jsontext.Value) (names map[string]string, forgotten []string, err error) {
	names, forgotten = map[string]string{}, []string{}
	pseudonyms, err := projections.Pseudonyms(events)
	if err != nil || len(pseudonyms) == 0 {
		return names, forgotten, err
	}
	rows, err := tx.Query(ctx, namesSelect, tenant, pseudonyms)
	if err != nil {
		return nil, nil, err
	}
	var pseudonym, text string
	_, err = pgx.ForEachRow(rows, []any{&pseudonym, &text}, func() error { names[pseudonym] = text; return nil })
	for _, p := range pseudonyms {
		if _, known := names[string(p)]; !known {
			forgotten = append(forgotten, string(p))
		}
	}
	return names, forgotten, err
}

func eventsOf(entries []entry) []jsontext.Value {
	events := make([]jsontext.Value, len(entries))
	for i, e := range entries {
		events[i] = e.event
	}
	return events
}

func (a *API) listTimeline(w http.ResponseWriter, r *http.Request) error {
	p, err := pageOf(r, func(at place) bool { return at.Version > 0 })
	if err != nil {
		return err
	}
	before := int64(math.MaxInt64)
	if p.after.Version > 0 {
		before = p.after.Version
	}
	var reply timeline
	reply.Position, err = a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error {
		entries, err := selectTimeline(ctx, tx, tenant, before, p.limit+1)
		if err != nil {
			return err
		}
		entries, reply.Next = cut(p, entries, func(e entry) place { return place{Version: e.version} })
		reply.Items = eventsOf(entries)
		reply.Names, reply.Forgotten, err = selectNames(ctx, tx, tenant, reply.Items)
		return err
	})
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, reply)
}
