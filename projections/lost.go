package projections

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// LostEvent is an event that the read models know and a journal has not any more.
type LostEvent struct {
	Seq     uint64 // of its commit
	Tenant  domain.TenantID
	Version uint64
	Type    string
	Time    time.Time
}

const lostEventsSelect = `
	SELECT seq, tenant_id, version, type, time FROM read.audit_entries WHERE partition = $1 AND seq > $2 ORDER BY seq, index`

// KnownBeyond returns up to which commit the read models know a partition, and which events they have that stand behind a commit; of heartbeats
// they keep no list. It is what can be said of a journal that ends there.
func KnownBeyond(ctx context.Context, db *pgxpool.Pool, ledger string, p eventstore.Partition, seq uint64) (upTo uint64, events []LostEvent, err error) {
	err = db.QueryRow(ctx, `SELECT coalesce(max(seq), 0) FROM read.checkpoints WHERE ledger_id = $1 AND partition = $2`, ledger, p).Scan(&upTo)
	if isUndefinedTable(err) {
		return 0, nil, nil
	}
	if err != nil || upTo <= seq {
		return upTo, nil, err
	}
	rows, err := db.Query(ctx, lostEventsSelect, p, seq)
	if err != nil {
		return upTo, nil, err
	}
	events, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e LostEvent, err error) {
		err = row.Scan(&e.Seq, &e.Tenant, &e.Version, &e.Type, &e.Time)
		e.Time = e.Time.UTC()
		return e, err
	})
	return upTo, events, err
}
