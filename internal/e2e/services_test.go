package e2e

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// services are the three services over a nats-server with credentials and a Postgres, each a process of its own.
type services struct {
	t                             testing.TB
	dir                           string
	natsURL, credentials          string
	postgres                      *embedded.Postgres
	operator                      string
	addr                          map[string]string // by service
	nats, command, project, query *ledgertest.Process
}

func startServices(t testing.TB) *services {
	t.Helper()
	s := &services{t: t, dir: t.TempDir(), addr: map[string]string{}}
	var err error
	s.startPostgres()
	t.Cleanup(func() { s.postgres.Stop(context.Background()) })
	_, s.operator, err = identity.LoadOrCreateOperatorKey(filepath.Join(s.dir, "operator.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.LoadOrCreateSecret(filepath.Join(s.dir, "ledger.secret")); err != nil {
		t.Fatal(err)
	}
	s.configureNATS()
	for _, name := range []string{"commandsvc", "projector", "querysvc"} {
		s.addr[name] = ledgertest.FreeAddr(t)
	}
	// In the wrong order: each waits for what it needs. The command service comes first without its witness, for which it would wait.
	if err := s.postgres.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.query, s.project, s.command = s.start("querysvc"), s.start("projector"), s.start("commandsvc", "DATABASE_URL=")
	s.startNATS()
	why := ""
	s.project.Await("waiting for Postgres", func() bool {
		response, err := http.Get("http://" + s.addr["projector"] + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		why = string(body)
		return response.StatusCode == http.StatusServiceUnavailable && strings.Contains(why, "starts when Postgres is there")
	}, func() string { return why })
	s.startPostgres()
	s.ready()
	return s
}

func (s *services) startPostgres() {
	s.t.Helper()
	var err error
	s.postgres, err = embedded.StartPostgres(s.t.Context(), embedded.PostgresOptions{Dir: filepath.Join(s.dir, "postgres"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
}

// configureNATS writes a server configuration that admits one account by credentials.
func (s *services) configureNATS() {
	s.t.Helper()
	check := func(err error) {
		if err != nil {
			s.t.Fatal(err)
		}
	}
	keys := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		pair, err := create()
		check(err)
		public, err := pair.PublicKey()
		check(err)
		return pair, public
	}
	operator, operatorID := keys(nkeys.CreateOperator)
	account, accountID := keys(nkeys.CreateAccount)
	_, systemID := keys(nkeys.CreateAccount)
	user, userID := keys(nkeys.CreateUser)

	operatorJWT, err := jwt.NewOperatorClaims(operatorID).Encode(operator)
	check(err)
	claims := jwt.NewAccountClaims(accountID)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := claims.Encode(operator)
	check(err)
	systemJWT, err := jwt.NewAccountClaims(systemID).Encode(operator)
	check(err)
	userJWT, err := jwt.NewUserClaims(userID).Encode(account)
	check(err)
	seed, err := user.Seed()
	check(err)
	credentials, err := jwt.FormatUserConfig(userJWT, seed)
	check(err)

	addr := ledgertest.FreeAddr(s.t)
	s.natsURL, s.credentials = "nats://"+addr, filepath.Join(s.dir, "ledger.creds")
	check(os.WriteFile(s.credentials, credentials, 0o600))
	config := fmt.Sprintf(`
listen: %q
operator: %q
resolver: MEMORY
system_account: %s
resolver_preload: { %s: %q, %s: %q }
jetstream: { store_dir: %q, sync_interval: always }
`, addr, operatorJWT, systemID, systemID, systemJWT, accountID, accountJWT, filepath.Join(s.dir, "nats"))
	check(os.WriteFile(filepath.Join(s.dir, "nats.conf"), []byte(config), 0o600))
}

func (s *services) startNATS() {
	s.t.Helper()
	s.nats = ledgertest.Launch(s.t, nil, "nats-server", "--config", filepath.Join(s.dir, "nats.conf"))
	s.nats.Await("connectable", func() bool {
		nc, err := nats.Connect(s.natsURL, nats.UserCredentials(s.credentials))
		if err != nil {
			return false
		}
		nc.Close()
		return true
	}, func() string { return "" })
}

func (s *services) start(name string, more ...string) *ledgertest.Process {
	s.t.Helper()
	return ledgertest.Launch(s.t, append([]string{
		"LISTEN_ADDR=" + s.addr[name], "NATS_URL=" + s.natsURL, "NATS_CREDENTIALS=" + s.credentials, "DATABASE_URL=" + s.postgres.URL(),
		"LEDGER_SECRET_FILE=" + filepath.Join(s.dir, "ledger.secret"), "OPERATOR_KEY_FILE=" + filepath.Join(s.dir, "operator.key"),
		"LEDGER_PARTITIONS=2", "LEDGER_CREATE=true",
	}, more...), name)
}

// ready waits until all three services are.
func (s *services) ready() {
	s.t.Helper()
	for name, p := range map[string]*ledgertest.Process{"commandsvc": s.command, "projector": s.project, "querysvc": s.query} {
		p.AwaitReady("http://" + s.addr[name])
	}
}

func (s *services) client() *ledgertest.Client {
	return &ledgertest.Client{Commands: "http://" + s.addr["commandsvc"], Queries: "http://" + s.addr["querysvc"], Operator: s.operator}
}

func TestThreeServices(t *testing.T) {
	t.Parallel()
	s := startServices(t)
	l := s.client()
	const seats = 10
	_, key := l.License(t, "acme", seats, 300)
	l.License(t, "beta", 3, 300) // in the other partition, or not: both have to work
	acked := &ledgertest.Acknowledged{}

	// Under load, each of them dies once and is started again. Clients go on as soon as they can.
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				client(ctx, l, key, fmt.Sprint("u", c), acked)
			}
		})
	}
	acquired := func() int {
		acquired, _ := acked.Counts()
		return acquired
	}
	progress := func(p *ledgertest.Process) {
		t.Helper()
		before := acquired()
		p.Await("making progress", func() bool { return acquired() > before+50 }, func() string { return "" })
	}
	progress(s.command)
	s.command.Kill()
	s.command = s.start("commandsvc")
	progress(s.command)
	s.project.Kill()
	s.project = s.start("projector")
	progress(s.command)
	s.query.Kill()
	s.query = s.start("querysvc")
	progress(s.command)
	s.nats.Kill()
	s.startNATS()
	progress(s.command)
	s.ready()
	stop()
	wg.Wait()

	// What a client reads after its own write is there.
	done := l.Must(t, 201, "POST", "/api/v1/tenants", l.Operator, map[string]any{"id": "last", "name": "Last"})
	if got := l.Get(t, "/api/v1/tenants/last", done.Position); got.At("tenant.name") != "Last" {
		t.Fatalf("read after write: %v", got.Body)
	}
	s.query.Await("showing what staff read", func() bool {
		return len(l.Get(t, "/api/v1/tenants/last/timeline?q=type:staff.read", "").Items()) > 0
	}, func() string { return "" })
	s.check(acked, seats)

	for name, p := range map[string]*ledgertest.Process{"commandsvc": s.command, "projector": s.project, "querysvc": s.query} {
		metrics, err := http.Get("http://" + s.addr[name] + "/metrics")
		if err != nil || metrics.StatusCode != http.StatusOK {
			t.Errorf("%s /metrics: %v", name, err)
		}
		if code := p.Stop(); code != 0 {
			t.Errorf("%s ended with %d:\n%s", name, code, p.Output())
		}
		for line := range strings.Lines(p.Output()) {
			if !strings.HasPrefix(line, "{") {
				t.Errorf("%s logged something other than JSON: %s", name, line)
			}
		}
	}
}

