package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

func TestMain(m *testing.M) { ledgertest.Main(m) }

// journalStream is the one partition's stream.
const journalStream = "LEDGER_00"

// three is a cluster of three nats-servers with two command services on it, each a process of its own.
type three struct {
	t        *testing.T
	servers  [3]*server
	services [2]*ledgertest.Client
	js       jetstream.JetStream
	nc       *nats.Conn
}

// server is a nats-server that is started again and again.
type server struct {
	t       *testing.T
	name    string
	dir     string // its store
	config  string
	process *ledgertest.Process
}

func (s *server) start() {
	s.process = ledgertest.Launch(s.t, nil, "nats-server", "--config", s.config)
}

// stop asks the server to end and waits until it has.
func (s *server) stop() {
	s.process.Signal(syscall.SIGTERM)
	select {
	case <-s.process.Done():
	case <-time.After(ledgertest.Patience):
		s.t.Errorf("%s does not stop", s.name)
		s.process.Kill()
	}
}

func newThree(t *testing.T) *three {
	t.Helper()
	dir := t.TempDir()
	c := &three{t: t}
	var clients, routes [3]string
	for i := range c.servers {
		clients[i], routes[i] = ledgertest.FreeAddr(t), ledgertest.FreeAddr(t)
	}
	for i := range c.servers {
		name := fmt.Sprint("nats-", i)
		c.servers[i] = &server{t: t, name: name, dir: filepath.Join(dir, name), config: filepath.Join(dir, name+".conf")}
		config := fmt.Sprintf(`server_name: %s
listen: %q
jetstream: { store_dir: %q, sync_interval: always }
cluster: { name: ledger, listen: %q, routes: ["nats://%s"] }
`, name, clients[i], c.servers[i].dir, routes[i], strings.Join(routes[:], `", "nats://`))
		if err := os.WriteFile(c.servers[i].config, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		c.servers[i].start()
	}
	url := "nats://" + strings.Join(clients[:], ",nats://")
	secret, operator := filepath.Join(dir, "ledger.secret"), filepath.Join(dir, "operator.key")
	if _, err := identity.LoadOrCreateSecret(secret); err != nil {
		t.Fatal(err)
	}
	_, key, err := identity.LoadOrCreateOperatorKey(operator)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.services {
		addr := ledgertest.FreeAddr(t)
		p := ledgertest.Launch(t, []string{
			"LISTEN_ADDR=" + addr, "LEDGER_CREATE=true", "NATS_URL=" + url, "LEDGER_PARTITIONS=1", "LEDGER_REPLICAS=3",
			"LEDGER_SECRET_FILE=" + secret, "OPERATOR_KEY_FILE=" + operator,
		}, "commandsvc")
		p.AwaitReady("http://" + addr)
		c.services[i] = &ledgertest.Client{Commands: "http://" + addr, Operator: key}
	}
	if c.nc, err = nats.Connect(url, append(eventstore.NATSOptions("test"), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.nc.Close)
	if c.js, err = jetstream.New(c.nc); err != nil {
		t.Fatal(err)
	}
	c.await("whole", c.whole)
	return c
}

// await polls until condition holds, or ledgertest.Patience ends the test.
func (c *three) await(what string, condition func(ctx context.Context) error) {
	c.t.Helper()
	c.within(ledgertest.Patience, what, condition)
}

// within is await with another patience.
func (c *three) within(patience time.Duration, what string, condition func(ctx context.Context) error) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		err := condition(ctx)
		cancel()
		switch {
		case err == nil:
			return
		case time.Now().After(deadline):
			c.t.Fatalf("not %s after %v: %v", what, patience, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *three) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream, err := c.js.Stream(ctx, journalStream)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// whole reports whether the journal has a leader, and every replica all of it.
func (c *three) whole(ctx context.Context) error {
	info, err := c.info(ctx)
	if err != nil {
		return err
	}
	if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != 2 {
		return fmt.Errorf("the cluster is %+v", info.Cluster)
	}
	for _, r := range info.Cluster.Replicas {
		if !r.Current || r.Offline {
			return fmt.Errorf("replica %+v", r)
		}
	}
	return nil
}

// split returns the leader of the journal and the others.
func (c *three) split() (leader *server, followers []*server) {
	c.t.Helper()
	c.await("whole", c.whole)
	ctx, cancel := context.WithTimeout(c.t.Context(), ledgertest.Patience)
	defer cancel()
	info, err := c.info(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range c.servers {
		if s.name == info.Cluster.Leader {
			leader = s
		} else {
			followers = append(followers, s)
		}
	}
	return leader, followers
}
