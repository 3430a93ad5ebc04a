package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/client"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/audit"
	"github.com/coditect-ai/license-ledger/internal/progress"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// historyOf is where the auditor's commands read a tenant's events.
type historyOf struct {
	Tenant string `required:"" placeholder:"TENANT" help:"Whose history: the id of the tenant, such as acme."`
	reader
	stores
}

// source is a tenant's events, wherever they come from, found to follow from each other.
type source struct {
	// What it is of; known when read calls back.
	ledger    string
	partition eventstore.Partition
	// read calls f with each slice, from the first to the last.
	read func(ctx context.Context, f func(audit.Slice) error) error
	// texts returns what tells what a pseudonym stands for; empty: nobody knows (any more). Ask after read.
	texts func(ctx context.Context) (func(domain.Pseudonym) string, error)
	close func()
}

// open finds the tenant's events. What is said on the way goes to t.logs.
func (h historyOf) open(ctx context.Context, t terminal) (*source, error) {
	if !domain.HasChain(domain.TenantID(h.Tenant)) {
		return nil, fmt.Errorf("%q is no id of a tenant: lower-case letters, digits and inner hyphens", h.Tenant)
	}
	if h.NATSURL != "" {
		nc, err := h.connect(serve.NewLogger(t.logs, slog.LevelWarn))
		if err != nil {
			return nil, err
		}
		s, err := h.journal(ctx, t, nc)
		if err != nil {
			nc.Close()
		}
		return s, err
	}
	s, err := h.served(ctx, t)
	var e *client.Error
	if errors.As(err, &e) && e.Code == client.Unreachable && isLocal(h.Server) {
		if folder := filepath.Join(h.Data, "nats"); exists(folder) {
			fmt.Fprintf(t.logs, "No ledger answers at %s. Reading the journal in %s.\n", h.Server, folder)
			return h.folder(ctx, t)
		}
	}
	return s, err
}

