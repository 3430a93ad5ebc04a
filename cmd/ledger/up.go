package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/commandapi"
	"github.com/coditect-ai/license-ledger/internal/demo"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/process"
	"github.com/coditect-ai/license-ledger/internal/progress"
	"github.com/coditect-ai/license-ledger/internal/queryapi"
	"github.com/coditect-ai/license-ledger/projections"
)

type upCommand struct {
	Addr          string `env:"LEDGER_ADDR" default:"127.0.0.1:8080" help:"Address of the page and the API."`
	Data          string `env:"LEDGER_DATA" default:"./data" type:"path" help:"Folder for all data; made on first use."`
	Demo          bool   `env:"LEDGER_DEMO" help:"Make a tenant with two licenses and simulated programs that acquire, heartbeat, release, crash and are denied."`
	historyFlags  `group:"A made-up past (for --demo)"`
	NATSAddr      string     `name:"nats-addr" env:"LEDGER_NATS_ADDR" help:"Also let other programs reach the journal on this address, without any password: for looking at it with the nats command line. Default: no port."`
	Partitions    int        `env:"LEDGER_PARTITIONS" default:"1" help:"Partitions of a new ledger, 1 to 100; an existing one keeps its own."`
	SnapshotEvery int64      `env:"LEDGER_SNAPSHOT_EVERY" default:"33554432" help:"How much is added to the journal between two snapshots, in bytes."`
	LeaseMin      int        `name:"lease-seconds-min" hidden:"" env:"LEDGER_LEASE_SECONDS_MIN" default:"30"` // for tests
	LogLevel      slog.Level `env:"LOG_LEVEL" default:"INFO" help:"DEBUG logs every request."`

	process.RateLimits `group:"Rate limits"`
}

// Help is what ledger up --help adds.
func (upCommand) Help() string {
	return `Everything runs in this one process: the journal (a nats-server without a port), a private Postgres (without a
port) and the three services. Nothing needs to be configured. All data is in one folder:

  operator.key     the operator's bearer key, for the page and for management calls
  ledger.secret    the secret from which license keys are made: keep it with the backups of the journal
  nats/            the journal. This is the ledger: never delete it
  postgres/        the read models. Delete it while the ledger is down, and it is rebuilt from the journal
  snapshots/       what the writers hold in memory, so that a start is quick. Delete it while the ledger is down, and
                   the next start reads the whole journal

Ctrl-C answers the requests that run and stops; a second Ctrl-C stops at once. Either way nothing that was
acknowledged is lost.`
}

// Run starts everything, serves until ctx ends, and stops it in reverse.
func (c *upCommand) Run(ctx context.Context, t terminal) (err error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return err
	}
	lock, err := embedded.Lock(c.Data)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	frame := process.NewFrame(c.LogLevel, t.logs)
	listener, err := frame.Listen(c.Addr)
	if err != nil {
		return err
	}
	defer frame.Close()
	secret, err := identity.LoadOrCreateSecret(filepath.Join(c.Data, "ledger.secret"))
	if err != nil {
		return err
	}
	operator, operatorText, err := identity.LoadOrCreateOperatorKey(c.operatorKeyFile())
	if err != nil {
		return err
	}
	frame.Limit(c.RateLimits, secret, operator)

	if c.History > 0 {
		if err := c.historyFlags.make(ctx, c.Data, c.Partitions, secret, t.out); err != nil {
			return fmt.Errorf("nothing was started: %w", err)
		}
	}
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: filepath.Join(c.Data, "nats"), Listen: c.NATSAddr, Log: frame.Log})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	nc, err := server.Connect(eventstore.NATSOptions("ledger")...)
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := c.openLedger(ctx, nc)
	if err != nil {
		return fmt.Errorf("nothing was started, and nothing written: %w", err)
	}

	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	postgres, err := embedded.StartPostgres(starting, embedded.PostgresOptions{Dir: filepath.Join(c.Data, "postgres"), Log: frame.Log})
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		err = errors.Join(err, postgres.Stop(stopping))
	}()
	database := process.Postgres{DatabaseURL: postgres.URL()}
	if err := frame.Migrate(starting, database); err != nil {
		return err
	}
	rows, err := database.Connect(ctx, projections.ProjectorRole)
	if err != nil {
		return err
	}
	defer rows.Close()
	db, err := database.Connect(ctx, projections.QueryRole)
	if err != nil {
		return err
	}
	defer db.Close()

	writers, err := eventstore.NewWriters(eventstore.WritersConfig{
		Store: store, Log: frame.Log, Registerer: frame.Registry,
		Alone:     true, // the lock on the data folder sees to it
		Snapshots: filepath.Join(c.Data, "snapshots"), SnapshotEvery: c.SnapshotEvery, Tracer: frame.Tracer,
	})
	if err != nil {
		return err
	}
	runner := projections.NewRunner(projections.Options{
		DB: rows, Store: store, Publish: projections.NATSPublisher(nc), Log: frame.Log, Registerer: frame.Registry,
	})
	if err := runner.CheckJournal(starting); err != nil {
		return fmt.Errorf("nothing was started, and nothing written: %w", err)
	}
	frame.Health.Require("writers", writers.Ready)
	frame.Health.Require("projections", func(context.Context) error { return runner.Ready() })
	frame.Health.Require("postgres", db.Ping)
	commands := commandapi.New(writers, secret, operator, frame.Registry)
	commands.LeaseSecondsMin = c.LeaseMin
	commands.Routes(frame.Router)
	queryapi.New(queryapi.Options{
		DB: db, Ledger: store.Info(), Journal: store.Journal, Tokens: eventstore.NewTokens(secret), Keys: identity.NewTenantKeys(secret), Operator: operator, Seal: identity.NewSeal(secret), NATS: nc, Log: frame.Log, Registerer: frame.Registry,
	}).Routes(frame.Router)
	api.Routes(frame.Router)
	frame.Page()

	// Requests end first, then the writers and the projector, then what they stand on.
	working, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	g, serving := errgroup.WithContext(ctx)
	g.Go(func() error { return writers.Run(working) })
	g.Go(func() error { return commands.CarryTransfers(working, frame.Log) })
	g.Go(func() error { return commands.TakeLooks(working, nc, frame.Log) })
	g.Go(func() error { return runner.Run(working) })
	g.Go(func() error { return projections.NewArchiver(rows, store, frame.Log, frame.Registry).Run(working) })
	g.Go(func() error {
		defer finish()
		return frame.Serve(serving)
	})
	g.Go(func() error {
		select {
		case <-postgres.Done():
			return postgres.Err()
		case <-working.Done():
			return nil
		}
	})
	if c.Demo {
		g.Go(func() error {
			return demo.Run(serving, demo.Options{URL: c.url(listener), Operator: operatorText, KeysFile: filepath.Join(c.Data, "demo.json"), Log: frame.Log})
		})
	}
	c.greet(t.out, listener, operatorText)
	err = g.Wait()
	if err == nil {
		fmt.Fprintln(t.out, "\nStopped. Everything acknowledged is in the journal.")
	}
	return err
}

