package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/demo/history"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/progress"
)

// historyFlags say how much history is to be made.
type historyFlags struct {
	History days    `placeholder:"DAYS" help:"How long a history to make up in a new ledger, ending now, such as 365d. Default: none."`
	Tenants int     `default:"200" help:"Tenants in the history."`
	Scale   float64 `default:"1" help:"People in the history: 1 is about a million leases a year, 0.1 a tenth of that."`
	Seed    uint64  `default:"1" help:"Another seed makes another history."`
}

type demoCommand struct {
	Data       string `env:"LEDGER_DATA" default:"./data" type:"path" help:"Folder of the new ledger."`
	Partitions int    `env:"LEDGER_PARTITIONS" default:"1" help:"Partitions of the new ledger, 1 to 100."`
	historyFlags
}

// Help is what ledger demo --help adds.
func (demoCommand) Help() string {
	return `Makes a new ledger with a made-up past: tenants all over the world, working days, holidays, growth, deadlines,
crashes, and a few large customers. It is for looking around, and for measuring. Then start it:

  ledger demo --history 365d
  ledger up

The read models are built while the page is already up: a year takes some minutes. What was running when the history
ends runs out within four hours. The same seed makes the same history.`
}

// Run makes the history.
func (c *demoCommand) Run(ctx context.Context, t terminal) error {
	if c.History == 0 {
		return errors.New("say how much: ledger demo --history 365d")
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return err
	}
	lock, err := embedded.Lock(c.Data)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	secret, err := identity.LoadOrCreateSecret(filepath.Join(c.Data, "ledger.secret"))
	if err != nil {
		return err
	}
	if err := c.make(ctx, c.Data, c.Partitions, secret, t.out); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "Start it with: %s up%s\n", os.Args[0], dataFlag(c.Data))
	return nil
}

// make makes a ledger in a folder, with a history. The folder is locked.
func (f historyFlags) make(ctx context.Context, data string, partitions int, secret identity.Secret, out io.Writer) error {
	dir := filepath.Join(data, "nats")
	// Nobody was told of a commit yet: so they are flushed to disk all together, at the end.
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: dir, NoSync: true})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	nc, err := server.Connect(eventstore.NATSOptions("ledger")...)
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := (&upCommand{Data: data, Partitions: partitions}).openLedger(ctx, nc)
	if err != nil {
		return err
	}
	if err := f.write(ctx, store, secret, out); err != nil {
		return err
	}
	nc.Close()
	server.Shutdown()
	return syncTree(dir)
}

// syncTree flushes all files and folders of a folder to disk.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// write makes the history in an empty ledger.
func (f historyFlags) write(ctx context.Context, store eventstore.Store, secret identity.Secret, out io.Writer) error {
	bar := progress.New(out, "making history", "days")
	began := time.Now()
	summary, err := history.Write(ctx, store, history.Options{
		Tenants: f.Tenants, Scale: f.Scale, Days: int(f.History), Seed: f.Seed, End: time.Now(), Keys: identity.NewLicenseKeys(secret),
		Progress: func(done, days int) { bar.Set(uint64(done), uint64(days)) },
	})
	bar.End()
	if errors.Is(err, eventstore.ErrNotEmpty) {
		return fmt.Errorf("%w: a history can only be the beginning of a ledger. ledger up goes on with the one that is there; for a history name another --data folder", err)
	}
	if err != nil {
		return fmt.Errorf("make history: %w", err)
	}
	fmt.Fprintf(out, "%d days of %d tenants with %d licenses: %d events (%.0f/s), %d acquires, %d denials.\n", f.History, summary.Tenants,
		summary.Licenses, summary.Events, float64(summary.Events)/time.Since(began).Seconds(), summary.Acquires, summary.Denials)
	return nil
}

// dataFlag is the flag that names a folder other than the default.
func dataFlag(data string) string {
	if standard, err := filepath.Abs("data"); err == nil && data == standard {
		return ""
	}
	return " --data " + data
}

// days is a number of days, as text "365d".
type days int

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *days) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(strings.TrimSuffix(string(text), "d"))
	if err != nil || n < 1 || n > 3660 {
		return fmt.Errorf("must be a number of days, such as 365d, up to 3660d, not %q", text)
	}
	*d = days(n)
	return nil
}
