// Command querysvc answers the queries of the ledger from its read models, and streams live changes. It is configured by
// its environment; --help lists it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/process"
	"github.com/coditect-ai/license-ledger/internal/queryapi"
	"github.com/coditect-ai/license-ledger/projections"
)

type config struct {
	process.Service
	process.NATS
	process.Postgres
	process.Keys
}

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdout)
	if err != nil && !errors.Is(err, process.ErrHelp) {
		fmt.Fprintln(os.Stderr, "querysvc:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, logs io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cfg config
	if err := process.Parse(&cfg, "querysvc", "Answers queries from the read models and streams live changes.", args, logs); err != nil {
		return err
	}
	secret, operator, err := cfg.Keys.Load()
	if err != nil {
		return err
	}
	frame := cfg.Start(logs)
	listener, err := process.Listen(cfg.Addr)
	if err != nil {
		return err
	}
	db, err := cfg.Postgres.Connect(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	nc, err := cfg.NATS.Connect("querysvc", frame.Log)
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := process.AwaitLedger(ctx, frame.Log, func(ctx context.Context) (*eventstore.NATSStore, error) {
		return eventstore.OpenNATS(ctx, nc)
	})
	if err != nil {
		return err
	}
	if err := projections.Migrate(ctx, db); err != nil {
		return err
	}
	frame.Health.Require("postgres", db.Ping)
	queryapi.New(queryapi.Options{
		DB: db, Ledger: store.Info(), Tokens: eventstore.NewTokens(secret), Operator: operator, NATS: nc, Log: frame.Log, Registerer: frame.Registry,
	}).Routes(frame.Router)
	api.Routes(frame.Router)
	frame.Page()
	return frame.Serve(ctx, listener)
}
