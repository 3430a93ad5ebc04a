package main

import (
	"context"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/internal/embedded"
)

// database is how commands that look behind the API find Postgres.
type database struct {
	DatabaseURL string `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"Postgres of the read models and the archive, as the owner of both. Default: the private one of ledger up in --data."`
	Data        string `env:"LEDGER_DATA" default:"./data" type:"path" help:"Data folder of ledger up, which may be running."`
}

// open connects to Postgres. The private one is started when ledger up does not run; then no ledger up can start until it is closed.
func (d database) open(ctx context.Context) (db *pgxpool.Pool, stop func(), err error) {
	if d.DatabaseURL != "" {
		db, err = pgxpool.New(ctx, d.DatabaseURL)
		if err != nil {
			return nil, nil, err
		}
		return db, db.Close, nil
	}
	dir := filepath.Join(d.Data, "postgres")
	if !exists(dir) {
		return nil, nil, hintf("Run this where ledger up runs, or name its folder with --data; else set DATABASE_URL.", "no database: there is no %s", dir)
	}
	f, err := openFolder(d.Data, nil)
	if err == nil {
		if db, err = f.database(ctx); err != nil {
			f.close()
			return nil, nil, err
		}
		return db, f.close, nil
	}
	url, err := embedded.RunningPostgresURL(dir) // ledger up has it
	if err != nil {
		return nil, nil, err
	}
	if db, err = pgxpool.New(ctx, url); err != nil {
		return nil, nil, err
	}
	return db, db.Close, nil
}
