package commandapi_test

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/identity"
)

// What a query service says that staff reads is in the journal when it is answered, once for each key; nobody else may say so.
func TestLooks(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	s.license("acme", 1, 300)
	nc := takeLooks(t, s)
	seal := identity.NewSeal(secret)
	say := func(body, key string, seal identity.Seal) string {
		t.Helper()
		msg := nats.NewMsg(access.LooksSubject)
		msg.Data = []byte(body)
		msg.Header.Set(access.HeaderSeal, seal.Of(msg.Data))
		msg.Header.Set("Idempotency-Key", key)
		for {
			reply, err := nc.RequestMsgWithContext(t.Context(), msg)
			if err == nats.ErrNoResponders {
				continue // it begins to listen
			}
			if err != nil {
				t.Fatal(err)
			}
			return reply.Header.Get(access.HeaderStatus)
		}
	}
	const look = `{"tenant":"acme","permission":"license.read","reason":"ticket 4711"}`
	before := s.last()
	for range 3 {
		if status := say(look, "look-1", seal); status != "200" {
			t.Fatalf("recorded: %s", status)
		}
	}
	if after := s.last(); after != before+1 {
		t.Errorf("%d commits for one look", after-before)
	}
	if status := say(look, "look-2", seal); status != "200" || s.last() != before+2 {
		t.Errorf("in the next hour: %s, %d commits", status, s.last()-before)
	}
	if status := say(look, "look-3", identity.NewSeal(identity.Secret(strings.Repeat("x", 32)))); status != "401" {
		t.Errorf("with another seal: %s", status)
	}
	if status := say(strings.Replace(look, "acme", "nobody", 1), "look-4", seal); status != "404" {
		t.Errorf("of a tenant that is not there: %s", status)
	}
	if n := s.last(); n != before+2 {
		t.Errorf("refused, and %d commits", n-before-2)
	}
	events := eventsOf(t, s.store, "acme")
	for _, e := range events[len(events)-2:] {
		if said, ok := e.Data.(*domain.StaffRead); !ok || *said != (domain.StaffRead{Permission: "license.read", Reason: "ticket 4711"}) || e.Actor != "operator" {
			t.Errorf("recorded as %+v by %s", e.Data, e.Actor)
		}
	}
	// Of all tenants at once: in a chain of the staff's own, which nobody can write to otherwise.
	for range 2 {
		if status := say(strings.Replace(look, "acme", "_staff", 1), "look-5", seal); status != "200" || s.last() != before+3 {
			t.Errorf("of all tenants: %s, %d commits", status, s.last()-before)
		}
	}
	s.want(s.call("POST", "/api/v1/tenants", operatorKey, `{"id":"_staff","name":"Staff"}`), 400, "invalid_request")
	s.want(s.call("POST", "/api/v1/tenants/_staff/licenses", operatorKey, `{"product":"cad","seats":1}`), 404, "tenant_not_found")
	if events := eventsOf(t, s.store, domain.Staff); len(events) != 1 || events[0].Version != 1 || *events[0].Prev != (eventstore.Hash{}) {
		t.Errorf("of the staff: %+v", events)
	}
}

// No more looks are on their way than there is room for; each makes room when it is answered.
func TestSoManyLooksAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	s.license("acme", 1, 300)
	nc := takeLooks(t, s)
	replies := make(chan *nats.Msg, 2000)
	inbox := nats.NewInbox()
	if _, err := nc.ChanSubscribe(inbox, replies); err != nil {
		t.Fatal(err)
	}
	ask := func(key int) {
		msg := nats.NewMsg(access.LooksSubject)
		msg.Reply, msg.Data = inbox, []byte(`{"tenant":"acme","permission":"license.read","reason":"ticket 4711"}`)
		msg.Header.Set(access.HeaderSeal, identity.NewSeal(secret).Of(msg.Data))
		msg.Header.Set("Idempotency-Key", strconv.Itoa(key))
		if err := nc.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	answered := func() *nats.Msg { return <-replies }
	for ask(0); answered().Header.Get(access.HeaderStatus) != "200"; ask(0) {
		// it begins to listen
	}
	journal := s.store.Journal(0).(*eventstoretest.Log)
	journal.Fail(eventstoretest.Held)
	const many = 1100
	for i := range many {
		ask(i + 1)
	}
	if first := answered(); !strings.Contains(string(first.Data), `"overloaded"`) {
		t.Errorf("while nothing is stored: %v %s", first.Header, first.Data)
	}
	journal.Release()
	for range many - 1 {
		answered()
	}
	ask(many + 1)
	if last := answered(); last.Header.Get(access.HeaderStatus) != "200" {
		t.Errorf("after all were answered: %v %s", last.Header, last.Data)
	}
}

// takeLooks lets s take looks until the test ends.
func takeLooks(t *testing.T, s *service) *nats.Conn {
	t.Helper()
	ns, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(ns.Shutdown)
	nc, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.api.TakeLooks(ctx, nc, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return nc
}
