package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/coditect-ai/license-ledger/internal/process"
)

type config struct {
	Rounds      int           `default:"3" help:"Rounds; the median counts."`
	Duration    time.Duration `default:"5s" help:"Length of one measurement."`
	Connections int           `default:"128" help:"Keep-alive connections, each with one request at a time."`
	Licenses    int           `default:"1000" help:"Licenses that the load is spread over, 20 to a tenant."`
	Dir         string        `default:"" type:"path" help:"Folder for the journal, on the disk to measure. Default: a temporary folder here."`
	Out         string        `default:"bench" type:"path" help:"Folder for results.md and results.json."`
	Serve       bool          `hidden:""`
}

func main() {
	err := run(context.Background(), os.Args[1:])
	if err != nil && !errors.Is(err, process.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	var cfg config
	if err := process.Parse(&cfg, "bench", "Measures the command side over HTTP.", args, os.Stdout); err != nil {
		return err
	}
	if cfg.Serve {
		return serveLedger(ctx, cfg.Dir)
	}
	if cfg.Dir == "" {
		dir, err := os.MkdirTemp(".", "bench-data-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		cfg.Dir = dir
	}
	results, err := measure(ctx, cfg)
	if err != nil {
		return err
	}
	return report(cfg, results)
}
