package queryapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// fixture is a ledger, its read models and the API on a real server.
type fixture struct {
	*projectionstest.History
	store  *eventstoretest.Store
	db     *pgxpool.Pool // as the owner of the schema
	rows   *pgxpool.Pool // as the projector
	nats   *nats.Conn
	tokens *eventstore.Tokens
	api    *API
	server *httptest.Server
	looks  chan *nats.Msg // what the command side was told that staff reads
}

// tenantKeys makes the keys of tenants' people.
var tenantKeys = identity.NewTenantKeys(identity.Secret(bytes.Repeat([]byte{1}, 32)))

const operatorKey = "op_0123456789012345678901234567890123456789012"

func setup(t *testing.T) *fixture { return setupWith(t, 2, func(*Options) {}) }

func setupWith(t *testing.T, partitions int, adjust func(*Options)) *fixture {
	t.Helper()
	t.Parallel()
	store := eventstoretest.NewStore(partitions)
	f := &fixture{
		History: projectionstest.NewHistory(t, store), store: store, db: projectionstest.New(t),
		nats: natsServer(t), tokens: eventstore.NewTokens([]byte("secret")),
	}
	f.rows = projectionstest.As(t, f.db, projections.ProjectorRole)
	operator, err := identity.ParseOperatorKey(operatorKey)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		DB: projectionstest.As(t, f.db, projections.QueryRole), Keys: tenantKeys, Ledger: store.Info(), Journal: store.Journal, Tokens: f.tokens, Operator: operator, Seal: identity.NewSeal(identity.Secret(bytes.Repeat([]byte{1}, 32))), NATS: f.nats,
		Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	adjust(&o)
	f.api = New(o)
	f.takeLooks(t)
	router := serve.NewRouter()
	f.api.Routes(router)
	f.server = httptest.NewUnstartedServer(router)
	f.server.Config.ReadTimeout = 100 * time.Millisecond // a live stream lives longer
	f.server.Start()
	t.Cleanup(f.server.Close)
	return f
}

// takeLooks stands in for the command side.
func (f *fixture) takeLooks(t *testing.T) {
	t.Helper()
	f.looks = make(chan *nats.Msg, 10_000)
	if _, err := f.nats.Subscribe(access.LooksSubject, func(msg *nats.Msg) {
		f.looks <- msg
		msg.RespondMsg(&nats.Msg{Header: nats.Header{access.HeaderStatus: {"200"}}})
	}); err != nil {
		t.Fatal(err)
	}
}

func natsServer(t *testing.T) *nats.Conn {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// deadline ends a test that waits for what never comes.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// project brings the read models to the end of the journal and publishes what changed.
func (f *fixture) project(t *testing.T) {
	t.Helper()
	f.projectWith(t, projections.NATSPublisher(f.nats))
}

func (f *fixture) projectWith(t *testing.T, publish projections.Publisher) {
	t.Helper()
	o := projections.Options{DB: f.rows, Store: f.store, Publish: publish, BatchMax: 1, Log: f.api.log}
	if err := projections.NewRunner(o).CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

// commit stores and projects what waits and returns the token after it.
func (f *fixture) commit(t *testing.T) string {
	t.Helper()
	token := f.tokens.Token(f.Commit()...)
	f.project(t)
	return token
}

// reply is an answer of the API.
type reply struct {
	status int
	header http.Header
	body   string
}

// get asks the API as the operator. Headers are pairs of name and value.
func (f *fixture) get(t *testing.T, path string, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(deadline(t), http.MethodGet, f.server.URL+"/api/v1"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+operatorKey)
	r.Header.Set(reasonHeader, "test")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := f.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, string(body)}
}

// ok asks and decodes an answer that must be 200 and complete: its position is that of the header.
func ok[T any](t *testing.T, f *fixture, path string, headers ...string) T {
	t.Helper()
	answer := f.get(t, path, headers...)
	if answer.status != http.StatusOK {
		t.Fatalf("%s: %d %s", path, answer.status, answer.body)
	}
	var v T
	decoder := json.NewDecoder(strings.NewReader(answer.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%s: %v in %s", path, err, answer.body)
	}
	var position struct{ Position *string }
	if err := json.Unmarshal([]byte(answer.body), &position); err != nil {
		t.Fatal(err)
	}
	header := answer.header.Get("Ledger-Position")
	if header == "" || (position.Position != nil && *position.Position != header) {
		t.Errorf("%s: Ledger-Position %q in %s", path, header, answer.body)
	}
	return v
}

// refused asks and checks the refusal.
func (f *fixture) refused(t *testing.T, status int, code, field, path string, headers ...string) reply {
	t.Helper()
	answer := f.get(t, path, headers...)
	var p serve.Problem
	if err := json.Unmarshal([]byte(answer.body), &p); err != nil {
		t.Fatalf("%s: %v in %s", path, err, answer.body)
	}
	if answer.status != status || p.Code != code || p.Field != field {
		t.Errorf("%s: %d %s of %q, not %d %s of %q", path, answer.status, p.Code, p.Field, status, code, field)
	}
	return answer
}

// example is two tenants of two partitions.
func (f *fixture) example(t *testing.T) {
	t.Helper()
	f.Name("acme", "u_ada", eventstore.UserName, "ada")
	f.Name("acme", "m_1", eventstore.MachineName, "host-1")
	f.Create("acme", "lic_1", 2)
	f.Issue("acme", "lic_2", 5)
	f.Create("globex", "lic_1", 3)
	f.Acquire("acme", "lic_1", "ada")
	f.Acquire("globex", "lic_1", "eve")
	f.Commit()
	f.Acquire("acme", "lic_1", "bob")
	f.Acquire("acme", "lic_1", "cem") // denied
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_3"}})
	f.Acquire("acme", "lic_2", "ada")
	f.commit(t)
}
