package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

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
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, hintf("Run this where ledger up runs, or name its folder with --data; else set DATABASE_URL.", "no database: there is no %s", dir)
	}
	lock, err := embedded.Lock(d.Data)
	if err != nil { // ledger up has it
		url, err := embedded.RunningPostgresURL(dir)
		if err != nil {
			return nil, nil, err
		}
		db, err = pgxpool.New(ctx, url)
		if err != nil {
			return nil, nil, err
		}
		return db, db.Close, nil
	}
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: dir})
	if err != nil {
		return nil, nil, errors.Join(err, lock.Unlock())
	}
	stopServer := func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		_, _ = postgres.Stop(stopping), lock.Unlock()
	}
	if db, err = pgxpool.New(ctx, postgres.URL()); err != nil {
		stopServer()
		return nil, nil, err
	}
	return db, func() { db.Close(); stopServer() }, nil
}
