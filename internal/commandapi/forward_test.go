package commandapi_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/commandapi"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// ownedBy is a ledger that another process owns.
type ownedBy struct {
	commandapi.Ledger

	mu      sync.Mutex
	owner   string
	changed chan struct{}
}

func (l *ownedBy) Execute(context.Context, eventstore.Request) (eventstore.Result, error) {
	return eventstore.Result{}, eventstore.ErrElsewhere
}

func (l *ownedBy) Ownership(domain.TenantID) (eventstore.Ownership, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return eventstore.Ownership{Owner: l.owner}, l.changed
}

func (l *ownedBy) set(owner string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owner = owner
	close(l.changed)
	l.changed = make(chan struct{})
}

// process answers what is handed on to the process of that name.
func process(t *testing.T, nc *nats.Conn, name string, answer func(*nats.Msg)) {
	t.Helper()
	if _, err := nc.Subscribe("command."+name, answer); err != nil {
		t.Fatal(err)
	}
}

// refuse answers 503, with further headers.
func refuse(t *testing.T, headers ...string) func(*nats.Msg) {
	return func(msg *nats.Msg) {
		reply := nats.NewMsg(msg.Reply)
		reply.Header.Set("Ledger-Status", strconv.Itoa(http.StatusServiceUnavailable))
		for _, name := range headers {
			reply.Header.Set(name, "true")
		}
		if err := msg.RespondMsg(reply); err != nil {
			t.Error(err)
		}
	}
}

// A request that one owner took and did not answer may be done. No later owner, and no lack of one, makes that undone.
func TestWhatAnOwnerTookIsNeverSaidToBeNotDone(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]string{"the next owner is overloaded": "busy", "the next owner stops": "retired", "the next owner is away": "nobody"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := embedded.StartNATS(embedded.NATSOptions{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Shutdown)
			nc, err := server.Connect()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)

			ledger := &ownedBy{owner: "silent", changed: make(chan struct{})}
			process(t, nc, "silent", func(*nats.Msg) { ledger.set(next) })
			process(t, nc, "busy", refuse(t))
			process(t, nc, "retired", refuse(t, "Ledger-Not-Done"))

			operator, err := identity.ParseOperatorKey(operatorKey)
			if err != nil {
				t.Fatal(err)
			}
			registry, log := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			api := commandapi.New(ledger, secret, operator, registry)
			api.Connect(nc, "this one", log, registry)
			router := serve.NewRouter()
			api.Routes(router)
			s := &service{t: t, handler: serve.Observe(router, log, serve.NewMetrics(registry))}
			key := identity.NewLicenseKeys(secret).Text("acme", "000000000001")
			s.want(s.call("POST", releasePath, key, `{"lease":"lse_1"}`), http.StatusServiceUnavailable, "outcome_unknown")
		})
	}
}

// failsAfter is a ledger that does one command, and no more.
type failsAfter struct {
	commandapi.Ledger
	with error
	done bool
}

func (l *failsAfter) Execute(context.Context, eventstore.Request) (eventstore.Result, error) {
	if l.done {
		return eventstore.Result{}, l.with
	}
	l.done = true
	return eventstore.Result{}, nil
}

// A release of many leases is done in parts, of which one is done here.
func TestWhatIsDoneInPartIsNotSaidToBeNotDone(t *testing.T) {
	t.Parallel()
	operator, err := identity.ParseOperatorKey(operatorKey)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range 251 {
		ids = append(ids, fmt.Sprintf("%q", fmt.Sprint("lse_", i)))
	}
	key := identity.NewLicenseKeys(secret).Text("acme", "000000000001")
	for _, with := range []error{eventstore.ErrOverloaded, eventstore.ErrStopping, eventstore.ErrElsewhere} {
		registry := prometheus.NewRegistry()
		router := serve.NewRouter()
		commandapi.New(&failsAfter{with: with}, secret, operator, registry).Routes(router)
		s := &service{t: t, handler: serve.Observe(router, slog.New(slog.DiscardHandler), serve.NewMetrics(registry))}
		s.want(s.call("POST", releasePath, key, `{"leases":[`+strings.Join(ids, ",")+`]}`), http.StatusServiceUnavailable, "outcome_unknown")
	}
}
