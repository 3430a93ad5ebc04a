package powercut

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

func TestMain(m *testing.M) {
	// A connection per client is kept; the default of two would open a new one for most requests.
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	ledgertest.Main(m)
}

const (
	partitions = 2
	clients    = 8 // of each tenant
	seats      = 6 // of each tenant
)

// kind is which programs a machine runs.
type kind string

const (
	services kind = "nats-server and commandsvc"
	allInOne kind = "ledger up" // its Postgres is on another disk, which never loses power
)

// machine is a computer with one disk, on which only the journal is.
type machine struct {
	*mounted
	kind      kind
	random    *rand.Rand
	home      string // everything else
	nats, url string // addresses of nats-server and of the API
	operator  string

	mu      sync.Mutex
	running []*ledgertest.Process
}

// newMachine returns a machine that is switched on and runs nothing yet. sync is a line of the configuration of nats-server, when
// it is a process of its own.
func newMachine(t testing.TB, k kind, seed uint64, sync string) *machine {
	t.Helper()
	t.Logf("%s, seed %d", k, seed)
	m := &machine{
		kind: k, random: rand.New(rand.NewPCG(seed, 1)), home: t.TempDir(),
		nats: ledgertest.FreeAddr(t), url: "http://" + ledgertest.FreeAddr(t),
	}
	dir := filepath.Join(m.home, "nats") // where ledger up has it
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m.mounted = mount(t, Options{Seed: seed}, dir)
	var err error
	_, m.operator, err = identity.LoadOrCreateOperatorKey(filepath.Join(m.home, "operator.key"))
	m.must(err)
	_, err = identity.LoadOrCreateSecret(filepath.Join(m.home, "ledger.secret"))
	m.must(err)
	config := fmt.Sprintf("listen: %q\njetstream: { store_dir: %q, %s }\n", m.nats, m.dir, sync)
	m.must(os.WriteFile(filepath.Join(m.home, "nats.conf"), []byte(config), 0o600))
	return m
}

const syncAlways = "sync_interval: always"

// launch starts the programs; the last of them serves the API.
func (m *machine) launch() {
	m.t.Helper()
	addr := strings.TrimPrefix(m.url, "http://")
	if m.kind == allInOne {
		m.add(ledgertest.Launch(m.t, nil, "ledger", "up", "--addr", addr, "--data", m.home, "--nats-addr", m.nats, "--partitions", fmt.Sprint(partitions)))
		return
	}
	m.launchNATS()
	m.add(ledgertest.Launch(m.t, []string{
		"LISTEN_ADDR=" + addr, "LEDGER_CREATE=true", "NATS_URL=nats://" + m.nats, fmt.Sprint("LEDGER_PARTITIONS=", partitions),
		"LEDGER_SECRET_FILE=" + filepath.Join(m.home, "ledger.secret"), "OPERATOR_KEY_FILE=" + filepath.Join(m.home, "operator.key"),
	}, "commandsvc"))
}

// launchNATS starts a nats-server alone, whatever the kind.
func (m *machine) launchNATS() {
	m.t.Helper()
	m.add(ledgertest.Launch(m.t, nil, "nats-server", "--config", filepath.Join(m.home, "nats.conf")))
}

func (m *machine) add(p *ledgertest.Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = append(m.running, p)
}

// kill sends SIGKILL to the programs.
func (m *machine) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.running {
		p.Signal(syscall.SIGKILL)
	}
}

