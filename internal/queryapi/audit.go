package queryapi

import (
	"cmp"
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/timeline"
)

// auditList is the entries of all tenants by time.
var auditList = list[auditEntry]{
	name:    "audit",
	columns: auditColumns,
	tables:  auditTables,
	scan:    scanAuditEntry,
	orders:  []order{{"time", []key{{"e.time", "timestamptz"}, {"e.tenant_id", "text"}, {"e.version", "bigint"}}}},
	sort:    "-time",
	fields:  timelineList.fields,
}

// listAudit answers with what people did in all tenants. Of one tenant it is the timeline, and so has the traffic of seats.
func (a *API) listAudit(w http.ResponseWriter, r *http.Request) error {
	p := paramsOf(r)
	terms := p.terms(timeline.AuditKeys)
	if p.err != nil {
		return p.err
	}
	tenant, err := oneTenant(terms)
	if err != nil {
		return err
	}
	if err := a.note(r, access.AuditRead, cmp.Or(tenant, domain.Staff)); err != nil {
		return err
	}
	l, q := auditList, listing[auditEntry]{read: a.ofAll(w, r, nil)}
	if tenant == "" {
		q.where.and(`NOT e.traffic`)
		whereAllTerms(&q.where, terms)
	} else {
		l = timelineList
		q.where.and(`e.tenant_id = ?`, tenant)
		q.before = func(ctx context.Context, tx pgx.Tx, where *conditions) error {
			return whereTerms(ctx, tx, where, tenant, terms)
		}
	}
	return serveList(a, w, r, l, p, q)
}
