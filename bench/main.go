package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coditect-ai/license-ledger/internal/process"
)

type config struct {
	Rounds      int           `default:"3" help:"Rounds; the median counts."`
	Duration    time.Duration `default:"4s" help:"Length of one measurement."`
	Connections int           `default:"128" help:"Keep-alive connections, each with one request at a time."`
	Scale       float64       `default:"1" help:"Scales licenses, tenants, leases and histories; less for a quick look. 10 projects and rebuilds five million events: see make bench."`
	Dir         string        `default:"" type:"path" help:"Folder for journals, on the disk to measure. Default: a temporary folder here."`
	Out         string        `default:"bench" type:"path" help:"Folder for results.md and results.json."`
	Only        string        `help:"Measure only rows whose name contains this, and write no results."`
	Profile     string        `type:"path" help:"Folder for a CPU profile of the server in the first round of each row."`
	Against     string        `type:"existingfile" help:"Another build of this benchmark, of before a change: the ledger rows are measured on its servers and on these in turns, and nothing else is. Writes no results."`

	Serve string `hidden:"" help:"Be a server: ledger, or redis with the socket of a Redis."`
	serverConfig
}

func main() {
	err := run(context.Background(), os.Args[1:])
	if err != nil && !errors.Is(err, process.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cfg config
	if err := process.Parse(&cfg, "bench", "Measures the command side over HTTP.", args, os.Stdout); err != nil {
		return err
	}
	switch cfg.Serve {
	case "ledger":
		return serveLedger(ctx, cfg.Dir, cfg.serverConfig)
	case "redis":
		return serveRedis(ctx, cfg.Dir, cfg.serverConfig)
	}
	if cfg.Dir == "" {
		dir, err := os.MkdirTemp(".", "bench-data-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if cfg.Dir, err = filepath.Abs(dir); err != nil {
			return err
		}
	}
	r, err := measure(ctx, cfg)
	if err != nil {
		return err
	}
	if cfg.Only != "" || cfg.Against != "" {
		return nil
	}
	return r.write(cfg)
}
