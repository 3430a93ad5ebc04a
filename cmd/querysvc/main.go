// Command querysvc answers the queries of the ledger from its read models, and streams live changes. It is configured by
// its environment; --help lists it.
package main

import (
	"context"
	"io"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/process"
	"github.com/coditect-ai/license-ledger/internal/queryapi"
	"github.com/coditect-ai/license-ledger/projections"
)

type config struct {
	process.Service
	process.NATS
	process.Postgres
	process.Keys
	process.RateLimits
}

func main() { process.Main("querysvc", run) }

func run(ctx context.Context, args []string, logs io.Writer) error {
	var cfg config
	if err := process.Parse(&cfg, "querysvc", "Answers queries from the read models and streams live changes.", args, logs); err != nil {
		return err
	}
	secret, operator, err := cfg.Keys.Load()
	if err != nil {
		return err
	}
	frame := cfg.Start(logs)
	frame.Limit(cfg.RateLimits, secret, operator)
	if _, err := frame.Listen(cfg.Addr); err != nil {
		return err
	}
	defer frame.Close()
	nc, err := cfg.NATS.Connect("querysvc", frame.Log)
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := frame.AwaitLedger(ctx, func(ctx context.Context) (*eventstore.NATSStore, error) {
		return eventstore.OpenNATS(ctx, nc)
	})
	if err != nil {
		return err
	}
	if err := frame.Migrate(ctx, cfg.Postgres); err != nil {
		return err
	}
	db, err := cfg.Postgres.Connect(ctx, projections.QueryRole)
	if err != nil {
		return err
	}
	defer db.Close()
	frame.Health.Require("postgres", db.Ping)
	queryapi.New(queryapi.Options{
		DB: db, Ledger: store.Info(), Journal: store.Journal, Tokens: eventstore.NewTokens(secret), Keys: identity.NewTenantKeys(secret), Operator: operator, Seal: identity.NewSeal(secret), NATS: nc, Log: frame.Log, Registerer: frame.Registry,
	}).Routes(frame.Router)
	api.Routes(frame.Router)
	frame.Page()
	return frame.Serve(ctx)
}
