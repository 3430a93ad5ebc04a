package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/projections"
)

// scratchLedger makes an empty ledger of one partition that syncs nothing: for what is measured by reading it.
func scratchLedger(ctx context.Context, dir string) (_ *eventstore.NATSStore, closeStore func(), err error) {
	nats, err := embedded.StartNATS(embedded.NATSOptions{Dir: filepath.Join(dir, "nats"), NoSync: true})
	if err != nil {
		return nil, nil, err
	}
	nc, err := nats.Connect(eventstore.NATSOptions("bench")...)
	if err != nil {
		nats.Shutdown()
		return nil, nil, err
	}
	closeStore = func() {
		nc.Close()
		nats.Shutdown()
	}
	store, err := eventstore.CreateNATS(ctx, nc, 1, 1)
	if err != nil {
		closeStore()
		return nil, nil, err
	}
	return store, closeStore, nil
}

// scratchRows starts a Postgres that syncs nothing, with empty read models.
func scratchRows(ctx context.Context, dir string) (_ *pgxpool.Pool, closeDB func() error, err error) {
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(dir, "postgres"), NoFsync: true})
	if err != nil {
		return nil, nil, err
	}
	stop := func() error {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		return postgres.Stop(stopping)
	}
	db, err := pgxpool.New(ctx, postgres.URL())
	if err != nil {
		_ = stop() // the first error is the one to tell
		return nil, nil, err
	}
	closeDB = func() error {
		db.Close()
		return stop()
	}
	if err := projections.Migrate(ctx, db); err != nil {
		_ = closeDB()
		return nil, nil, err
	}
	return db, closeDB, nil
}
