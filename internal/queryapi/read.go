package queryapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
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
	at         []*instant            // what it is as of: resolved before rows is called. The answer reflects the last. None, or nil: now
	reflects   func(reflects)        // told what they reflect, before they are asked for
	rows       func(ctx context.Context, tx pgx.Tx) error
}

// snapshotOnly makes all statements of a transaction see the rows as they were at its first.
var snapshotOnly = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// waitMax is how long a query waits for Ledger-Min-Position.
const waitMax = 2 * time.Second

// reflects says what an answer reflects. The headers Ledger-Position and Ledger-Age say it of every answer; a list repeats
// it in its body.
type reflects struct {
	Position string `json:"position"` // token of the last commits that the rows reflect
	// AgeSeconds is for how long at most something may have been stored that the rows do not reflect yet.
	AgeSeconds float64 `json:"age_seconds"`
}

// readTenant reads rows of one tenant, after it was made sure that the tenant exists, or did at each instant. The tables At are as of
// the last. Errors: those of read, 404 tenant_not_found.
func (a *API) readTenant(w http.ResponseWriter, r *http.Request, rows func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error, at ...*instant) (reflects, error) {
	tenant, err := tenantOf(r)
	if err != nil {
		return reflects{}, err
	}
	return a.read(w, r, reading{
		partitions: []eventstore.Partition{a.ledger.PartitionOf(tenant)},
		at:         at,
		rows: func(ctx context.Context, tx pgx.Tx) error {
			if err := mustExist(ctx, tx, tenant); err != nil {
				return err
			}
			for _, i := range at {
				if i == nil {
					continue
				}
				if err := i.begin(ctx, tx, tenant); err != nil {
					return err
				}
			}
			return rows(ctx, tx, tenant)
		},
	})
}

// ofTenant returns how a list reads rows of the tenant of the path, now or at an instant.
func (a *API) ofTenant(w http.ResponseWriter, r *http.Request, at ...*instant) func(rows func(ctx context.Context, tx pgx.Tx) error) (reflects, error) {
	return func(rows func(ctx context.Context, tx pgx.Tx) error) (reflects, error) {
		return a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, _ domain.TenantID) error { return rows(ctx, tx) }, at...)
	}
}

// ofAll returns how a list reads rows of all tenants, now or at an instant.
func (a *API) ofAll(w http.ResponseWriter, r *http.Request, at *instant) func(rows func(ctx context.Context, tx pgx.Tx) error) (reflects, error) {
	return func(rows func(ctx context.Context, tx pgx.Tx) error) (reflects, error) {
		q := reading{at: []*instant{at}, rows: func(ctx context.Context, tx pgx.Tx) error {
			if at != nil {
				if err := at.beginAll(ctx, tx); err != nil {
					return err
				}
			}
			return rows(ctx, tx)
		}}
		_ = a.ledger.All(func(p eventstore.Partition) error { q.partitions = append(q.partitions, p); return nil })
		return a.read(w, r, q)
	}
}

