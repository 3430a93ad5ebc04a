package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/embedded"
)

// folder is the data folder of a ledger up that is down. Until close it belongs to this process, and no ledger up can start.
type folder struct {
	dir     string
	log     *slog.Logger // nil means none
	closers []func()
}

// openFolder takes a folder. It is an error when another process has it.
func openFolder(dir string, log *slog.Logger) (*folder, error) {
	lock, err := embedded.Lock(dir)
	if err != nil {
		return nil, err
	}
	return &folder{dir, log, []func(){func() { _ = lock.Unlock() }}}, nil
}

// journal starts the nats-server and connects to it.
func (f *folder) journal() (*nats.Conn, error) {
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: filepath.Join(f.dir, "nats"), Log: f.log})
	if err != nil {
		return nil, err
	}
	f.closers = append(f.closers, server.Shutdown)
	nc, err := server.Connect(eventstore.NATSOptions("ledger")...)
	if err != nil {
		return nil, err
	}
	f.closers = append(f.closers, nc.Close)
	return nc, nil
}

// database starts Postgres and connects to it.
func (f *folder) database(ctx context.Context) (*pgxpool.Pool, error) {
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(f.dir, "postgres"), Log: f.log})
	if err != nil {
		return nil, err
	}
	f.closers = append(f.closers, func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		if err := postgres.Stop(stopping); err != nil {
			fmt.Fprintln(os.Stderr, "ledger: stop Postgres:", err)
		}
	})
	db, err := pgxpool.New(ctx, postgres.URL())
	if err != nil {
		return nil, err
	}
	f.closers = append(f.closers, db.Close)
	return db, nil
}

// close stops what was started, the last first, and gives the folder back.
func (f *folder) close() {
	for i := len(f.closers) - 1; i >= 0; i-- {
		f.closers[i]()
	}
}

// exists reports whether there is such a file or folder, be it one that may not be read.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