// check compares acknowledgements, journals and read models.
func (s *services) check(acked *ledgertest.Acknowledged, seats int) {
	t := s.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), ledgertest.Patience)
	defer cancel()
	nc, err := nats.Connect(s.natsURL, append(eventstore.NATSOptions("test"), nats.UserCredentials(s.credentials))...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	store, err := eventstore.OpenNATS(ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	if store.Info().Partitions != 2 {
		t.Fatalf("%d partitions, want 2", store.Info().Partitions)
	}
	ledgertest.VerifyJournal(ctx, t, store, store.Info().PartitionOf("acme"), acked, seats)
	db, err := pgxpool.New(ctx, s.postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	verifyRows(ctx, t, db, store)
}

func TestServicesTellWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, variables := range map[string][]string{
		"commandsvc": {"NATS_URL", "LEDGER_SECRET_FILE", "OPERATOR_KEY_FILE"},
		"projector":  {"NATS_URL", "DATABASE_URL"},
		"querysvc":   {"NATS_URL", "DATABASE_URL", "LEDGER_SECRET_FILE", "OPERATOR_KEY_FILE"},
	} {
		p := ledgertest.Launch(t, nil, name)
		select {
		case <-p.Done():
		case <-time.After(ledgertest.Patience):
			t.Fatalf("%s goes on without its configuration", name)
		}
		for _, variable := range variables {
			if !strings.Contains(p.Output(), variable) {
				t.Errorf("%s does not name %s:\n%s", name, variable, p.Output())
			}
		}
		help := ledgertest.Launch(t, nil, name, "--help")
		<-help.Done()
		if help.ExitCode() != 0 || !strings.Contains(help.Output(), variables[0]) {
			t.Errorf("%s --help: %s", name, help.Output())
		}
	}
}

// The configuration that is shipped is one that the server takes.
func TestShippedNATSConfiguration(t *testing.T) {
	t.Parallel()
	p := ledgertest.Launch(t, []string{"COMMANDSVC_PASSWORD=a", "PROJECTOR_PASSWORD=b", "QUERYSVC_PASSWORD=c"},
		"nats-server", "-t", "--config", "../../deploy/nats-server.conf")
	<-p.Done()
	if p.ExitCode() != 0 {
		t.Fatalf("nats-server refuses it:\n%s", p.Output())
	}
}