// gone waits until the programs are dead.
func (m *machine) gone() {
	for _, p := range m.running {
		p.Kill()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = nil
}

// restore gives the machine its power back.
func (m *machine) restore() {
	m.t.Helper()
	m.gone()
	m.must(m.Restore())
}

// cutAfter takes the power from disk and programs at once, at the n-th step of the disk from now.
func (m *machine) cutAfter(n int, torn bool, gone func(Loss)) {
	m.CutAfter(n, torn, func(l Loss) {
		m.kill() // while the disk holds still: no program sees an error of it
		gone(l)
	})
}

// await waits until ready says nil, and returns false when the power goes before that.
func (m *machine) await(what string, ready func() error) bool {
	m.t.Helper()
	deadline := time.Now().Add(ledgertest.Patience)
	dark := m.Dark()
	for {
		err := ready()
		if err == nil {
			return true
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("not %s after %v: %v", what, ledgertest.Patience, err)
		}
		select {
		case <-dark:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// dead waits until the power is gone, and the programs.
func (m *machine) dead() {
	m.t.Helper()
	m.await("dark", func() error { return errors.New("the power is on") })
	m.gone()
}

// serving waits until commands are taken; false when the power goes before that.
func (m *machine) serving() bool {
	m.t.Helper()
	service := m.running[len(m.running)-1]
	return m.await("serving", func() error {
		response, err := http.Get(m.url + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		select {
		case <-service.Done():
			select {
			case <-m.Dark():
			default:
				m.t.Fatalf("it ended:\n%s", service.Output())
			}
		default:
		}
		return err
	})
}

func (m *machine) client() *ledgertest.Client {
	return &ledgertest.Client{Commands: m.url, Operator: m.operator}
}

// connect connects to nats-server once it is up.
func (m *machine) connect() *nats.Conn {
	m.t.Helper()
	var nc *nats.Conn
	m.await("connected", func() (err error) {
		nc, err = nats.Connect("nats://" + m.nats)
		return err
	})
	return nc
}

// customer is a tenant with a license, and what it was told.
type customer struct {
	tenant, key string
	acked       ledgertest.Acknowledged
	unknown     atomic.Int64 // requests that may have been done
	turns       [clients]int // of each client: how often it took a seat and gave it back
}

// customers makes one in each partition.
func (m *machine) customers() []*customer {
	m.t.Helper()
	made := make([]*customer, partitions)
	for i, left := 0, partitions; left > 0; i++ {
		c := &customer{tenant: fmt.Sprint("corp-", i)}
		if p := m.partition(c); made[p] == nil {
			made[p] = c
			_, c.key = m.client().License(m.t, c.tenant, seats, 300)
			left--
		}
	}
	return made
}

func (m *machine) partition(c *customer) eventstore.Partition {
	return eventstore.LedgerInfo{Partitions: partitions}.PartitionOf(domain.TenantID(c.tenant))
}

// load has the clients of c work until ctx ends, and returns a function that waits for them.
func (m *machine) load(ctx context.Context, cs []*customer) (wait func()) {
	var wg sync.WaitGroup
	for _, c := range cs {
		for i := range clients {
			wg.Go(func() {
				for ctx.Err() == nil {
					// A new name for the directory each time; but after a cut the same, which gets the seat that it has.
					if c.work(ctx, m.client(), fmt.Sprintf("u%d-%d", i, c.turns[i])) {
						c.turns[i]++
					}
				}
			})
		}
	}
	return wg.Wait
}

// work takes a seat, heartbeats and gives it back, and notes what it is told. It returns whether it came to the end.
func (c *customer) work(ctx context.Context, l *ledgertest.Client, user string) bool {
	ask := func(path string, body any) (ledgertest.Answer, bool) {
		a, err := l.Do(ctx, "POST", "/api/v1/licenses/"+path, c.key, body, nil)
		if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			c.unknown.Add(1)
		}
		return a, err == nil && (a.Status == http.StatusOK || a.Status == http.StatusCreated)
	}
	a, ok := ask("acquire", ledgertest.Holder(user))
	if !ok {
		return false
	}
	id := a.At("lease.id")
	c.acked.Acquired(id)
	for range 2 {
		a, ok := ask("heartbeat", ledgertest.Lease(id))
		until, err := time.Parse(time.RFC3339, a.At("lease.expires_at"))
		if !ok || err != nil {
			return false
		}
		c.acked.Heartbeat(id, until)
	}
	if _, ok := ask("release", ledgertest.Lease(id)); !ok {
		return false
	}
	c.acked.Released(id)
	return true
}

// done is what clients did and were told, in all.
type done struct{ acquired, heartbeats, released, unknown int }

func (d done) String() string {
	return fmt.Sprintf("%d acquires, %d heartbeats, %d releases acknowledged, %d outcomes unknown", d.acquired, d.heartbeats, d.released, d.unknown)
}

func count(cs []*customer) (d done) {
	for _, c := range cs {
		acquired, released := c.acked.Counts()
		d.acquired, d.released = d.acquired+acquired, d.released+released
		d.heartbeats, d.unknown = d.heartbeats+c.acked.Heartbeats(), d.unknown+int(c.unknown.Load())
	}
	return d
}

// broken returns the promises that the journal on the disk does not keep.
func (m *machine) broken(cs []*customer) []error {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), ledgertest.Patience)
	defer cancel()
	nc := m.connect()
	defer nc.Close()
	store, err := eventstore.OpenNATS(ctx, nc)
	if err != nil {
		return []error{fmt.Errorf("open the ledger: %w", err)}
	}
	var found []error
	for _, c := range cs {
		found = append(found, ledgertest.CheckJournal(ctx, store, m.partition(c), &c.acked, seats)...)
	}
	return found
}