// openLedger opens the ledger of the folder, or makes one in a folder that has never held one.
func (c *upCommand) openLedger(ctx context.Context, nc *nats.Conn) (*eventstore.NATSStore, error) {
	store, err := eventstore.JoinNATS(ctx, nc)
	if !errors.Is(err, eventstore.ErrNoLedger) {
		return store, err
	}
	// The journal comes first: what is made after it shows that there was one.
	for _, later := range []string{"postgres", "snapshots"} {
		if _, statErr := os.Stat(filepath.Join(c.Data, later)); !errors.Is(statErr, fs.ErrNotExist) {
			return nil, errors.Join(statErr, fmt.Errorf("%w any more: %s has what was derived from a journal, but the journal itself is missing from %s. "+
				"Put that folder back from a backup, or bring the journal back from the archive with ledger restore, see deploy/runbooks/journal-lost.md; to begin anew, use another --data folder",
				err, filepath.Join(c.Data, later), filepath.Join(c.Data, "nats")))
		}
	}
	return eventstore.CreateNATS(ctx, nc, c.Partitions, 1)
}

func (c *upCommand) operatorKeyFile() string { return filepath.Join(c.Data, "operator.key") }

// url is where a browser on this machine finds the page.
func (c *upCommand) url(listener net.Listener) string {
	addr := listener.Addr().(*net.TCPAddr)
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// greet says what a newcomer does next. The key itself is shown on a terminal only: elsewhere it would end in a log.
func (c *upCommand) greet(out io.Writer, listener net.Listener, operator string) {
	page := c.url(listener) + "/"
	if progress.IsTerminal(out) {
		page += "#key=" + operator
	}
	keyFile := c.operatorKeyFile()
	if cwd, err := os.Getwd(); err == nil {
		if relative, err := filepath.Rel(cwd, keyFile); err == nil && len(relative) < len(keyFile) {
			keyFile = relative
		}
	}
	server, data := "", "" // flags that the other commands need, where theirs have other defaults
	if url := c.url(listener); url != "http://127.0.0.1:8080" {
		server = " --server " + url
	}
	if folder := filepath.Dir(keyFile); folder != "data" {
		data = " --data " + folder
	}
	fmt.Fprintf(out, `
The ledger is up.

  Page          %[1]s
  Operator key  %[2]s
  API           %[3]s/api/openapi.yaml

In a second terminal: a tenant, a license, and a program with a seat:

  %[4]s tenant create acme "Acme Corp"%[5]s
  %[4]s license issue acme cad --seats 5%[5]s
  %[4]s run --license-key lk_…%[6]s -- PROGRAM

Ctrl-C stops.

`, page, keyFile, c.url(listener), os.Args[0], server+data, server)
}
