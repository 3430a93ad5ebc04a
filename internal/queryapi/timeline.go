package queryapi

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
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

var timelineList = list[jsontext.Value]{
	name:    "timeline",
	columns: `e.event`,
	tables:  `read.audit_entries e`,
	scan:    scanEvent,
	orders:  []order{{"time", []key{{"e.version", "bigint"}}}},
	sort:    "-time",
}

// timelinePage is api.Timeline.
type timelinePage struct {
	page[jsontext.Value] `json:",inline"`
	Names                map[string]string `json:"names"`
	Forgotten            []string          `json:"forgotten"`
}

func (a *API) listTimeline(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	var where conditions
	where.and(`e.tenant_id = ?`, tenant)
	var reply timelinePage
	return serveList(a, w, r, timelineList, p, listing[jsontext.Value]{
		read:  a.ofTenant(w, r),
		where: where,
		after: func(ctx context.Context, tx pgx.Tx, items []jsontext.Value) (err error) {
			reply.Names, reply.Forgotten, err = selectNames(ctx, tx, tenant, items)
			return err
		},
		reply: func(p page[jsontext.Value]) any { reply.page = p; return reply },
	})
}
