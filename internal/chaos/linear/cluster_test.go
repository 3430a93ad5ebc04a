package linear

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/commandapi"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

const partitions = 2

// cluster is a nats-server and command services, each a process of its own, each service behind a link of its own to
// nats-server.
type cluster struct {
	t            *testing.T
	dir          string
	secret       identity.Secret
	operator     identity.OperatorKey
	operatorText string
	nats         *program
	services     [2]*program
	links        [2]*Proxy

	mu    sync.Mutex
	rival string // address of the API of a further process; empty when there is none
}

// program is a process that is started again and again.
type program struct {
	mu      sync.Mutex // held by whoever does something to it
	launch  func() *ledgertest.Process
	process *ledgertest.Process
	base    string // address of its API
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	var err error
	if c.operator, c.operatorText, err = identity.LoadOrCreateOperatorKey(filepath.Join(c.dir, "operator.key")); err != nil {
		t.Fatal(err)
	}
	if c.secret, err = identity.LoadOrCreateSecret(filepath.Join(c.dir, "ledger.secret")); err != nil {
		t.Fatal(err)
	}
	natsAddr := ledgertest.FreeAddr(t)
	config := fmt.Sprintf("listen: %q\njetstream: { store_dir: %q, sync_interval: always }\n", natsAddr, filepath.Join(c.dir, "nats"))
	if err := os.WriteFile(filepath.Join(c.dir, "nats.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c.nats = &program{base: natsAddr, launch: func() *ledgertest.Process {
		return ledgertest.Launch(t, nil, "nats-server", "--config", filepath.Join(c.dir, "nats.conf"))
	}}
	c.nats.start()
	for i := range c.services {
		if c.links[i], err = NewProxy(natsAddr); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.links[i].Close)
		c.services[i] = c.service(fmt.Sprint("service-", i), c.links[i].Addr())
		c.services[i].start()
		c.services[i].process.AwaitReady(c.services[i].base)
	}
	return c
}

// service returns a command service that reaches nats-server at an address.
func (c *cluster) service(name, natsAddr string) *program {
	c.t.Helper()
	addr := ledgertest.FreeAddr(c.t)
	return &program{base: "http://" + addr, launch: func() *ledgertest.Process {
		return ledgertest.Launch(c.t, []string{
			"LISTEN_ADDR=" + addr, "LEDGER_CREATE=true", "NATS_URL=nats://" + natsAddr, fmt.Sprint("LEDGER_PARTITIONS=", partitions),
			"LEDGER_SECRET_FILE=" + filepath.Join(c.dir, "ledger.secret"), "OPERATOR_KEY_FILE=" + filepath.Join(c.dir, "operator.key"),
			// Small, so that most starts read one.
			"LEDGER_SNAPSHOTS=" + filepath.Join(c.dir, name), "LEDGER_SNAPSHOT_EVERY=100000",
		}, "commandsvc")
	}}
}

func (p *program) start() { p.process = p.launch() }

// kill ends the process at once.
func (p *program) kill() { p.process.Kill() }

// stop asks the process to end, and waits until it has.
func (p *program) stop() {
	p.process.Signal(syscall.SIGTERM)
	select {
	case <-p.process.Done():
	case <-time.After(ledgertest.Patience): // the code that it does not return tells
		p.process.Kill()
	}
}

// ready waits until both services are.
func (c *cluster) ready() {
	c.t.Helper()
	for _, s := range c.services {
		s.process.AwaitReady(s.base)
	}
}

// targets are the addresses where the API is, or was, or will be.
func (c *cluster) targets() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []string{c.services[0].base, c.services[1].base}
	if c.rival != "" {
		all = append(all, c.rival)
	}
	return all
}

// setRival makes clients use a further process.
func (c *cluster) setRival(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rival = addr
}

// insist asks as the operator, at any of the targets, until it is answered.
func (c *cluster) insist(path string, body any) ledgertest.Answer {
	key := uuid.NewString()
	for try := 0; c.t.Context().Err() == nil; try++ {
		targets := c.targets()
		l := &ledgertest.Client{Commands: targets[try%len(targets)]}
		ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second)
		a, err := l.Do(ctx, "POST", "/api/v1/tenants"+path, c.operatorText, body, map[string]string{"Idempotency-Key": key})
		cancel()
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if a.Status != http.StatusCreated {
			c.t.Errorf("POST %s: %d %v", path, a.Status, a.Body)
		}
		return a
	}
	return ledgertest.Answer{}
}

// tenants makes one in each partition.
func (c *cluster) tenants() []string {
	info := eventstore.LedgerInfo{Partitions: partitions}
	names := make([]string, partitions)
	for n, left := 0, partitions; left > 0; n++ {
		name := fmt.Sprint("tenant-", n)
		if p := info.PartitionOf(domain.TenantID(name)); names[p] == "" {
			names[p] = name
			left--
		}
	}
	for _, name := range names {
		c.insist("", map[string]any{"id": name, "name": name})
	}
	return names
}

// connect opens the ledger, past all links.
func (c *cluster) connect(ctx context.Context) (*eventstore.NATSStore, *nats.Conn, error) {
	nc, err := nats.Connect("nats://"+c.nats.base, eventstore.NATSOptions("test")...)
	if err != nil {
		return nil, nil, err
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		store, err := eventstore.CreateNATS(attempt, nc, partitions, 1)
		cancel()
		if err == nil {
			return store, nc, nil
		}
		if ctx.Err() != nil {
			nc.Close()
			return nil, nil, err
		}
	}
}

// rival is a command service inside the test, whose clock the test can set.
type rival struct {
	base  string
	ahead atomic.Int64 // of its clock, as a time.Duration
	ready func(context.Context) error
	stop  func() // gives its partitions up, and waits until it is gone
}

// startRival starts one; alone says that it takes the partitions whoever owns them.
func (c *cluster) startRival(ctx context.Context, ahead time.Duration, alone bool) (*rival, error) {
	store, nc, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	r := &rival{}
	r.ahead.Store(int64(ahead))
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	writers, err := eventstore.NewWriters(eventstore.WritersConfig{
		Store: store, Log: log, Registerer: registry, Alone: alone,
		Now: func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) },
	})
	if err != nil {
		return nil, err
	}
	commands := commandapi.New(writers, c.secret, c.operator, registry)
	commands.LeaseSecondsMin = 1
	peers := commands.Connect(nc, writers.Process(), log, registry)
	router := serve.NewRouter()
	commands.Routes(router)
	server := httptest.NewServer(serve.Observe(router, log, serve.NewMetrics(registry)))
	working, finish := context.WithCancel(context.WithoutCancel(ctx))
	gone := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		if err := peers.Run(working, gone); err != nil {
			c.t.Logf("rival: %v", err) // nats-server is away while it stops
		}
	})
	running.Go(func() {
		defer close(gone)
		if err := writers.Run(working); err != nil {
			c.t.Errorf("rival: %v", err)
		}
	})
	r.base, r.ready = server.URL, writers.Ready
	r.stop = func() {
		c.setRival("")
		server.Close()
		finish()
		running.Wait()
		nc.Close()
	}
	c.setRival(r.base)
	return r, nil
}
