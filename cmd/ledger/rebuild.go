package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/progress"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

type rebuildCommand struct {
	database
	NATSURL         string   `name:"nats-url" env:"NATS_URL" placeholder:"URL" help:"Build from the journal on this nats-server. Default: from the archive, which is a moment behind it."`
	NATSCredentials string   `name:"nats-credentials" env:"NATS_CREDENTIALS" placeholder:"FILE" help:"Credentials file (.creds) for it."`
	Projection      []string `placeholder:"NAME" help:"Only these read models, with commas between them, and those that they count on. Default: all."`
	Accept          bool     `name:"accept-differences" help:"Flip although rows differ from those of the running version: because that one is wrong."`
	NoCompare       bool     `help:"Build up to the end of the journal and flip, wherever the running version stands: after commits were lost, and that is accepted."`
	Rollback        bool     `help:"Flip back to the version before, after it has caught up."`
	DropOld         bool     `help:"Drop the version before; there is no way back then."`
	output
}

// Help is what ledger rebuild --help adds.
func (rebuildCommand) Help() string {
	return `Read models are made from the journal, so they can be made again: after a mended bug, after rows were changed by hand, after
Postgres was lost. This makes a new version next to the running one, while commands and queries go on:

  1. builds its tables up to where the running version stands, indexes last
  2. compares both, table by table, at the same position; rows that differ are shown
  3. flips to the new one in one transaction, if nothing differs (or with --accept-differences)

The old version is kept until the next rebuild: ledger rebuild --rollback flips back to it. A rebuild that is killed leaves
nothing that anybody sees; the next one begins anew.

  ledger rebuild                           all read models
  ledger rebuild --projection usage        one of them
  ledger rebuild --rollback                back to the version before

Exit code 1 when rows differ and nothing was flipped.`
}

// Run rebuilds.
func (c rebuildCommand) Run(ctx context.Context, t terminal) error {
	db, stop, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if c.DropOld {
		if err := projections.DropOld(ctx, db); err != nil {
			return err
		}
		fmt.Fprintln(t.out, "Only the running version is left.")
		return nil
	}
	if err := projections.Migrate(ctx, db); err != nil {
		return err
	}
	var store eventstore.Store
	if c.NATSURL != "" {
		nc, err := stores{NATSURL: c.NATSURL, NATSCredentials: c.NATSCredentials}.connect(serve.NewLogger(t.logs, slog.LevelWarn))
		if err != nil {
			return err
		}
		defer nc.Close()
		if store, err = openJournal(ctx, nc); err != nil {
			return err
		}
	} else if store, err = projections.OpenArchive(ctx, db); err != nil {
		return err
	}
	bars := steps{t: t}
	o := projections.RebuildOptions{
		DB: db, Store: store, AcceptDifferences: c.Accept, NoCompare: c.NoCompare, Log: serve.NewLogger(t.logs, slog.LevelWarn), Progress: bars.set,
	}
	if len(c.Projection) > 0 {
		o.Projections = c.Projection
	}
	rebuild := projections.Rebuild
	if c.Rollback {
		rebuild = projections.Rollback
	}
	done, err := rebuild(ctx, o)
	bars.end()
	switch {
	case errors.Is(err, projections.ErrNoProjection):
		return hinted{err, "See which there are with: ledger projection list"}
	case errors.Is(err, projections.ErrNoOldVersion):
		return hinted{err, "It is kept from one rebuild to the next, and until --drop-old."}
	case err != nil && !errors.Is(err, projections.ErrRowsDiffer):
		return err
	}
	if printErr := c.show(t, done); printErr != nil {
		return printErr
	}
	if err != nil {
		return hinted{err, "Nothing was flipped. If the running version is the one that is wrong: ledger rebuild --accept-differences"}
	}
	if !c.JSON {
		fmt.Fprintf(t.out, "\nVersion %d serves now, at commit %d; version %d is kept: ledger rebuild --rollback flips back.\n", done.Version, done.Commits, done.Was)
	}
	return nil
}

func (c rebuildCommand) show(t terminal, done projections.Rebuilt) error {
	if c.JSON {
		return c.print(t, done)
	}
	if len(done.Tables) == 0 {
		return nil // compared with nothing
	}
	rows := [][]string{{"TABLE", "RUNNING", "MADE", "ROWS"}}
	for _, table := range done.Tables {
		same := "the same"
		if table.Differ {
			same = "DIFFER"
		}
		rows = append(rows, []string{table.Name, strconv.FormatInt(table.Running, 10), strconv.FormatInt(table.Made, 10), same})
	}
	if err := c.print(t, done, rows...); err != nil {
		return err
	}
	for _, table := range done.Tables {
		for _, only := range []struct {
			sign string
			rows []string
		}{{"-", table.OnlyRunning}, {"+", table.OnlyMade}} {
			for _, row := range only.rows {
				fmt.Fprintf(t.out, "%s %s %s\n", only.sign, table.Name, printable(strings.TrimSpace(row)))
			}
		}
	}
	return nil
}

// steps shows one bar after the other.
type steps struct {
	t    terminal
	step string
	bar  *progress.Bar
}

func (s *steps) set(step string, done, total uint64) {
	if step != s.step {
		s.end()
		unit := "commits"
		if step != "building" {
			unit = "tables"
		}
		s.step, s.bar = step, progress.New(s.t.logs, step, unit)
	}
	s.bar.Set(done, total)
}

func (s *steps) end() {
	if s.bar != nil {
		s.bar.End()
	}
}
