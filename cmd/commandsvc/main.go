// Command commandsvc takes the commands of the ledger: it decides them, stores their events and answers. It is configured
// by its environment; --help lists it.
package main

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/commandapi"
	"github.com/coditect-ai/license-ledger/internal/process"
)

type config struct {
	process.Service
	process.NATS
	process.Keys
	process.RateLimits
	process.Witness
	Create        bool   `env:"LEDGER_CREATE" default:"false" help:"Make a new ledger when there is none, and the read models know of none. Without DATABASE_URL it is for the first start only: a journal that has vanished would be replaced by an empty one instead of missed."`
	Partitions    int    `env:"LEDGER_PARTITIONS" default:"8" help:"Partitions of a new ledger, 1 to 100; an existing one keeps its own."`
	Snapshots     string `env:"LEDGER_SNAPSHOTS" type:"path" help:"Folder for snapshots, of this process alone, with which a start is quick; it may be lost. Default: none, every start reads the whole journal."`
	SnapshotEvery int64  `env:"LEDGER_SNAPSHOT_EVERY" default:"33554432" help:"How much is added to a partition's journal between two snapshots, in bytes."`
	LeaseMin      int    `env:"LEDGER_LEASE_SECONDS_MIN" default:"30" help:"For tests: the shortest lease that a license can be given, in seconds. Programs on a network cannot keep a shorter one."`
	Replicas      int    `env:"LEDGER_REPLICAS" default:"1" help:"Copies of each stream of a new ledger: 1, or 3 in a cluster."`
}

func main() { process.Main("commandsvc", run) }

func run(ctx context.Context, args []string, logs io.Writer) error {
	var cfg config
	if err := process.Parse(&cfg, "commandsvc", "Takes commands, stores events, answers.", args, logs); err != nil {
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
	nc, err := cfg.NATS.Connect("commandsvc", frame.Log)
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := cfg.Witness.AwaitLedger(ctx, frame, func(ctx context.Context, known bool) (*eventstore.NATSStore, error) {
		if cfg.Create && !known {
			return eventstore.CreateNATS(ctx, nc, cfg.Partitions, cfg.Replicas)
		}
		return eventstore.JoinNATS(ctx, nc)
	})
	if err != nil {
		return err
	}
	writers, err := eventstore.NewWriters(eventstore.WritersConfig{
		Store: store, Log: frame.Log, Registerer: frame.Registry, Snapshots: cfg.Snapshots, SnapshotEvery: cfg.SnapshotEvery, Tracer: frame.Tracer,
	})
	if err != nil {
		return err
	}
	frame.Health.Require("writers", writers.Ready)
	commands := commandapi.New(writers, secret, operator, frame.Registry)
	commands.LeaseSecondsMin = cfg.LeaseMin
	peers := commands.Connect(nc, writers.Process(), frame.Log, frame.Registry)
	commands.Routes(frame.Router)

	// The writers go on until the last request is answered, and give their partitions up; requests of other processes are
	// refused from then on, so that they wait for the next owner.
	working, finish := context.WithCancel(context.WithoutCancel(ctx))
	g, ctx := errgroup.WithContext(ctx)
	gone := make(chan struct{})
	g.Go(func() error { return peers.Run(working, gone) })
	g.Go(func() error { return commands.CarryTransfers(working, frame.Log) })
	g.Go(func() error { return commands.TakeLooks(working, nc, frame.Log) })
	g.Go(func() error {
		defer close(gone)
		return writers.Run(working)
	})
	g.Go(func() error {
		defer finish()
		return frame.Serve(ctx)
	})
	return g.Wait()
}
