package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/commandapi"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/process"
	"github.com/coditect-ai/license-ledger/internal/queryapi"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// serverConfig is what a server is filled with before it serves.
type serverConfig struct {
	Tenants   int    `hidden:"" help:"Tenants to make."`
	Licenses  int    `hidden:"" help:"Licenses of each."`
	Seats     int    `hidden:"" help:"Seats of each license."`
	Leases    int    `hidden:"" help:"Leases to acquire on each license."`
	Snapshots bool   `hidden:"" help:"Keep snapshots."`
	Reads     bool   `hidden:"" help:"Keep read models and answer queries, too."`
	Redis     string `hidden:"" help:"Socket of the Redis."`
	RedisAddr string `hidden:"" help:"Address of the Redis."`
	Client    string `hidden:"" help:"Client of the Redis: usual, tuned or pipelining."`
}

func (c serverConfig) args() []string {
	return []string{
		fmt.Sprint("--tenants=", c.Tenants), fmt.Sprint("--licenses=", c.Licenses), fmt.Sprint("--seats=", c.Seats),
		fmt.Sprint("--leases=", c.Leases), fmt.Sprint("--snapshots=", c.Snapshots), fmt.Sprint("--reads=", c.Reads), "--redis=" + c.Redis, "--redis-addr=" + c.RedisAddr, "--client=" + c.Client,
	}
}

// server is a process under test.
type server struct {
	addr  string
	fills serverConfig
	keys  *identity.Keys
	// started is how long it took from taking the journal up to serving.
	started time.Duration
	cmd     *exec.Cmd
}

// startServer starts a server over the folder dir and waits until it is filled and serves.
func startServer(ctx context.Context, kind, dir string, fills serverConfig) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startProgram(ctx, self, kind, dir, fills)
}

// startProgram is startServer with a build of this benchmark.
func startProgram(ctx context.Context, program, kind, dir string, fills serverConfig) (*server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	secret, err := identity.LoadOrCreateSecret(filepath.Join(dir, "ledger.secret"))
	if err != nil {
		return nil, err
	}
	s := &server{fills: fills, keys: identity.NewLicenseKeys(secret)}
	s.cmd = exec.CommandContext(ctx, program, append([]string{"--serve=" + kind, "--dir=" + dir}, fills.args()...)...)
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(os.Interrupt) }
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	var fields []string
	for len(fields) < 2 {
		if !lines.Scan() {
			return nil, errors.Join(errors.New("the server did not start"), s.cmd.Wait())
		}
		fields = append(fields, lines.Text())
	}
	s.addr = fields[0]
	if s.started, err = time.ParseDuration(fields[1]); err != nil {
		return nil, err
	}
	return s, s.awaitReady(ctx)
}

