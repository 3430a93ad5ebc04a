package projections

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// errOvertaken: another projector moved the checkpoint. Load it and go on from there.
var errOvertaken = errors.New("another projector moved the checkpoint")

// awayError is a failure of the journal's or the database's transport: the same call may succeed later. Every other error
// is about what was read or written, stays as it is and stops the projector.
type awayError struct {
	what  string
	cause error
}

func (e *awayError) Error() string { return e.what + " is away: " + e.cause.Error() }
func (e *awayError) Unwrap() error { return e.cause }

func away(what string, err error) error { return &awayError{what, err} }

func isAway(err error) bool {
	var e *awayError
	return errors.As(err, &e)
}

// dbError tells a database that is away from one that refuses. closed says whether the connection broke.
func dbError(err error, closed bool) error {
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		if passing[refused.Code[:2]] || refused.Code == readOnlyTransaction {
			return away("the database", err)
		}
		return fmt.Errorf("the database refuses: %w", err)
	case closed:
		return away("the database", err)
	}
	return err
}

// passing is the classes of SQLSTATE that say nothing about the statement: connection, transaction rollback (a deadlock),
// authorization (a password being rotated), resources (a full disk), lock not available, operator intervention (a restart),
// system error.
//
// Source: https://www.postgresql.org/docs/15/errcodes-appendix.html
var passing = map[string]bool{"08": true, "28": true, "40": true, "53": true, "55": true, "57": true, "58": true}

// readOnlyTransaction is what a primary that became a replica answers.
const readOnlyTransaction = "25006"

// A failed round is tried again after retryMin, then twice that, up to retryMax.
const (
	retryMin = 50 * time.Millisecond
	retryMax = 5 * time.Second
	// standbyMax is the longest wait of a projector that another one keeps overtaking: it stands by, and takes over this
	// long after the other died.
	standbyMax = time.Second
)

// errEnd: everything is where it was to be brought.
var errEnd = errors.New("at the end")

// insist calls round until it returns errEnd; then it returns nil. What is away, or was overtaken, is tried again after a pause; waits is
// told of the former. Any other error, and the end of ctx, ends it. round reports whether it got anywhere.
func insist(ctx context.Context, round func() (bool, error), waits func(wait time.Duration, err error)) error {
	wait := retryMin
	for {
		moved, err := round()
		if moved {
			wait = retryMin
		}
		limit := retryMax
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errEnd):
			return nil
		case err == nil:
			continue
		case errors.Is(err, errOvertaken):
			limit = standbyMax
		case isAway(err):
			waits(wait, err)
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, limit)
	}
}

// isUndefinedTable reports whether err says that a table, or the schema it is in, was not made yet.
func isUndefinedTable(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == "42P01" || refused.Code == "3F000")
}

// remoteLog marks the errors of a Log itself, so that they are told from those of what it holds.
type remoteLog struct {
	eventstore.Log
	what string
}

// Read implements eventstore.Log.
func (l remoteLog) Read(ctx context.Context, after uint64, f func(uint64, eventstore.Record) error) error {
	var refused error
	err := l.Log.Read(ctx, after, func(seq uint64, r eventstore.Record) error {
		refused = f(seq, r)
		return refused
	})
	if refused != nil {
		return refused
	}
	return away(l.what, err)
}

// Last implements eventstore.Log.
func (l remoteLog) Last(ctx context.Context) (uint64, error) {
	seq, err := l.Log.Last(ctx)
	if err != nil {
		return 0, away(l.what, err)
	}
	return seq, nil
}

// Get implements eventstore.Log.
func (l remoteLog) Get(ctx context.Context, seq uint64) (eventstore.Record, error) {
	r, err := l.Log.Get(ctx, seq)
	if err != nil && !errors.Is(err, eventstore.ErrNoRecord) {
		return r, away(l.what, err)
	}
	return r, err
}