func mustExist(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error {
	var exists bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM read.tenants WHERE tenant_id = $1)`, tenant).Scan(&exists)
	if err == nil && !exists {
		err = noTenant(tenant)
	}
	return err
}

// read does a reading at or after the request's Ledger-Min-Position. Before it asks for rows it sets Ledger-Position and
// Ledger-Age, so that rows may already be sent while they are read.
//
// Errors: 400 Ledger-Min-Position, 503 projection_behind, those of rows.
func (a *API) read(w http.ResponseWriter, r *http.Request, q reading) (reflects, error) {
	least, err := a.leastOf(r)
	if err != nil {
		return reflects{}, err
	}
	for _, position := range least {
		for _, p := range q.partitions {
			if position.Partition == p {
				q.least = append(q.least, position)
			}
		}
	}
	var reflected reflects
	q.reflects = func(now reflects) {
		reflected = now
		w.Header().Set("Ledger-Position", now.Position)
		w.Header().Set("Ledger-Age", strconv.FormatFloat(now.AgeSeconds, 'f', -1, 64))
	}
	ctx, cancel := context.WithTimeout(r.Context(), waitMax)
	defer cancel()
	for {
		// Most often the rows are there already: reading them also tells.
		err := a.readOnce(r.Context(), q)
		var behind *behindError
		if !errors.As(err, &behind) {
			return reflected, err
		}
		wait := a.waiting.until
		if behind.archive {
			wait = a.archiving.until
		}
		if wait(ctx, behind.least) != nil {
			if r.Context().Err() != nil {
				return reflects{}, r.Context().Err()
			}
			a.metrics.behind.Inc()
			return reflects{}, behind.problem()
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

// behindError: the rows do not reflect least yet, or the archive does not hold it.
type behindError struct {
	archive bool
	least   eventstore.Position
	lag     uint64 // in commits
}

func (e *behindError) Error() string { return fmt.Sprintf("%d commits behind", e.lag) }

func (e *behindError) problem() *serve.Problem {
	p := serve.NewProblem(http.StatusServiceUnavailable, "projection_behind", "The read models are behind",
		fmt.Sprintf("They did not reach the position that was asked for within %s. What was done is safe; try again in a moment.", waitMax))
	p.LagEvents, p.RetryAfterSeconds = e.lag, 1
	return p
}

// readOnce does a reading as the rows are now. Errors: *behindError.
func (a *API) readOnce(ctx context.Context, q reading) error {
	a.heads.look(ctx, q.partitions)
	return pgx.BeginTxFunc(ctx, a.db, snapshotOnly, func(tx pgx.Tx) error {
		stands, err := a.standsIn(ctx, tx)
		if err != nil {
			return err
		}
		for _, least := range q.least {
			if at := stands[least.Partition].seq; at < least.Seq {
				return &behindError{least: least, lag: least.Seq - at}
			}
		}
		reflected := a.reflectsOf(stands, q.partitions)
		for _, i := range q.at {
			if i == nil {
				continue
			}
			if err := i.resolve(ctx, tx, q.partitions, stands); err != nil {
				return err
			}
			// Nothing is added to the past: its age is nothing, unless it is what is known now.
			if token := a.tokens.Token(i.places...); token != reflected.Position {
				reflected = reflects{Position: token}
			}
		}
		q.reflects(reflected)
		return q.rows(ctx, tx)
	})
}

// reflectsOf returns what rows of some partitions reflect: of several the age is that of the oldest.
func (a *API) reflectsOf(stands map[eventstore.Partition]stand, partitions []eventstore.Partition) reflects {
	positions := make([]eventstore.Position, len(partitions))
	now := time.Now()
	upTo := now
	for i, p := range partitions {
		positions[i] = eventstore.Position{Partition: p, Seq: stands[p].seq}
		committed := stands[p].time
		if committed.IsZero() {
			committed = a.ledger.CreatedAt
		}
		if t := a.heads.upTo(p, stands[p].seq, committed); t.Before(upTo) {
			upTo = t
		}
	}
	return reflects{Position: a.tokens.Token(positions...), AgeSeconds: now.Sub(upTo).Round(time.Millisecond).Seconds()}
}

// stand is the last commit that all read models of a partition reflect, and its time; zero before the first.
type stand struct {
	seq  uint64
	time time.Time
}

// A read model that this program knows but the projector does not yet has no checkpoint: then nothing is reached. One that is
// parked is left behind by the others, and waited for no longer: a person was told.
const standsSelect = `
	SELECT partition, CASE WHEN reached THEN seq ELSE 0 END, CASE WHEN reached THEN time END
	FROM (
		SELECT partition, coalesce(min(seq) FILTER (WHERE parked_at IS NULL), min(seq)) AS seq,
			coalesce(min(commit_time) FILTER (WHERE parked_at IS NULL), min(commit_time)) AS time,
			count(*) >= $2 AND min(seq) > 0 AS reached
		FROM read.checkpoints WHERE ledger_id = $1 GROUP BY partition
	) AS c`

// stands returns the last commit that all read models reflect, by partition.
func (a *API) stands(ctx context.Context) (map[eventstore.Partition]stand, error) {
	return a.standsIn(ctx, a.db)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (a *API) standsIn(ctx context.Context, db querier) (map[eventstore.Partition]stand, error) {
	rows, err := db.Query(ctx, standsSelect, a.ledger.ID, len(projections.All()))
	if err != nil {
		return nil, err
	}
	stands := map[eventstore.Partition]stand{}
	var p eventstore.Partition
	var seq uint64
	var at *time.Time
	_, err = pgx.ForEachRow(rows, []any{&p, &seq, &at}, func() error {
		s := stand{seq: seq}
		if at != nil {
			s.time = *at
		}
		stands[p] = s
		return nil
	})
	return stands, err
}