// awaitReady returns when the server takes requests.
func (s *server) awaitReady(ctx context.Context) error {
	for {
		response, err := http.Get("http://" + s.addr + "/readyz")
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *server) stop() {
	s.cmd.Process.Signal(os.Interrupt)
	s.cmd.Wait()
}

// resident asks the server how much memory it has, in bytes; settled: after it gave back to the system what it does not
// use.
func (s *server) resident(settled bool) (int64, error) {
	path := residentPath
	if settled {
		path += "?settled"
	}
	response, err := http.Get("http://" + s.addr + path)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var bytes int64
	_, err = fmt.Fscan(response.Body, &bytes)
	return bytes, err
}

// profile has the server write where it spends its time during d into a file, for `go tool pprof`.
func (s *server) profile(ctx context.Context, d time.Duration, file string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s%s?seconds=%.0f", s.addr, profilePath, max(1, d.Seconds())), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, response.Body)
	return errors.Join(err, out.Close())
}

// The names of what a server is filled with.
func tenantID(i int) string { return fmt.Sprint("tenant-", i) }

func licenseID(tenant, i int) string { return fmt.Sprintf("lic_%06d_%06d", tenant, i) }

func keyID(tenant, i int) string { return fmt.Sprintf("%06d%06d", tenant, i) }

// key returns a license key of the server.
func (s *server) key(tenant, license int) string {
	return s.keys.Text(domain.TenantID(tenantID(tenant)), domain.KeyID(keyID(tenant, license)))
}

func (s *server) licenses() int { return s.fills.Tenants * s.fills.Licenses }

// serveLedger is the server under test. Its first line of output is its address, the second how long its Writer took
// from the start to serving, before it was filled.
func serveLedger(ctx context.Context, dir string, fills serverConfig) error {
	frame := process.NewFrame(slog.LevelWarn, os.Stderr)
	secret, err := identity.LoadOrCreateSecret(filepath.Join(dir, "ledger.secret"))
	if err != nil {
		return err
	}
	operator, _, err := identity.LoadOrCreateOperatorKey(filepath.Join(dir, "operator.key"))
	if err != nil {
		return err
	}
	nats, err := embedded.StartNATS(embedded.NATSOptions{Dir: filepath.Join(dir, "nats"), Log: frame.Log})
	if err != nil {
		return err
	}
	defer nats.Shutdown()
	nc, err := nats.Connect(eventstore.NATSOptions("bench")...)
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := eventstore.CreateNATS(ctx, nc, 1, 1)
	if err != nil {
		return err
	}
	writersConfig := eventstore.WritersConfig{Store: store, Log: frame.Log, Registerer: frame.Registry, Alone: true}
	if fills.Snapshots {
		writersConfig.Snapshots = filepath.Join(dir, "snapshots")
	}
	writers, err := eventstore.NewWriters(writersConfig)
	if err != nil {
		return err
	}
	frame.Limit(noLimits, secret, operator)
	commands := commandapi.New(writers, secret, operator, frame.Registry)
	commands.Routes(frame.Router)
	working, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	g, ctx := errgroup.WithContext(ctx)
	if fills.Reads {
		postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(dir, "postgres"), Log: frame.Log})
		if err != nil {
			return err
		}
		defer postgres.Stop(context.WithoutCancel(ctx))
		db, err := pgxpool.New(ctx, postgres.URL())
		if err != nil {
			return err
		}
		defer db.Close()
		if err := projections.Migrate(ctx, db); err != nil {
			return err
		}
		runner := projections.NewRunner(projections.Options{
			DB: db, Store: store, Publish: projections.NATSPublisher(nc), Log: frame.Log, Registerer: frame.Registry,
		})
		queryapi.New(queryapi.Options{
			DB: db, Ledger: store.Info(), Journal: store.Journal, Tokens: eventstore.NewTokens(secret), Operator: operator, Seal: identity.NewSeal(secret), NATS: nc, Log: frame.Log, Registerer: frame.Registry,
		}).Routes(frame.Router)
		g.Go(func() error { return runner.Run(working) })
		g.Go(func() error { return commands.TakeLooks(working, nc, frame.Log) })
	}
	frame.Router.Handle(echoPath, serve.Handler(echo)).Methods(http.MethodPost)
	frame.Router.HandleFunc(residentPath, resident)
	frame.Router.HandleFunc(profilePath, pprof.Profile)
	listener, err := frame.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	defer frame.Close()
	began := time.Now()
	g.Go(func() error { return writers.Run(working) })
	g.Go(func() error {
		defer finish()
		for writers.Ready(ctx) != nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
		started := time.Since(began)
		if err := fill(ctx, writers, identity.NewLicenseKeys(secret), fills); err != nil {
			return err
		}
		fmt.Printf("%s\n%s\n", listener.Addr(), started)
		return frame.Serve(ctx)
	})
	return g.Wait()
}

// noLimits has each request counted, as in service, and none refused.
var noLimits = process.RateLimits{Seats: 1e9, Commands: 1e9, Reads: 1e9, Exports: 1e9, Streams: 1 << 20, Strangers: 1e9}

const (
	echoPath     = "/api/v1/licenses/echo"
	residentPath = "/bench/resident"
	profilePath  = "/bench/profile"
)

// echo is the peer: it reads and decodes the same body and answers a constant of the same shape.
func echo(w http.ResponseWriter, r *http.Request) error {
	body, err := serve.ReadBody(r)
	if err != nil {
		return err
	}
	var req api.AcquireRequest
	if err := serve.Decode(body, &req, "user", "machine"); err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, api.AcquireResponse{
		Lease: api.Lease{Id: "lse_0123456789abcdef", Fence: 42, License: "lic_0123456789abcdef", User: req.User, Machine: req.Machine, State: api.LeaseStateActive},
	})
}

// resident answers how many bytes of memory the process has.
func resident(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery == "settled" {
		debug.FreeOSMemory()
	}
	status, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(status))
	if err != nil || len(fields) < 2 {
		http.Error(w, "not on this system", http.StatusNotImplemented)
		return
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	fmt.Fprintln(w, pages*int64(os.Getpagesize()))
}
