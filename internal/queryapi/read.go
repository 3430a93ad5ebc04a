package queryapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// reading is one query that reads rows in one snapshot.
type reading struct {
	partitions []eventstore.Partition
	least      []eventstore.Position // what the rows must reflect at least
	rows       func(ctx context.Context, tx pgx.Tx) error
}

// snapshotOnly makes all statements of a transaction see the rows as they were at its first.
var snapshotOnly = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// waitMax is how long a query waits for Ledger-Min-Position.
const waitMax = 2 * time.Second

// readTenant reads rows of one tenant, after it was made sure that the tenant exists, and sets Ledger-Position. It returns
// the position's token. Errors: 400 Ledger-Min-Position, 404 tenant_not_found, 503 projection_behind, those of rows.
func (a *API) readTenant(w http.ResponseWriter, r *http.Request, rows func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error) (string, error) {
	tenant, err := tenantOf(r)
	if err != nil {
		return "", err
	}
	return a.read(w, r, reading{
		partitions: []eventstore.Partition{a.ledger.PartitionOf(tenant)},
		rows: func(ctx context.Context, tx pgx.Tx) error {
			if err := mustExist(ctx, tx, tenant); err != nil {
				return err
			}
			return rows(ctx, tx, tenant)
		},
	})
}

func mustExist(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error {
	var exists bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM read.tenants WHERE tenant_id = $1)`, tenant).Scan(&exists)
	if err == nil && !exists {
		err = noTenant(tenant)
	}
	return err
}

// read does a reading at or after the request's Ledger-Min-Position.
func (a *API) read(w http.ResponseWriter, r *http.Request, q reading) (string, error) {
	least, err := a.leastOf(r)
	if err != nil {
		return "", err
	}
	for _, position := range least {
		for _, p := range q.partitions {
			if position.Partition == p {
				q.least = append(q.least, position)
			}
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), waitMax)
	defer cancel()
	for {
		// Most often the rows are there already: reading them also tells.
		positions, err := a.readOnce(r.Context(), q)
		var behind *behindError
		if !errors.As(err, &behind) {
			token := a.tokens.Token(positions...)
			if err == nil {
				w.Header().Set("Ledger-Position", token)
			}
			return token, err
		}
		if a.waiting.until(ctx, behind.least) != nil {
			if r.Context().Err() != nil {
				return "", r.Context().Err()
			}
			a.metrics.behind.Inc()
			return "", behind.problem()
		}
	}
}

// leastOf returns the positions of Ledger-Min-Position; none when it is not there.
func (a *API) leastOf(r *http.Request) ([]eventstore.Position, error) {
	token := r.Header.Get("Ledger-Min-Position")
	if token == "" {
		return nil, nil
	}
	positions, err := a.tokens.Parse(token)
	for _, p := range positions {
		if int(p.Partition) >= a.ledger.Partitions {
			err = eventstore.ErrBadToken
		}
	}
	if err != nil {
		return nil, serve.Invalid("Ledger-Min-Position", "This is not a position of this ledger; send what came in Ledger-Position.")
	}
	return positions, nil
}

// behindError: the rows do not reflect least yet.
type behindError struct {
	least eventstore.Position
	lag   uint64 // in commits
}

func (e *behindError) Error() string { return fmt.Sprintf("%d commits behind", e.lag) }

func (e *behindError) problem() *serve.Problem {
	p := serve.NewProblem(http.StatusServiceUnavailable, "projection_behind", "The read models are behind",
		fmt.Sprintf("They did not reach Ledger-Min-Position within %s. What was done is safe; try again in a moment.", waitMax))
	p.LagEvents, p.RetryAfterSeconds = e.lag, 1
	return p
}

// readOnce does a reading as the rows are now. Errors: *behindError.
func (a *API) readOnce(ctx context.Context, q reading) (positions []eventstore.Position, err error) {
	err = pgx.BeginTxFunc(ctx, a.db, snapshotOnly, func(tx pgx.Tx) error {
		stands, err := a.standsIn(ctx, tx)
		if err != nil {
			return err
		}
		for _, p := range q.partitions {
			positions = append(positions, eventstore.Position{Partition: p, Seq: stands[p]})
		}
		for _, least := range q.least {
			if at := stands[least.Partition]; at < least.Seq {
				return &behindError{least: least, lag: least.Seq - at}
			}
		}
		return q.rows(ctx, tx)
	})
	return positions, err
}

// A read model that this program knows but the projector does not yet has no checkpoint: then nothing is reached. One that is
// parked is left behind by the others, and waited for no longer: a person was told.
const standsSelect = `
	SELECT partition, CASE WHEN count(*) < $2 THEN 0 ELSE coalesce(min(seq) FILTER (WHERE parked_at IS NULL), min(seq)) END
	FROM read.checkpoints WHERE ledger_id = $1 GROUP BY partition`

// stands returns the last commit that all read models reflect, by partition.
func (a *API) stands(ctx context.Context) (map[eventstore.Partition]uint64, error) {
	return a.standsIn(ctx, a.db)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (a *API) standsIn(ctx context.Context, db querier) (map[eventstore.Partition]uint64, error) {
	rows, err := db.Query(ctx, standsSelect, a.ledger.ID, len(projections.All()))
	if err != nil {
		return nil, err
	}
	stands := map[eventstore.Partition]uint64{}
	var p eventstore.Partition
	var seq uint64
	_, err = pgx.ForEachRow(rows, []any{&p, &seq}, func() error { stands[p] = seq; return nil })
	return stands, err
}
