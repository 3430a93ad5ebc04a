package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/audit"
	"github.com/coditect-ai/license-ledger/internal/progress"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// liveLedger is the whole of a ledger: its journal and its Postgres.
type liveLedger struct {
	stores
	Data string `env:"LEDGER_DATA" default:"./data" type:"path" help:"Data folder of a ledger up that is down."`
}

// finding is the outcome of one check.
type finding struct {
	Check string `json:"check"`
	Right bool   `json:"right"`
	Found string `json:"found"`
}

// open connects to the journal and to Postgres.
func (l liveLedger) open(ctx context.Context, t terminal) (store *eventstore.NATSStore, db *pgxpool.Pool, down func(), err error) {
	if (l.NATSURL == "") != (l.DatabaseURL == "") {
		return nil, nil, nil, errors.New("--nats-url and --database-url go together")
	}
	if l.NATSURL == "" && !exists(filepath.Join(l.Data, "nats")) {
		return nil, nil, nil, hintf("Name the folder with --data, or the services with --nats-url and --database-url.", "there is no ledger in %s", l.Data)
	}
	nc, db, down, err := l.both(ctx, l.Data, serve.NewLogger(t.logs, slog.LevelWarn))
	if err != nil {
		return nil, nil, nil, err
	}
	if store, err = openJournal(ctx, nc); err == nil {
		err = db.Ping(ctx)
	}
	if err != nil {
		down()
		return nil, nil, nil, err
	}
	return store, db, down, nil
}

// live checks a whole ledger. It is an error when anything is wrong.
func (l liveLedger) live(ctx context.Context, t terminal, o output) error {
	store, db, down, err := l.open(ctx, t)
	if err != nil {
		return err
	}
	defer down()
	findings := append(verifyJournal(ctx, t, store), verifyArchive(ctx, t, store, db)...)
	findings = append(findings, verifyRows(ctx, t, store, db))
	rows := [][]string{{"CHECK", "", "FOUND"}}
	wrong := 0
	for _, f := range findings {
		mark := "right"
		if !f.Right {
			mark, wrong = "WRONG", wrong+1
		}
		rows = append(rows, []string{f.Check, mark, f.Found})
	}
	if err := errors.Join(ctx.Err(), o.print(t, findings, rows...)); err != nil {
		return err
	}
	if wrong > 0 {
		return hintf("deploy/runbooks/journal-chain-broken.md says what to do.", "%d of %d checks failed", wrong, len(findings))
	}
	return nil
}

// found turns the outcome of a check into a finding.
func found(check string, err error, format string, args ...any) finding {
	if err != nil {
		return finding{check, false, err.Error()}
	}
	return finding{check, true, fmt.Sprintf(format, args...)}
}

// verifyJournal folds every partition.
func verifyJournal(ctx context.Context, t terminal, store eventstore.Store) (findings []finding) {
	_ = store.Info().All(func(p eventstore.Partition) error {
		check := fmt.Sprintf("journal, partition %d", p)
		bar := progress.New(t.logs, check, "commits")
		defer bar.End()
		last, err := store.Journal(p).Last(ctx)
		if err != nil {
			findings = append(findings, found(check, err, ""))
			return nil
		}
		state, err := audit.FoldPartition(ctx, store.Journal(p), last, bar.Set)
		tenants, seats := 0, 0
		state.Tenants(func(tenant *domain.Tenant) {
			tenants++
			seats += tenant.SeatsInUse
		})
		findings = append(findings, found(check, err, "%d commits follow from each other, ending with %s; %d tenants, %d seats in use, none oversold",
			last, state.Checkpoint.Hash, tenants, seats))
		return nil
	})
	return findings
}

// verifyArchive compares the archive with the journal.
func verifyArchive(ctx context.Context, t terminal, store eventstore.Store, db *pgxpool.Pool) (findings []finding) {
	archive, err := projections.OpenArchive(ctx, db)
	if err == nil && archive.Info().ID != store.Info().ID {
		err = fmt.Errorf("it is of the ledger %s, not of %s", archive.Info().ID, store.Info().ID)
	}
	if err != nil {
		return []finding{found("archive", err, "")}
	}
	_ = store.Info().All(func(p eventstore.Partition) error {
		check := fmt.Sprintf("archive, partition %d", p)
		bar := progress.New(t.logs, check, "commits")
		defer bar.End()
		archived, err := archive.Journal(p).Last(ctx)
		last := uint64(0)
		if err == nil {
			last, err = store.Journal(p).Last(ctx)
		}
		if err == nil && archived > last {
			err = fmt.Errorf("it has %d commits, and the journal only %d: the journal lost some", archived, last)
		}
		if err == nil {
			err = audit.CompareJournals(ctx, store.Journal(p), archive.Journal(p), archived, bar.Set)
		}
		findings = append(findings, found(check, err, "its %d commits are those of the journal; %d are not archived yet", archived, last-archived))
		return nil
	})
	return findings
}

// differencesShown is how many rows that are wrong are named.
const differencesShown = 5

// verifyRows compares the read models with a fold of the journal.
func verifyRows(ctx context.Context, t terminal, store eventstore.Store, db *pgxpool.Pool) finding {
	fmt.Fprintln(t.logs, "Comparing the read models with a fold of the journal …")
	differences, err := projections.Compare(ctx, db, store)
	if err == nil && len(differences) > 0 {
		text := fmt.Sprintf("%d rows are not what the journal says", len(differences))
		for _, d := range differences[:min(len(differences), differencesShown)] {
			text += fmt.Sprintf("; %s: journal %q, row %q", d.Row, d.Journal, d.Rows)
		}
		err = errors.New(text)
	}
	return found("read models", err, "every row is what the journal says")
}
