package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/process"
)

// stores is where the services of a ledger keep what they know.
type stores struct {
	NATSURL         string `name:"nats-url" env:"NATS_URL" placeholder:"URL" help:"Read the journal itself, from this nats-server. Default: what --server answers; and when nothing does, the journal in the --data folder of a ledger up that is down."`
	NATSCredentials string `name:"nats-credentials" env:"NATS_CREDENTIALS" type:"path" placeholder:"FILE" help:"Credentials file (.creds) for it."`
	DatabaseURL     string `env:"DATABASE_URL" placeholder:"URL" help:"With --nats-url: the Postgres of the ledger, whose archive finds a tenant's events quickly; the journal vouches for them. Without it every commit of the tenant's partition is read."`
}

// connect returns a connection to the nats-server, which has to be there now.
func (s stores) connect(log *slog.Logger) (*nats.Conn, error) {
	nc, err := process.NATS{URL: s.NATSURL, Credentials: s.NATSCredentials}.Connect("ledger", log, nats.RetryOnFailedConnect(false))
	if err != nil {
		return nil, hintf("Is it the address of the journal's nats-server?", "connect to %s: %w", s.NATSURL, err)
	}
	return nc, nil
}

// both connects to the journal and the database that the flags name; when they name none, it starts those in the folder dir.
func (s stores) both(ctx context.Context, dir string, log *slog.Logger) (nc *nats.Conn, db *pgxpool.Pool, done func(), err error) {
	if s.NATSURL == "" {
		f, err := openFolder(dir, log)
		if err != nil {
			return nil, nil, nil, err
		}
		if nc, err = f.journal(); err == nil {
			db, err = f.database(ctx)
		}
		if err != nil {
			f.close()
			return nil, nil, nil, err
		}
		return nc, db, f.close, nil
	}
	if nc, err = s.connect(log); err != nil {
		return nil, nil, nil, err
	}
	if db, err = pgxpool.New(ctx, s.DatabaseURL); err != nil {
		nc.Close()
		return nil, nil, nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	return nc, db, func() { db.Close(); nc.Close() }, nil
}

// openJournal opens the ledger of a nats-server that has to be there now.
func openJournal(ctx context.Context, nc *nats.Conn) (*eventstore.NATSStore, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return eventstore.OpenNATS(ctx, nc)
}
