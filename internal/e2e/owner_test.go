package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// pair is two command services over one nats-server with the configuration that is shipped, and load on both.
type pair struct {
	t        *testing.T
	dir      string
	nats     string // address with host and port
	operator string
	addr     [2]string
	process  [2]*ledgertest.Process
	clients  [2]*ledgertest.Client
	tenants  []*loadedTenant

	mu       sync.Mutex
	problems map[string]int // retriable answers, by code; connection errors as "connection"
}

// loadedTenant is the one tenant of a partition, with what its clients were told.
type loadedTenant struct {
	id, key        string
	acked          ledgertest.Acknowledged
	issued, undone int // licenses issued: acknowledged; outcome unknown
}

const pairPartitions, pairClients = 4, 4

func startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, dir: t.TempDir(), nats: ledgertest.FreeAddr(t), problems: map[string]int{}}
	shipped, err := os.ReadFile("../../deploy/nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("127.0.0.1:4222", p.nats, "/var/lib/nats", filepath.Join(p.dir, "nats")).Replace(string(shipped))
	if err := os.WriteFile(filepath.Join(p.dir, "nats.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ledgertest.Launch(t, []string{"COMMANDSVC_PASSWORD=a", "PROJECTOR_PASSWORD=b", "QUERYSVC_PASSWORD=c"},
		"nats-server", "--config", filepath.Join(p.dir, "nats.conf"))
	if _, p.operator, err = identity.LoadOrCreateOperatorKey(filepath.Join(p.dir, "operator.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.LoadOrCreateSecret(filepath.Join(p.dir, "ledger.secret")); err != nil {
		t.Fatal(err)
	}
	for i := range p.addr {
		p.addr[i] = ledgertest.FreeAddr(t)
		p.clients[i] = &ledgertest.Client{Commands: "http://" + p.addr[i], Operator: p.operator}
		p.start(i) // the first one owns all partitions
	}
	info := eventstore.LedgerInfo{Partitions: pairPartitions}
	for partition := range pairPartitions {
		id := "tenant-0"
		for n := 0; info.PartitionOf(domain.TenantID(id)) != eventstore.Partition(partition); n++ {
			id = fmt.Sprint("tenant-", n)
		}
		_, key := p.clients[partition%2].License(t, id, pairClients, 300)
		p.tenants = append(p.tenants, &loadedTenant{id: id, key: key})
	}
	return p
}

func (p *pair) url(user string) string { return fmt.Sprintf("nats://%s@%s", user, p.nats) }

// start starts one of the two and waits until it is ready.
func (p *pair) start(i int) {
	p.t.Helper()
	p.process[i] = ledgertest.Launch(p.t, []string{
		"LISTEN_ADDR=" + p.addr[i], "LEDGER_CREATE=true", "NATS_URL=" + p.url("commandsvc:a"), fmt.Sprint("LEDGER_PARTITIONS=", pairPartitions),
		"LEDGER_SECRET_FILE=" + filepath.Join(p.dir, "ledger.secret"), "OPERATOR_KEY_FILE=" + filepath.Join(p.dir, "operator.key"),
	}, "commandsvc")
	p.process[i].AwaitReady("http://" + p.addr[i])
}

// load has clients take, keep and give back seats of all tenants at both addresses, until the returned function is called.
func (p *pair) load() (stop func()) {
	ctx, cancel := context.WithCancel(p.t.Context())
	var wg sync.WaitGroup
	for _, tenant := range p.tenants {
		for c := range pairClients {
			wg.Go(func() {
				for ctx.Err() == nil {
					p.session(ctx, tenant, fmt.Sprint("u", c), c%2)
				}
			})
		}
		wg.Go(func() {
			for at := 0; ctx.Err() == nil; at = 1 - at {
				p.issue(ctx, tenant, at)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// session is one lease of a user. Nobody else has this user's lease, and there is a seat for each: every answer but a
// retriable 503 has to be a yes.
func (p *pair) session(ctx context.Context, tenant *loadedTenant, user string, at int) {
	id := p.insist(ctx, tenant, at, "acquire", ledgertest.Holder(user)).At("lease.id")
	if ctx.Err() != nil {
		return
	}
	tenant.acked.Acquired(id)
	p.insist(ctx, tenant, 1-at, "heartbeat", ledgertest.Lease(id))
	if p.insist(ctx, tenant, at, "release", ledgertest.Lease(id)); ctx.Err() == nil {
		tenant.acked.Released(id)
	}
}

// insist repeats one request, with one Idempotency-Key, at this address and the other one until it is answered.
func (p *pair) insist(ctx context.Context, tenant *loadedTenant, at int, call string, body map[string]any) ledgertest.Answer {
	headers := map[string]string{"Idempotency-Key": uuid.NewString()}
	for try := at; ctx.Err() == nil; try++ {
		a, err := p.clients[try%2].Do(ctx, "POST", "/api/v1/licenses/"+call, tenant.key, body, headers)
		if err == nil {
			if a.Status != 200 && a.Status != 201 {
				p.t.Errorf("%s of %s %v: %d %v", call, tenant.id, body, a.Status, a.Body)
			}
			return a
		}
		p.note(ctx, a, err)
	}
	return ledgertest.Answer{}
}

// issue issues a license without an Idempotency-Key: done twice it would leave two.
func (p *pair) issue(ctx context.Context, tenant *loadedTenant, at int) {
	a, err := p.clients[at].Do(ctx, "POST", "/api/v1/tenants/"+tenant.id+"/licenses", p.operator, map[string]any{"product": "cad", "seats": 0}, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil && a.Status == 201:
		tenant.issued++
	case err == nil:
		p.t.Errorf("issue of %s: %d %v", tenant.id, a.Status, a.Body)
	case a.Code() != "no_owner" && a.Code() != "overloaded":
		tenant.undone++
	}
}

// note counts an answer that tells the client to try again.
func (p *pair) note(ctx context.Context, a ledgertest.Answer, err error) {
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case a.Status == 0:
		p.problems["connection"]++
	case a.Status == http.StatusServiceUnavailable:
		p.problems[a.Code()]++
	default:
		p.t.Errorf("not retriable: %v", err)
	}
}

// progress waits until every partition has answered an acquire at this address that came after the call, and returns how
// long that took.
func (p *pair) progress(at int) time.Duration {
	p.t.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	for _, tenant := range p.tenants {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(p.t.Context(), ledgertest.Patience)
			defer cancel()
			for {
				// The user of a client that runs: it has the lease already, or gets it, and gives it back.
				_, err := p.clients[at].Do(ctx, "POST", "/api/v1/licenses/acquire", tenant.key, ledgertest.Holder("u0"), nil)
				if err == nil {
					return
				}
				if ctx.Err() != nil {
					p.t.Errorf("no acquire of %s was answered: %v", tenant.id, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// verify checks each partition against what clients were told.
func (p *pair) verify() {
	t := p.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), ledgertest.Patience)
	defer cancel()
	nc, err := nats.Connect(p.url("commandsvc:a"), eventstore.NATSOptions("test")...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	store, err := eventstore.OpenNATS(ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	acquires, epochs, licenses := 0, 0, 0
	for partition, tenant := range p.tenants {
		ledgertest.VerifyJournal(ctx, t, store, eventstore.Partition(partition), &tenant.acked, pairClients)
		log := store.Journal(eventstore.Partition(partition))
		last, err := log.Last(ctx)
		if err != nil {
			t.Fatal(err)
		}
		issued := -1 // the one with the seats
		err = eventstore.NewState().FoldUpTo(ctx, log, last, func(_ eventstore.Checkpoint, c eventstore.Commit) {
			slices, _ := c.Decode()
			for _, s := range slices {
				for _, e := range s.Events {
					switch e.Data.(type) {
					case *domain.LicenseIssued:
						issued++
					case *eventstore.WriterEpochStarted:
						epochs++
					}
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if issued < tenant.issued || issued > tenant.issued+tenant.undone {
			t.Errorf("%s: %d licenses in the journal, %d acknowledged and %d unknown", tenant.id, issued, tenant.issued, tenant.undone)
		}
		acquired, _ := tenant.acked.Counts()
		acquires, licenses = acquires+acquired, licenses+tenant.issued
	}
	t.Logf("%d acquires and %d licenses acknowledged, %d epochs, answers to try again: %v", acquires, licenses, epochs, p.problems)
	if acquires == 0 || licenses == 0 {
		t.Error("nothing was acknowledged")
	}
}

// The owner is killed: the other takes over, and nothing that was acknowledged is lost or done twice.
func TestOwnerIsKilled(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	stop := p.load()
	for round := range 2 {
		owner := round % 2
		p.progress(0)
		p.progress(1)
		p.process[owner].Kill()
		t.Logf("from the kill until the other process had answered an acquire of each partition: %v", p.progress(1-owner))
		p.start(owner)
	}
	stop()
	p.verify()
}

// The owner is paused until the other has taken over, and goes on: it must not answer from what it knew.
func TestOwnerIsPaused(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	stop := p.load()
	p.progress(0)
	p.progress(1)
	stop()
	p.process[0].Signal(syscall.SIGSTOP) // with nothing in flight whose loss would tell it
	t.Logf("from the pause until the other process had answered an acquire of each partition: %v", p.progress(1))

	// Leases that the paused process has never heard of, and requests for them that wait for it to go on.
	var wg sync.WaitGroup
	for _, tenant := range p.tenants {
		for range 8 {
			id := p.insist(t.Context(), tenant, 1, "acquire", ledgertest.Holder("u0")).At("lease.id")
			tenant.acked.Acquired(id)
			wg.Go(func() {
				for {
					a, err := p.clients[0].Do(t.Context(), "POST", "/api/v1/licenses/heartbeat", tenant.key, ledgertest.Lease(id), nil)
					if err == nil && a.Status == 200 {
						return
					}
					if a.Status != http.StatusServiceUnavailable {
						t.Errorf("heartbeat of a lease that the paused process had not heard of: %d %v %v", a.Status, a.Body, err)
						return
					}
				}
			})
		}
	}
	p.process[0].Signal(syscall.SIGCONT)
	wg.Wait()
	p.process[0].Await("stepping down", func() bool {
		return strings.Count(p.process[0].Output(), "another process owns the partition") >= pairPartitions
	}, func() string { return "" })
	stop = p.load()
	p.progress(0)
	p.progress(1)
	stop()
	p.verify()
}

// Both are stopped and started in turn under load: no request fails, but for those that a closing connection lost, and
// these are repeated at the other address.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	stop := p.load()
	for round := range 4 {
		i := round % 2
		p.progress(0)
		p.progress(1)
		if code := p.process[i].Stop(); code != 0 {
			t.Errorf("ended with %d", code)
		}
		t.Logf("from the end of one process until the other had answered an acquire of each partition: %v", p.progress(1-i))
		p.start(i)
	}
	p.progress(0)
	stop()
	p.verify()
	for code, n := range p.problems {
		// Whoever asks one process only hears that it is not there, or is only just starting; who asks through readiness does not.
		if code != "connection" && code != "starting" {
			t.Errorf("%d requests were answered with %s", n, code)
		}
	}
}

// With the configuration that is shipped nobody but a command service can see, ask or answer what it is asked, or change
// who owns what.
func TestOnlyCommandServicesHandRequestsOn(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	for _, user := range []string{"projector:b", "querysvc:c"} {
		for _, subject := range []string{"command.>", "_INBOX_commandsvc.>"} {
			if err := refusedBy(t, p.url(user), func(nc *nats.Conn) error { _, err := nc.SubscribeSync(subject); return err }); !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s listens on %s: %v", user, subject, err)
			}
		}
		for _, subject := range []string{"command.anybody", "$KV.LEDGER_OWNERS.00", "$KV.LEDGER.ledger"} {
			if err := refusedBy(t, p.url(user), func(nc *nats.Conn) error { return nc.Publish(subject, nil) }); !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s publishes on %s: %v", user, subject, err)
			}
		}
	}
}

// refusedBy returns the error that the server answers f with.
func refusedBy(t *testing.T, url string, f func(*nats.Conn) error) error {
	t.Helper()
	refused := make(chan error, 1)
	nc, err := nats.Connect(url, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := f(nc); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		return err
	case <-time.After(ledgertest.Patience / 10):
		return nil
	}
}