// folder reads the journal of a ledger up that is down.
func (h historyOf) folder(ctx context.Context, t terminal) (*source, error) {
	f, err := openFolder(h.Data, serve.NewLogger(t.logs, slog.LevelWarn))
	if err != nil {
		return nil, err
	}
	nc, err := f.journal()
	var s *source
	if err == nil {
		s, err = h.journal(ctx, t, nc)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	s.close = f.close
	return s, nil
}

// journal reads the journal itself.
func (h historyOf) journal(ctx context.Context, t terminal, nc *nats.Conn) (*source, error) {
	store, err := openJournal(ctx, nc)
	if err != nil {
		return nil, err
	}
	tenant := domain.TenantID(h.Tenant)
	p := store.Info().PartitionOf(tenant)
	bar := progress.New(t.logs, "reading the journal", "commits")
	from := audit.Source{Journal: store.Journal(p), Tenant: tenant, Progress: bar.Set}
	if h.DatabaseURL != "" {
		from.Copied = func(ctx context.Context, f func(audit.Slice) error) (uint64, error) {
			db, err := pgxpool.New(ctx, h.DatabaseURL)
			if err != nil {
				return 0, fmt.Errorf("DATABASE_URL: %w", err)
			}
			defer db.Close()
			archive, err := projections.OpenArchive(ctx, db)
			switch {
			case err != nil:
				return 0, err
			case archive.Info().ID != store.Info().ID:
				return 0, fmt.Errorf("DATABASE_URL has the archive of the ledger %s, not of %s", archive.Info().ID, store.Info().ID)
			}
			return archived(ctx, archive, tenant, f)
		}
	}
	return &source{
		ledger: store.Info().ID, partition: p,
		read: func(ctx context.Context, f func(audit.Slice) error) error {
			defer bar.End()
			return from.Read(ctx, f)
		},
		texts: func(ctx context.Context) (func(domain.Pseudonym) string, error) {
			directory := eventstore.NewDirectory(store.Directory(p))
			err := directory.Load(ctx)
			return func(name domain.Pseudonym) string { return directory.Text(tenant, name) }, err
		},
		close: nc.Close,
	}, nil
}

// archived reads the slices of a tenant from the archive, and returns up to which commit they are there.
func archived(ctx context.Context, archive *projections.Archive, tenant domain.TenantID, f func(audit.Slice) error) (upTo uint64, err error) {
	// The end first: there may be more slices then, never fewer.
	if upTo, err = archive.Journal(archive.Info().PartitionOf(tenant)).Last(ctx); err != nil {
		return 0, err
	}
	return upTo, archive.ReadTenant(ctx, tenant, 0, func(s projections.TenantSlice) error {
		slice, err := s.Decode()
		if err != nil {
			return err
		}
		return f(audit.Slice{Slice: slice, Seq: s.Commit})
	})
}

// served asks a running ledger for an export, and verifies it as it comes.
func (h historyOf) served(ctx context.Context, t terminal) (*source, error) {
	// The first call finds the tenant, or says in words what is wrong; the second is the stream.
	var found json.RawMessage
	path := tenantArg{h.Tenant}.path()
	if _, err := h.call(ctx, http.MethodGet, path, nil, &found); err != nil {
		return nil, err
	}
	key, err := h.key()
	if err != nil {
		return nil, err
	}
	server, _, _ := strings.Cut(h.Server, ",")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(strings.TrimSpace(server), "/")+"/api/v1"+path+"/export?names=true", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Ledger-Reason", h.Reason)
	answer, err := http.DefaultClient.Do(request)
	for err == nil && answer.StatusCode == http.StatusTooManyRequests {
		answer.Body.Close()
		after, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(max(time.Second, time.Duration(after)*time.Second)):
		}
		answer, err = http.DefaultClient.Do(request)
	}
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		var problem struct{ Code, Detail string }
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
		answer.Body.Close()
		if json.Unmarshal(text, &problem) != nil || problem.Code == "" {
			return nil, fmt.Errorf("the ledger gives no export: %s", answer.Status)
		}
		return nil, fmt.Errorf("the ledger gives no export: %s (%s)", problem.Detail, problem.Code)
	}
	bar := progress.New(t.logs, "reading", "events")
	s := &source{close: func() { answer.Body.Close() }}
	names := map[domain.Pseudonym]string{}
	s.read = func(_ context.Context, f func(audit.Slice) error) error {
		defer bar.End()
		report, err := audit.Verify(answer.Body, audit.Options{
			Tenant: domain.TenantID(h.Tenant),
			Begin:  func(h audit.Header) { s.ledger, s.partition = h.Ledger, eventstore.Partition(h.Partition) },
			Each: func(s audit.Slice) error {
				version := s.Events[len(s.Events)-1].Version
				bar.Set(version, version)
				return f(s)
			},
		})
		for _, n := range report.Names {
			names[n.Pseudonym] = n.Text
		}
		return err
	}
	s.texts = func(context.Context) (func(domain.Pseudonym) string, error) {
		return func(p domain.Pseudonym) string { return names[p] }, nil
	}
	return s, nil
}

// instant is a time as people write it: a day, which is its first instant, or a day and a time. UTC unless it says otherwise.
type instant struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *instant) UnmarshalText(text []byte) (err error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339} {
		if i.Time, err = time.Parse(layout, string(text)); err == nil {
			i.Time = i.Time.UTC()
			return nil
		}
	}
	return fmt.Errorf("%q is no time: such as 2026-03-14 or 2026-03-14T09:30:00Z", text)
}

// period is a part of time.
type period struct {
	From *instant `placeholder:"TIME" help:"Only what happened at or after this time, such as 2026-03-01 or 2026-03-01T09:00:00Z."`
	To   *instant `placeholder:"TIME" help:"Only what happened before this time."`
}

func (p period) holds(at time.Time) bool {
	return (p.From == nil || !at.Before(p.From.Time)) && (p.To == nil || at.Before(p.To.Time))
}

// orNil returns the time, or nil for none.
func (i *instant) orNil() *time.Time {
	if i == nil {
		return nil
	}
	return &i.Time
}
