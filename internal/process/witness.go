package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

// Witness is the read models, as the command service uses them: a memory of the journal that does not go back when the
// journal's volume does. The owners' records lie beside the journal and go back with it.
type Witness struct {
	DatabaseURL string `env:"DATABASE_URL" help:"The read models' Postgres; to read read.checkpoints is enough. A start waits for it and compares it with the journal: one that was rolled back, swapped or has vanished is refused before anything is written. Default: none; then an older copy of the whole journal is not noticed here."`
}

// settleFor is how long a journal may seem too short: a server that has just become the leader of a stream may still be
// about to apply its last commits.
const settleFor = 5 * time.Second

// AwaitLedger is that of a Frame for the service that writes. open is told whether the read models know of a ledger: then none
// may be made. What it opens is compared with them before it is returned.
//
// Errors: eventstore.ErrChainBroken, when the journal is not the one that the read models were read from.
func (w Witness) AwaitLedger(ctx context.Context, f *Frame, open func(ctx context.Context, known bool) (*eventstore.NATSStore, error)) (*eventstore.NATSStore, error) {
	if w.DatabaseURL == "" {
		return f.AwaitLedger(ctx, func(ctx context.Context) (*eventstore.NATSStore, error) { return open(ctx, false) })
	}
	db, err := Postgres(w).Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	known, err := f.knownLedger(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("ask the read models whose they are: %w", err)
	}
	store, err := f.AwaitLedger(ctx, func(ctx context.Context) (*eventstore.NATSStore, error) {
		store, err := open(ctx, known != "")
		if errors.Is(err, eventstore.ErrNoLedger) && known != "" {
			err = fmt.Errorf("%w any more: the journal of the ledger %s is missing, from which the read models were read; none is made in its place", err, known)
		}
		return store, err
	})
	if err != nil || known == "" {
		return store, err
	}
	if err := f.checkJournal(ctx, db, store); err != nil {
		return nil, fmt.Errorf("no command was taken, and no commit written; see deploy/runbooks/journal-chain-broken.md: %w", err)
	}
	return store, nil
}

func (f *Frame) knownLedger(ctx context.Context, db *pgxpool.Pool) (string, error) {
	for {
		known, err := projections.KnownLedger(ctx, db)
		if !isPostgresAway(err) {
			return known, err
		}
		f.Log.Info("waiting for Postgres, which knows what the journal held; without DATABASE_URL it is not waited for", "reason", err)
		f.startsWhen("Postgres is there, which knows what the journal held", err)
		if !pause(ctx) {
			return "", ctx.Err()
		}
	}
}

func (f *Frame) checkJournal(ctx context.Context, db *pgxpool.Pool, store eventstore.Store) error {
	runner := projections.NewRunner(projections.Options{DB: db, Store: store, Log: f.Log})
	for began := time.Now(); ; {
		err := runner.CheckJournal(ctx)
		settling := errors.Is(err, eventstore.ErrChainBroken) && time.Since(began) < settleFor
		if !settling && !isAway(err) && !isPostgresAway(err) {
			return err
		}
		f.Log.Info("comparing the journal with the read models again", "reason", err)
		f.startsWhen("the journal was compared with the read models", err)
		if !pause(ctx) {
			return ctx.Err()
		}
	}
}
