package queryapi

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/internal/timeline"
)

// topMax is how many holders can be asked for.
const topMax = 100

// usageTop is api.UsageTop.
type usageTop struct {
	Items []api.UsageHolder `json:"items"`
	From  time.Time         `json:"from"`
	Until time.Time         `json:"until"`
	reflects
}

// topUsage answers who held most: of whole days.
func (a *API) topUsage(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	q := usageOf(tenant, p)
	q.bucket = usageBuckets[2]
	if q.by = p.oneOf("by", "user", "machine", "feature"); q.by == "" {
		q.by = "user"
	}
	limit := p.whole("limit", 1, topMax, 10)
	if err := p.done(); err != nil {
		return err
	}
	reply := usageTop{Items: []api.UsageHolder{}}
	reply.reflects, err = a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, _ domain.TenantID) error {
		if err := q.mustExist(ctx, tx); err != nil {
			return err
		}
		until, err := a.usageUntil(ctx, tx, tenant)
		if err != nil {
			return err
		}
		from, last, _, err := q.series(time.Unix(0, 0), until)
		if err != nil {
			return err
		}
		reply.From, reply.Until = from.UTC(), earlier(last.Add(q.bucket.length), until).UTC()
		var args conditions
		sql := q.holdersSQL(`
			SELECT t.key, d.text, t.ms, t.acquires, t.denials
			FROM (
				SELECT h.key, sum(h.seat_ms + h.seats_last * (extract(epoch FROM h.next - greatest(h.start, h.at)) * 1000)::bigint)::bigint AS ms, sum(h.acquires) AS acquires,
					sum((SELECT sum(n.value::int) FROM jsonb_each_text(h.denials) n)) AS denials
				FROM `+holdersRows+` GROUP BY h.key
			) t LEFT JOIN read.directory d ON d.tenant_id = $tenant AND d.pseudonym = t.key
			ORDER BY t.ms DESC, t.key LIMIT `+args.arg(limit), &args, from, last, until)
		rows, err := tx.Query(ctx, sql, args.args...)
		if err != nil {
			return err
		}
		reply.Items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.UsageHolder, error) {
			var h api.UsageHolder
			var name *string
			var millis int64
			var denials *int
			err := row.Scan(&h.Id, &name, &millis, &h.Acquires, &denials)
			h.Name, h.SeatSeconds = q.nameOf(h.Id, name), seconds(millis)
			if denials != nil {
				h.Denials = *denials
			}
			h.Timeline = timeline.Link(tenant, "license", q.license, q.by, h.Id,
				"after", reply.From.Format(time.RFC3339), "before", last.Add(q.bucket.length).UTC().Format(time.RFC3339))
			return h, err
		})
		return err
	})
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, reply)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
