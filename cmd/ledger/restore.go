package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

type restoreCommand struct {
	NATSURL         string `name:"nats-url" env:"NATS_URL" placeholder:"URL" help:"nats-server to restore the journal to. Default: the one of ledger up in --data."`
	NATSCredentials string `name:"nats-credentials" env:"NATS_CREDENTIALS" placeholder:"FILE" help:"Credentials file (.creds) for it."`
	DatabaseURL     string `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"Postgres with the archive, as its owner. Needed with --nats-url."`
	Data            string `env:"LEDGER_DATA" default:"./data" type:"path" help:"Data folder of ledger up, which must be down."`
	Replicas        int    `env:"LEDGER_REPLICAS" default:"1" help:"Replicas of streams that have to be made again: 1, or 3 in a cluster."`
	AcceptLoss      bool   `help:"Go on from where the journal ends then, although more is known to have been acknowledged: owners forget it, the read models are rebuilt."`
	output
}

// Help is what ledger restore --help adds.
func (restoreCommand) Help() string {
	return `The archive in Postgres is a second copy of the journal, a moment behind it. When the journal was lost, or one stream of it, or its
newest commits (an older copy was put back), this brings back what the archive has: the same commits with the same ids, hashes and
positions, and the names. What the journal still has is checked and never changed. It may be killed, and called again.

First stop every commandsvc, or ledger up. Take what is left of the damaged files away: the folder nats in the data folder, or
the stream. Then:

  ledger restore                      for ledger up, in the folder where it runs
  ledger restore --nats-url nats://nats:4222 --database-url postgres://…

What was acknowledged after the archive's last commit is lost. It is known how much that is if the owner's record, or the read
models, saw it; both are asked, and what they know is printed. Nothing is guessed. While something is known to be lost the
services refuse to start, and this exits with code 1; --accept-loss goes on from where the journal ends now.`
}

// lostIn is what is known to be lost of a partition.
type lostIn struct {
	eventstore.RestoredPartition
	KnownToReadModels uint64
	Lost              uint64
	Events            []projections.LostEvent `json:",omitempty"`
}

// Run restores a journal.
func (c restoreCommand) Run(ctx context.Context, t terminal) error {
	log := serve.NewLogger(t.logs, slog.LevelWarn)
	nc, db, stop, err := c.open(ctx, log)
	if err != nil {
		return err
	}
	defer stop()
	if err := projections.Migrate(ctx, db); err != nil {
		return err
	}
	archive, err := projections.OpenArchive(ctx, db)
	if err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	journal, err := eventstore.RestoreNATS(opening, nc, archive.Info(), c.Replicas)
	if err != nil {
		return explainRestore(err)
	}
	bars := steps{t: t}
	restored, err := eventstore.Restore(ctx, archive, journal, func(done, total uint64) { bars.set("restoring", done, total) })
	bars.end()
	if err != nil {
		return explainRestore(err)
	}
	all := []lostIn{}
	var lost uint64
	for _, r := range restored {
		l := lostIn{RestoredPartition: r}
		if l.KnownToReadModels, l.Events, err = projections.KnownBeyond(ctx, db, archive.Info().ID, r.Partition, r.Commits); err != nil {
			return err
		}
		if known := max(r.Known.Seq, l.KnownToReadModels); known > r.Commits {
			l.Lost = known - r.Commits
		}
		lost += l.Lost
		all = append(all, l)
	}
	if err := c.show(t, all); err != nil {
		return err
	}
	switch {
	case lost > 0 && !c.AcceptLoss:
		return hintf("If there is no better copy: ledger restore --accept-loss goes on from here. See deploy/runbooks/journal-lost.md.",
			"%d commits are known to be lost: the journal was restored as far as the archive goes", lost)
	case lost > 0:
		return c.acceptLoss(ctx, t, log, db, journal)
	}
	if !c.JSON {
		fmt.Fprintln(t.out, "\nBoth chains hold, and nothing is known to be lost. Start the ledger.")
	}
	return nil
}

