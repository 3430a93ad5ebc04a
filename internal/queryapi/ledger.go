package queryapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// rates remembers how far something was, so that whoever asks again learns how fast it goes.
type rates[K comparable] struct {
	mu    sync.Mutex
	marks map[K][]head // oldest first
}

// ratesFor is how far back a rate looks, and ratesEvery how close two marks are at least.
const (
	ratesFor   = time.Minute
	ratesEvery = time.Second
)

// note notes where k is now and returns how many commits a second it made since the oldest mark; nil when there is none yet.
func (r *rates[K]) note(k K, seq uint64, now time.Time) *float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	marks := r.marks[k]
	for len(marks) > 0 && (now.Sub(marks[0].at) > ratesFor || marks[0].seq > seq) { // it began again
		marks = marks[1:]
	}
	if r.marks == nil {
		r.marks = map[K][]head{}
	}
	if len(marks) == 0 || now.Sub(marks[len(marks)-1].at) >= ratesEvery {
		marks = append(marks, head{seq, now})
	}
	r.marks[k] = marks
	past := now.Sub(marks[0].at).Seconds()
	if past < ratesEvery.Seconds() {
		return nil
	}
	return new(float64(seq-marks[0].seq) / past)
}

// progress is the rates of this process.
type progress struct {
	partitions  rates[eventstore.Partition]
	projections rates[projectionOf]
}

type projectionOf struct {
	name      string
	partition eventstore.Partition
}

const progressSelect = `SELECT projection, partition, seq, commit_time, updated_at, parked_at, parked_because FROM read.checkpoints WHERE ledger_id = $1`

type checkpointRow struct {
	seq       uint64
	committed *time.Time
	updated   *time.Time
	parkedAt  *time.Time // nil: it is not
	parked    *string    // because
}

// readCheckpoints reads where every projection stands.
func (a *API) readCheckpoints(w http.ResponseWriter, r *http.Request) (map[projectionOf]checkpointRow, reflects, error) {
	found := map[projectionOf]checkpointRow{}
	reflected, err := a.ofAll(w, r, nil)(func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, progressSelect, a.ledger.ID)
		if err != nil {
			return err
		}
		var of projectionOf
		var row checkpointRow
		_, err = pgx.ForEachRow(rows, []any{&of.name, &of.partition, &row.seq, &row.committed, &row.updated, &row.parkedAt, &row.parked}, func() error {
			found[of] = row
			row = checkpointRow{}
			return nil
		})
		return err
	})
	return found, reflected, err
}

// listProjections answers with how far each read model is in each partition.
func (a *API) listProjections(w http.ResponseWriter, r *http.Request) error {
	if err := paramsOf(r).done(); err != nil {
		return err
	}
	found, reflected, err := a.readCheckpoints(w, r)
	if err != nil {
		return err
	}
	now := time.Now()
	reply := api.LedgerProjections{Items: []api.ProjectionProgress{}, Position: reflected.Position, AgeSeconds: reflected.AgeSeconds}
	_ = a.ledger.All(func(p eventstore.Partition) error {
		var furthest uint64
		for of, row := range found {
			if of.partition == p {
				furthest = max(furthest, row.seq)
			}
		}
		for _, projection := range projections.All() {
			of := projectionOf{projection.Name(), p}
			row := found[of]
			item := api.ProjectionProgress{
				Projection: of.name, Partition: int(p), Seq: int64(row.seq), UpdatedAt: row.updated,
				CommitsPerSecond: a.progress.projections.note(of, row.seq, now), ParkedAt: row.parkedAt, ParkedBecause: row.parked,
			}
			item.Head, item.LagCommits, item.LagSeconds = a.lag(p, row, now)
			switch {
			case row.parkedAt != nil:
				item.State = api.Parked
			case row.seq < furthest:
				item.State = api.Rebuilding
			case item.LagCommits > 0:
				item.State = api.Behind
			default:
				item.State = api.Current
			}
			reply.Items = append(reply.Items, item)
		}
		return nil
	})
	return serve.Reply(w, http.StatusOK, reply)
}

// lag returns where a partition ends, as last seen, and how far behind that rows are.
func (a *API) lag(p eventstore.Partition, row checkpointRow, now time.Time) (end, commits int64, seconds float64) {
	committed := a.ledger.CreatedAt
	if row.committed != nil {
		committed = *row.committed
	}
	last := max(a.heads.latest(p).seq, row.seq) // the rows may be newer than the last look
	behind := max(0, now.Sub(a.heads.upTo(p, row.seq, committed)))
	return int64(last), int64(last - row.seq), behind.Round(time.Millisecond).Seconds()
}

// listPartitions answers with how long each partition is, and how far all read models have read it.
func (a *API) listPartitions(w http.ResponseWriter, r *http.Request) error {
	if err := paramsOf(r).done(); err != nil {
		return err
	}
	found, reflected, err := a.readCheckpoints(w, r)
	if err != nil {
		return err
	}
	now := time.Now()
	reply := api.LedgerPartitions{Items: []api.PartitionProgress{}, Position: reflected.Position, AgeSeconds: reflected.AgeSeconds}
	_ = a.ledger.All(func(p eventstore.Partition) error {
		var least *checkpointRow
		for _, projection := range projections.All() {
			if row := found[projectionOf{projection.Name(), p}]; least == nil || row.seq < least.seq {
				least = &row
			}
		}
		item := api.PartitionProgress{Partition: int(p), Reached: int64(least.seq), ReachedAt: least.committed}
		item.Head, item.LagCommits, item.LagSeconds = a.lag(p, *least, now)
		item.CommitsPerSecond = a.progress.partitions.note(p, uint64(item.Head), now)
		reply.Items = append(reply.Items, item)
		return nil
	})
	return serve.Reply(w, http.StatusOK, reply)
}
