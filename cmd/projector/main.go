// Command projector keeps the read models and the archive of the ledger: it reads the journal and writes rows. It is configured by its
// environment; --help lists it.
package main

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/process"
	"github.com/coditect-ai/license-ledger/projections"
)

type config struct {
	process.Service
	process.NATS
	process.Postgres
	BatchMax int      `env:"PROJECTOR_BATCH_MAX" default:"20000" help:"How many events one transaction applies at most. More catches up faster and takes more memory."`
	Park     []string `env:"PROJECTOR_PARK" help:"Read models, with commas between them, that are set aside by a commit that they cannot apply, while the others go on. Default: none; such a commit stops the projector."`
}

func main() { process.Main("projector", run) }

func run(ctx context.Context, args []string, logs io.Writer) error {
	var cfg config
	if err := process.Parse(&cfg, "projector", "Reads the journal, writes the read models.", args, logs); err != nil {
		return err
	}
	if err := projections.CheckNames(cfg.Park); err != nil {
		return fmt.Errorf("PROJECTOR_PARK: %w", err)
	}
	frame := cfg.Start(logs)
	if _, err := frame.Listen(cfg.Addr); err != nil {
		return err
	}
	defer frame.Close()
	nc, err := cfg.NATS.Connect("projector", frame.Log)
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
	db, err := cfg.Postgres.Connect(ctx, projections.ProjectorRole)
	if err != nil {
		return err
	}
	defer db.Close()
	runner := projections.NewRunner(projections.Options{
		DB: db, Store: store, BatchMax: cfg.BatchMax, Park: cfg.Park, Publish: projections.NATSPublisher(nc), Log: frame.Log, Registerer: frame.Registry,
	})
	frame.Health.Require("projections", func(context.Context) error { return runner.Ready() })

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return runner.Run(ctx) })
	g.Go(func() error { return projections.NewArchiver(db, store, frame.Log, frame.Registry).Run(ctx) })
	g.Go(func() error { return frame.Serve(ctx) })
	return g.Wait()
}
