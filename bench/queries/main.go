package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/process"
	"github.com/coditect-ai/license-ledger/internal/queryapi"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

type config struct {
	Tenants int    `default:"1000" help:"Tenants."`
	Leases  int    `default:"10000000" help:"Leases of all tenants together."`
	Repeat  int    `default:"100" help:"Requests for each query, each of another tenant."`
	Dir     string `default:"" type:"path" help:"Folder for Postgres, about 6 GB; one that was filled before is measured again. Default: a temporary folder here."`
	Out     string `default:"bench" type:"path" help:"Folder for queries.md."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cfg config
	err := process.Parse(&cfg, "queries", "Measures list and usage queries.", os.Args[1:], os.Stdout)
	if err == nil {
		err = run(ctx, cfg, os.Stdout)
	}
	if err != nil && !errors.Is(err, process.ErrHelp) {
		fmt.Fprintln(os.Stderr, "queries:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg config, out io.Writer) (err error) {
	dir := cfg.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp(".", "bench-data-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	found, err := measure(ctx, cfg, dir, out)
	if err != nil {
		return err
	}
	text := report(cfg, found)
	fmt.Fprint(out, "\n", text)
	return os.WriteFile(filepath.Join(cfg.Out, "queries.md"), []byte(text), 0o644)
}

// queries are the paths that are measured; %s is a tenant, and what stands in braces is of it.
var queries = []string{
	"/tenants",
	"/tenants/%s/licenses",
	"/tenants/%s/seats",
	"/tenants/%s/seats?state=active",
	"/tenants/%s/seats?license=lic_3",
	"/tenants/%s/seats?user=u_7",
	"/tenants/%s/timeline",
	"/tenants/%s/usage",
	"/tenants/%s/usage?bucket=hour",
	"/tenants/%s/usage?bucket=minute",
	"/tenants/%s/usage?bucket=hour&license=lic_3&sort=-start",
	"/tenants/%s/usage?by=license",
	"/tenants/%s/usage?by=user",
	"/tenants/%s/usage/top",
	"/tenants/%s/usage/heatmap",
	"/tenants/%s/usage/forecast?license=lic_3",
}

// finding is what was found of one query.
type finding struct {
	query   string
	overAPI time.Duration // median
	byHand  time.Duration
	scans   []string // how the tables are read
	whole   []string // plans that read a whole table; there should be none
}

func measure(ctx context.Context, cfg config, dir string, out io.Writer) ([]finding, error) {
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(dir, "postgres"), NoFsync: true})
	if err != nil {
		return nil, err
	}
	defer postgres.Stop(context.WithoutCancel(ctx)) //nolint:errcheck // a throwaway
	owner, err := pgxpool.New(ctx, postgres.URL())
	if err != nil {
		return nil, err
	}
	defer owner.Close()
	if err := projections.Migrate(ctx, owner); err != nil {
		return nil, err
	}
	info := eventstoretest.NewStore(1).Info()
	if err := fill(ctx, owner, cfg, info, out); err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	noted := &spy{}
	server, closeServer, err := serveQueries(ctx, postgres.URL(), filepath.Join(dir, "nats"), noted)
	if err != nil {
		return nil, err
	}
	defer closeServer()
	var all []finding
	for _, query := range queries {
		f, err := one(ctx, cfg, server, owner, noted, query)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
		fmt.Fprintf(out, "%-60s %8.2f ms over the API, %8.2f ms by hand\n", query, ms(f.overAPI), ms(f.byHand))
		all = append(all, f)
	}
	return all, nil
}

const operatorKey = "op_0123456789012345678901234567890123456789012"

// serveQueries starts the query side, as a service has it.
func serveQueries(ctx context.Context, database, natsDir string, noted *spy) (*httptest.Server, func(), error) {
	operator, err := identity.ParseOperatorKey(operatorKey)
	if err != nil {
		return nil, nil, err
	}
	pool, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, nil, err
	}
	pool.ConnConfig.Tracer = noted
	db, err := pgxpool.NewWithConfig(ctx, pool)
	if err != nil {
		return nil, nil, err
	}
	journal, err := embedded.StartNATS(embedded.NATSOptions{Dir: natsDir, NoSync: true})
	if err != nil {
		return nil, nil, err
	}
	nc, err := journal.Connect(eventstore.NATSOptions("bench")...)
	if err != nil {
		return nil, nil, err
	}
	// Nobody keeps a journal here: that the operator reads is recorded at once.
	if _, err := nc.Subscribe(access.LooksSubject, func(msg *nats.Msg) {
		msg.RespondMsg(&nats.Msg{Header: nats.Header{access.HeaderStatus: {"200"}}})
	}); err != nil {
		return nil, nil, err
	}
	store := eventstoretest.NewStore(1)
	router := serve.NewRouter()
	queryapi.New(queryapi.Options{
		DB: db, Ledger: store.Info(), Journal: store.Journal, Tokens: eventstore.NewTokens([]byte("bench")), Operator: operator, NATS: nc,
		Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}).Routes(router)
	server := httptest.NewServer(router)
	return server, func() { server.Close(); nc.Close(); journal.Shutdown(); db.Close() }, nil
}

// one measures a query.
func one(ctx context.Context, cfg config, server *httptest.Server, owner *pgxpool.Pool, noted *spy, query string) (finding, error) {
	f := finding{query: query}
	random := rand.New(rand.NewPCG(1, 1))
	var overAPI, byHand []time.Duration
	for i := range cfg.Repeat + 3 {
		path := query
		if strings.Contains(query, "%s") {
			path = fmt.Sprintf(query, tenantID(random.IntN(cfg.Tenants)))
		}
		noted.take()
		took, err := get(ctx, server, path)
		if err != nil {
			return f, err
		}
		statements := noted.take()
		hand, err := run1(ctx, owner, statements)
		if err != nil {
			return f, err
		}
		if i < 3 { // until connections and plans are there
			continue
		}
		overAPI, byHand = append(overAPI, took), append(byHand, hand)
		if i == 3 {
			if f.scans, f.whole, err = plans(ctx, owner, statements); err != nil {
				return f, err
			}
		}
	}
	slices.Sort(overAPI)
	slices.Sort(byHand)
	f.overAPI, f.byHand = overAPI[len(overAPI)/2], byHand[len(byHand)/2]
	return f, nil
}

func get(ctx context.Context, server *httptest.Server, path string) (time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/api/v1"+path, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+operatorKey)
	r.Header.Set("Ledger-Reason", "benchmark")
	began := time.Now()
	response, err := server.Client().Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", response.StatusCode, body)
	}
	var page struct{ Items []json.RawMessage }
	if err == nil {
		err = json.Unmarshal(body, &page)
	}
	if err == nil && len(page.Items) == 0 && !strings.Contains(path, "forecast") {
		err = errors.New("it finds nothing, which measures nothing")
	}
	return time.Since(began), err
}

// run1 runs the statements of a request on one connection and reads all their rows.
func run1(ctx context.Context, db *pgxpool.Pool, statements []pgx.TraceQueryStartData) (time.Duration, error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	began := time.Now()
	for _, s := range statements {
		rows, err := conn.Query(ctx, s.SQL, s.Args...)
		if err != nil {
			return 0, err
		}
		for rows.Next() {
			if _, err := rows.Values(); err != nil {
				return 0, err
			}
		}
		if rows.Err() != nil {
			return 0, rows.Err()
		}
	}
	return time.Since(began), nil
}

// smallMost is how many rows a table has of which reading all is as good as any other way.
const smallMost = 2000

// plans says how statements read their tables.
func plans(ctx context.Context, db *pgxpool.Pool, statements []pgx.TraceQueryStartData) (scans, whole []string, err error) {
	for _, s := range statements {
		rows, err := db.Query(ctx, "EXPLAIN "+s.SQL, s.Args...)
		if err != nil {
			return nil, nil, err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, nil, err
		}
		for _, line := range lines {
			line = strings.TrimLeft(line, " ->")
			switch before, rest, _ := strings.Cut(line, " on "); {
			case strings.HasPrefix(line, "Seq Scan"), strings.HasPrefix(line, "Parallel Seq Scan"):
				table, _, _ := strings.Cut(rest, " ")
				scans = append(scans, "all of "+table)
				var size float64
				if err := db.QueryRow(ctx, `SELECT max(reltuples) FROM pg_class WHERE relname = $1`, table).Scan(&size); err != nil {
					return nil, nil, err
				}
				if size > smallMost {
					whole = append(whole, strings.Join(lines, "\n"))
				}
			case strings.Contains(before, "Index") && strings.Contains(before, " using "):
				_, index, _ := strings.Cut(before, " using ")
				scans = append(scans, index)
			case strings.HasPrefix(line, "Bitmap Index Scan on "):
				index, _, _ := strings.Cut(rest, " ")
				scans = append(scans, index)
			}
		}
	}
	slices.Sort(scans)
	return slices.Compact(scans), whole, nil
}

// spy notes the statements that read rows for an answer.
type spy struct {
	mu         sync.Mutex
	statements []pgx.TraceQueryStartData
}

// TraceQueryStart implements pgx.QueryTracer.
func (s *spy) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, "SELECT") && !strings.Contains(data.SQL, "read.checkpoints") && !strings.Contains(data.SQL, "EXISTS (SELECT FROM") {
		s.mu.Lock()
		s.statements = append(s.statements, data)
		s.mu.Unlock()
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (s *spy) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *spy) take() []pgx.TraceQueryStartData {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.statements
	s.statements = nil
	return taken
}

// timesMost is how much slower than its SQL the first page may be.
const timesMost = 5

func report(cfg config, all []finding) string {
	var out strings.Builder
	fmt.Fprintf(&out, "# How fast queries are\n\nWhat `go run ./bench/queries` found on %s: %d leases in %d tenants, medians of %d requests, each of another tenant. "+
		"By hand: the same SQL as the owner of the tables, on one connection. At most %d × as long is wanted, and no plan that reads a whole table.\n\n",
		time.Now().UTC().Format(time.DateOnly), cfg.Leases, cfg.Tenants, cfg.Repeat, timesMost)
	out.WriteString("| query | API, ms | by hand, ms | × | | reads |\n|---|---:|---:|---:|---|---|\n")
	for _, f := range all {
		times, met := float64(f.overAPI)/float64(f.byHand), "met"
		if times > timesMost || len(f.whole) > 0 {
			met = "**not met**"
		}
		fmt.Fprintf(&out, "| `%s` | %.2f | %.2f | %.1f | %s | %s |\n", strings.Replace(f.query, "%s", "{t}", 1), ms(f.overAPI), ms(f.byHand), times, met, strings.Join(f.scans, ", "))
	}
	return out.String()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