func explainRestore(err error) error {
	switch {
	case errors.Is(err, eventstore.ErrConflict):
		return hinted{err, "Something appends to the journal: stop every commandsvc, then call this again."}
	case errors.Is(err, eventstore.ErrDiverged):
		return hinted{err, "Nothing was changed there. See deploy/runbooks/journal-lost.md."}
	}
	return err
}

func (c restoreCommand) show(t terminal, all []lostIn) error {
	rows := [][]string{{"PARTITION", "HAD", "NOW", "UNTIL", "NAMES", "KNOWN TO OWNER", "TO READ MODELS", "LOST"}}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	for _, l := range all {
		until := "-"
		if !l.Time.IsZero() {
			until = when(l.Time)
		}
		rows = append(rows, []string{number(uint64(l.Partition)), number(l.Had), number(l.Commits), until, number(l.Names), number(l.Known.Seq), number(l.KnownToReadModels), number(l.Lost)})
	}
	if err := c.print(t, all, rows...); err != nil || c.JSON {
		return err
	}
	for _, l := range all {
		if l.Lost == 0 {
			continue
		}
		fmt.Fprintf(t.out, "\nPartition %d: commits %d to %d were stored and are lost.", l.Partition, l.Commits+1, l.Commits+l.Lost)
		if l.KnownToReadModels > l.Commits {
			fmt.Fprintf(t.out, " Of those up to %d the read models know these events, and perhaps heartbeats:\n", l.KnownToReadModels)
			lines := [][]string{{"COMMIT", "TENANT", "VERSION", "TYPE", "TIME"}}
			for _, e := range l.Events {
				lines = append(lines, []string{number(e.Seq), string(e.Tenant), number(e.Version), e.Type, when(e.Time)})
			}
			if err := table(t.out, lines...); err != nil {
				return err
			}
		} else {
			fmt.Fprintln(t.out, " What was in them nobody knows.")
		}
	}
	return nil
}

// acceptLoss lets owners and read models forget what is lost.
func (c restoreCommand) acceptLoss(ctx context.Context, t terminal, log *slog.Logger, db *pgxpool.Pool, journal eventstore.Store) error {
	if err := journal.Info().All(func(p eventstore.Partition) error { return eventstore.AcceptLoss(ctx, journal, p) }); err != nil {
		return err
	}
	bars := steps{t: t}
	done, err := projections.Rebuild(ctx, projections.RebuildOptions{DB: db, Store: journal, NoCompare: true, Log: log, Progress: bars.set})
	bars.end()
	if err != nil {
		return fmt.Errorf("rebuild the read models: %w", err)
	}
	if c.NATSURL == "" {
		// They saw what is lost, and would refuse the journal.
		if err := os.RemoveAll(filepath.Join(c.Data, "snapshots")); err != nil {
			return err
		}
	}
	if !c.JSON {
		fmt.Fprintf(t.out, "\nThe loss is accepted: version %d of the read models was made of the journal as it is now; what they had before is kept in the schema read_v%d.\n", done.Version, done.Was)
		if c.NATSURL != "" {
			fmt.Fprintln(t.out, "Delete the files in LEDGER_SNAPSHOTS of every commandsvc, then start them.")
		}
	}
	return nil
}

// open connects to both, and starts them when they are those of a ledger up, which then cannot start.
func (c restoreCommand) open(ctx context.Context, log *slog.Logger) (nc *nats.Conn, db *pgxpool.Pool, stop func(), err error) {
	switch dir := filepath.Join(c.Data, "postgres"); {
	case c.NATSURL != "" && c.DatabaseURL == "":
		return nil, nil, nil, hintf("The archive is in the database of the projector.", "DATABASE_URL is not set")
	case c.NATSURL == "" && !exists(dir):
		return nil, nil, nil, hintf("Run this where ledger up ran, or name its folder with --data.", "no archive: there is no %s", dir)
	}
	return stores{NATSURL: c.NATSURL, NATSCredentials: c.NATSCredentials, DatabaseURL: c.DatabaseURL}.both(ctx, c.Data, log)
}
