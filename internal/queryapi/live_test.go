package queryapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// client is one open live stream.
type client struct {
	t      *testing.T
	lines  *bufio.Scanner
	header http.Header
	close  func()
}

func (f *fixture) live(t *testing.T, tenant string) *client {
	t.Helper()
	return f.liveAt(t, f.server.URL, tenant)
}

func (f *fixture) liveAt(t *testing.T, base, tenant string) *client {
	t.Helper()
	return f.resumeAt(t, base, tenant, "")
}

// resume opens a stream again, after the event with that id.
func (f *fixture) resume(t *testing.T, tenant, id string) *client {
	t.Helper()
	c := f.resumeAt(t, f.server.URL, tenant, id)
	if first, _ := c.next(); first.retry != "2000" {
		t.Errorf("the stream begins with %+v", first)
	}
	return c
}

func (f *fixture) resumeAt(t *testing.T, base, tenant, id string) *client {
	t.Helper()
	r, err := http.NewRequestWithContext(deadline(t), http.MethodGet, base+"/api/v1/tenants/"+tenant+"/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+operatorKey)
	r.Header.Set(reasonHeader, "test")
	if id != "" {
		r.Header.Set("Last-Event-ID", id)
	}
	response, err := (&http.Client{Transport: &http.Transport{}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("live: %s", response.Status)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 10<<20)
	c := &client{t: t, lines: lines, header: response.Header, close: func() { response.Body.Close() }}
	t.Cleanup(c.close)
	return c
}

// frame is one server-sent event.
type frame struct{ id, event, data, retry string }

// next reads one event; ok is false at the end of the stream.
func (c *client) next() (f frame, ok bool) {
	c.t.Helper()
	for c.lines.Scan() {
		if c.lines.Text() == "" {
			return f, true
		}
		name, value, _ := strings.Cut(c.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			f.id = value
		case "event":
			f.event = value
		case "data":
			f.data = value
		case "retry":
			f.retry = value
		default:
			c.t.Fatalf("not a field of an event: %q", c.lines.Text())
		}
	}
	return frame{}, false
}

// expect reads the next event that is no ping.
func (c *client) expect(event string) frame {
	c.t.Helper()
	for {
		f, ok := c.next()
		if !ok {
			c.t.Fatalf("the stream ended before a %s: %v", event, c.lines.Err())
		}
		if f.event == "ping" && event != "ping" {
			continue
		}
		if f.event != event {
			c.t.Fatalf("%s instead of %s: %s", f.event, event, f.data)
		}
		return f
	}
}

func (c *client) snapshot() api.LiveSnapshot {
	c.t.Helper()
	return decoded[api.LiveSnapshot](c.t, c.expect("snapshot"))
}

func (c *client) change() api.LiveChange {
	c.t.Helper()
	return decoded[api.LiveChange](c.t, c.expect("change"))
}

func decoded[T any](t *testing.T, f frame) T {
	t.Helper()
	var v T
	decoder := json.NewDecoder(strings.NewReader(f.data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, f.data)
	}
	if position, version, _ := strings.Cut(f.id, ":"); !strings.Contains(f.data, `"position":"`+position+`"`) || version == "" {
		t.Errorf("the id %s is not of the position: %s", f.id, f.data)
	}
	return v
}

// open reads the begin of a stream.
func (f *fixture) open(t *testing.T, tenant string) (*client, api.LiveSnapshot) {
	t.Helper()
	c := f.live(t, tenant)
	if first, _ := c.next(); first.retry != "2000" {
		t.Errorf("the stream begins with %+v", first)
	}
	return c, c.snapshot()
}

func TestLive(t *testing.T) {
	f := setup(t)
	f.example(t)
	c, s := f.open(t, "acme")
	if c.header.Get("Content-Type") != "text/event-stream" || c.header.Get("Cache-Control") != "no-store" || c.header.Get("X-Accel-Buffering") != "no" {
		t.Errorf("headers: %v", c.header)
	}
	if s.Tenant.Name != "The acme" || len(s.Licenses) != 2 || len(s.Leases) != 2 || s.Leases[1].User != "ada" || s.LeasesMore ||
		len(s.Events) != 8 || s.Events[0].Version != "8" || s.Names["u_ada"] != "ada" || !s.Time.Equal(f.Now.Add(-time.Second)) {
		t.Errorf("snapshot: %+v", s)
	}
	if s.Position != f.get(t, "/tenants/acme").header.Get("Ledger-Position") {
		t.Error("the snapshot has another position than the rows")
	}
	f.Acquire("acme", "lic_2", "bob")
	token := f.commit(t)
	change := c.change()
	if change.Position != token || len(change.Leases) != 1 || change.Leases[0].State != "active" || len(change.Licenses) != 1 ||
		change.Licenses[0].InUse != 2 || len(change.Events) != 1 || change.Tenant != nil {
		t.Errorf("change: %+v", change)
	}
	f.Do("globex", domain.RenameTenant{Name: "x"}) // nobody here is told
	f.commit(t)
	f.Do("acme", domain.RenameTenant{Name: "Acme"})
	f.commit(t)
	if change := c.change(); change.Tenant == nil || change.Tenant.Name != "Acme" {
		t.Errorf("change: %+v", change)
	}
}

func TestLiveGapGivesASnapshot(t *testing.T) {
	f := setup(t)
	f.example(t)
	c, _ := f.open(t, "acme")
	f.Do("acme", domain.RenameTenant{Name: "lost"})
	f.Commit()
	f.projectWith(t, func(domain.TenantID, []byte) error { return errors.New("lost") })
	f.Do("acme", domain.RenameTenant{Name: "after"})
	f.commit(t)
	if s := c.snapshot(); s.Tenant.Name != "after" {
		t.Errorf("snapshot: %+v", s.Tenant)
	}
	f.Do("acme", domain.RenameTenant{Name: "then"})
	f.commit(t)
	if change := c.change(); change.Tenant.Name != "then" {
		t.Errorf("change: %+v", change.Tenant)
	}
}

func TestLiveDropsWhatTheSnapshotHolds(t *testing.T) {
	f := setup(t)
	f.example(t)
	var old [][]byte
	f.Do("acme", domain.RenameTenant{Name: "old"})
	f.Commit()
	f.projectWith(t, func(_ domain.TenantID, payload []byte) error { old = append(old, payload); return nil })
	c, _ := f.open(t, "acme")
	for _, payload := range append(old, []byte("{")) { // and what can not be read is a gap at most
		if err := f.nats.Publish(projections.LiveSubject("acme"), payload); err != nil {
			t.Fatal(err)
		}
	}
	f.Do("acme", domain.RenameTenant{Name: "new"})
	f.commit(t)
	if change := c.change(); change.Tenant.Name != "new" {
		t.Errorf("change: %+v", change.Tenant)
	}
}

// A ping says that nothing was missed; it lasts longer than the read timeout of the server, and finds a change that was
// lost when nothing comes after it.
func TestLivePings(t *testing.T) {
	f := setupWith(t, 1, func(o *Options) { o.Ping = 20 * time.Millisecond })
	f.example(t)
	c, _ := f.open(t, "acme")
	for range 10 {
		if ping := c.expect("ping"); ping.data != "" || ping.id != "" {
			t.Errorf("ping: %+v", ping)
		}
	}
	f.Do("acme", domain.RenameTenant{Name: "lost"})
	f.Commit()
	f.projectWith(t, func(domain.TenantID, []byte) error { return errors.New("the projector died here") })
	if s := c.snapshot(); s.Tenant.Name != "lost" {
		t.Errorf("snapshot: %+v", s.Tenant)
	}
}

func TestLiveWhileAReadModelIsRebuilt(t *testing.T) {
	f := setupWith(t, 1, func(o *Options) { o.Ping = 20 * time.Millisecond })
	f.example(t)
	if _, err := f.db.Exec(deadline(t), `TRUNCATE read.leases; UPDATE read.checkpoints SET seq = 0, directory_seq = 0,
		hash = decode(repeat('00', 32), 'hex') WHERE projection = 'leases'`); err != nil {
		t.Fatal(err)
	}
	c, s := f.open(t, "acme")
	if len(s.Leases) != 0 {
		t.Errorf("snapshot: %+v", s.Leases)
	}
	f.project(t) // brings the leases back, and tells nobody
	for len(s.Leases) == 0 {
		s = c.snapshot()
	}
}

func TestLiveSharesOneSubscriptionPerTenant(t *testing.T) {
	f := setup(t)
	f.example(t)
	first, _ := f.open(t, "acme")
	before := f.nats.NumSubscriptions() // the first look that is recorded subscribes to the answers
	second, _ := f.open(t, "acme")
	f.open(t, "globex")
	if n := f.nats.NumSubscriptions() - before; n != 1 {
		t.Errorf("%d more subscriptions for one more tenant", n)
	}
	f.Do("acme", domain.RenameTenant{Name: "both"})
	f.commit(t)
	if first.change().Tenant.Name != "both" || second.change().Tenant.Name != "both" {
		t.Error("not told")
	}
}

func TestHubForgetsTenantsThatNobodyWatches(t *testing.T) {
	f := setup(t)
	before := f.nats.NumSubscriptions()
	first, err := f.api.hub.join("acme")
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.api.hub.join("acme")
	if err != nil {
		t.Fatal(err)
	}
	f.api.hub.leave("acme", first)
	f.api.hub.leave("acme", second)
	if f.nats.NumSubscriptions() != before+1 || f.api.hub.idle != 1 {
		t.Error("nobody listens for those who come back")
	}
	third, err := f.api.hub.join("acme")
	if err != nil || f.api.hub.idle != 0 || f.nats.NumSubscriptions() != before+1 {
		t.Errorf("%d tenants are idle: %v", f.api.hub.idle, err)
	}
	f.forgetAtOnce()
	f.api.hub.leave("acme", third)
	for ctx := deadline(t); f.nats.NumSubscriptions() != before; {
		if ctx.Err() != nil {
			t.Fatal("a subscription stays behind")
		}
		time.Sleep(time.Millisecond)
	}
	f.api.hub.mu.Lock()
	defer f.api.hub.mu.Unlock()
	if len(f.api.hub.topics) != 0 || f.api.hub.idle != 0 {
		t.Errorf("%d topics, %d idle", len(f.api.hub.topics), f.api.hub.idle)
	}
}

// Of tenants that nobody watches only so many are listened to.
func TestHubListensToSoManyIdleTenants(t *testing.T) {
	f := setup(t)
	before := f.nats.NumSubscriptions()
	for i := range idleMax + 50 {
		tenant := domain.TenantID(fmt.Sprint("t-", i))
		r, err := f.api.hub.join(tenant)
		if err != nil {
			t.Fatal(err)
		}
		f.api.hub.leave(tenant, r)
	}
	ctx := deadline(t)
	for f.nats.NumSubscriptions() != before+idleMax {
		if ctx.Err() != nil {
			t.Fatalf("%d subscriptions", f.nats.NumSubscriptions()-before)
		}
		time.Sleep(time.Millisecond)
	}
}

// A stream that does not keep up is told so, and holds up nobody.
func TestHubDoesNotWaitForSlowStreams(t *testing.T) {
	f := setup(t)
	slow, err := f.api.hub.join("acme")
	if err != nil {
		t.Fatal(err)
	}
	defer f.api.hub.leave("acme", slow)
	quick, err := f.api.hub.join("acme")
	if err != nil {
		t.Fatal(err)
	}
	defer f.api.hub.leave("acme", quick)
	topic := f.api.hub.topics["acme"]
	for version := range uint64(3 * readerRoom) {
		f.api.hub.deliver(topic, fmt.Appendf(nil, `{"version":%d}`, version+1))
		<-quick.changes
	}
	select {
	case <-slow.missed:
	default:
		t.Error("the slow one is not told")
	}
	if len(slow.changes) != readerRoom || len(quick.missed) != 0 {
		t.Errorf("%d changes wait", len(slow.changes))
	}
}

func TestLiveOverflowGivesASnapshot(t *testing.T) {
	f := setup(t)
	f.example(t)
	c, _ := f.open(t, "acme")
	f.api.hub.mu.Lock()
	for r := range f.api.hub.topics["acme"].readers {
		r.missed <- struct{}{}
	}
	f.api.hub.mu.Unlock()
	c.snapshot()
}

func TestLiveReconnectGivesASnapshot(t *testing.T) {
	f := setup(t)
	f.example(t)
	c, _ := f.open(t, "acme")
	if err := f.nats.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	c.snapshot()
	if f.nats.Status() != nats.CONNECTED {
		t.Error("not connected")
	}
	f.Do("acme", domain.RenameTenant{Name: "after"})
	f.commit(t)
	if change := c.change(); change.Tenant.Name != "after" {
		t.Errorf("change: %+v", change.Tenant)
	}
}

func TestLiveEndsWithTheServer(t *testing.T) {
	f := setup(t)
	f.example(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(deadline(t))
	defer stop()
	ended := make(chan error, 1)
	router := serve.NewRouter()
	f.api.Routes(router)
	go func() { ended <- serve.Run(ctx, listener, router, f.api.log) }()
	c := f.liveAt(t, "http://"+listener.Addr().String(), "acme")
	c.next()
	c.snapshot()
	stop()
	if last, more := c.next(); more {
		t.Errorf("the stream goes on: %+v", last)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestLiveSnapshotIsCut(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 1000)
	f.Name("acme", "u_ada", eventstore.UserName, "ada")
	for i := range 250 {
		f.Acquire("acme", "lic_1", fmt.Sprint(i))
	}
	f.commit(t)
	if _, s := f.open(t, "acme"); len(s.Leases) != 200 || !s.LeasesMore || len(s.Events) != 50 {
		t.Errorf("%d leases, more %v, %d events", len(s.Leases), s.LeasesMore, len(s.Events))
	}
}

// Whoever watches is shown everything anew when a person was forgotten: the name may be anywhere on the page.
func TestLiveForgetsAtOnce(t *testing.T) {
	f := setup(t)
	f.example(t)
	c, s := f.open(t, "acme")
	if len(s.Leases) != 2 || s.Leases[1].User != "ada" || s.Leases[1].Forgotten != nil || s.Names["u_ada"] != "ada" {
		t.Fatalf("snapshot: %+v", s)
	}
	f.Forget("acme", "u_ada")
	f.commit(t)
	s = c.snapshot()
	if len(s.Leases) != 2 || s.Leases[1].User != "" || fmt.Sprint(*s.Leases[1].Forgotten) != "[user]" || s.Leases[1].Machine != "host-1" {
		t.Errorf("leases: %+v", s.Leases)
	}
	if _, known := s.Names["u_ada"]; known || !slices.Contains(s.Forgotten, "u_ada") || slices.Contains(s.Forgotten, "m_1") {
		t.Errorf("names %v, forgotten %v", s.Names, s.Forgotten)
	}
	f.Do("acme", domain.RenameTenant{Name: "Acme"})
	f.commit(t)
	if change := c.change(); change.Tenant.Name != "Acme" {
		t.Errorf("change: %+v", change)
	}
}

// forgetAtOnce makes the hub forget a tenant with its last reader. Readers of before may be leaving just now.
func (f *fixture) forgetAtOnce() {
	f.api.hub.mu.Lock()
	defer f.api.hub.mu.Unlock()
	f.api.hub.linger = 0
}
