package queryapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// rename changes the tenant and tells everybody.
func (f *fixture) rename(t *testing.T, tenant domain.TenantID, name string) {
	t.Helper()
	f.Do(tenant, domain.RenameTenant{Name: name})
	f.commit(t)
}

// names are the names of the tenant in the next changes, up to the first ping.
func (c *client) names() (names []string, last string) {
	c.t.Helper()
	for {
		f, ok := c.next()
		switch {
		case !ok:
			c.t.Fatal("the stream ended")
		case f.event == "ping":
			return names, last
		case f.event != "change":
			c.t.Fatalf("%s: %s", f.event, f.data)
		}
		names, last = append(names, decoded[api.LiveChange](c.t, f).Tenant.Name), f.id
	}
}

// Whoever comes back goes on where it stopped: with nothing but a ping when it missed nothing, with the changes it missed while they
// are kept, and then with what happens.
func TestLiveResumes(t *testing.T) {
	f := setup(t)
	f.example(t)
	c := f.live(t, "acme")
	c.next()
	id := c.expect("snapshot").id
	c.close()

	c = f.resume(t, "acme", id)
	if missed, _ := c.names(); len(missed) != 0 {
		t.Errorf("missed nothing, and got %v", missed)
	}
	if at := f.get(t, "/tenants/acme").header.Get("Ledger-Position"); c.header.Get("Ledger-Position") != at {
		t.Error("the stream has another position than the rows")
	}
	f.rename(t, "globex", "nobody's business")
	f.rename(t, "acme", "one")
	id = c.expect("change").id
	c.close()
	f.rename(t, "acme", "two")
	f.rename(t, "acme", "three")
	f.rename(t, "acme", "four")

	c = f.resume(t, "acme", id)
	missed, last := c.names()
	if fmt.Sprint(missed) != "[two three four]" {
		t.Errorf("missed %v", missed)
	}
	f.rename(t, "acme", "five")
	if change := c.change(); change.Tenant.Name != "five" {
		t.Errorf("then %+v", change.Tenant)
	}
	c.close()

	// An id stays good for as long as what comes after it is kept.
	if missed, _ := f.resume(t, "acme", id).names(); fmt.Sprint(missed) != "[two three four five]" {
		t.Errorf("missed %v", missed)
	}
	if missed, _ := f.resume(t, "acme", last).names(); fmt.Sprint(missed) != "[five]" {
		t.Errorf("missed %v", missed)
	}
}

// Where what was missed is not there, a stream begins with a snapshot.
func TestLiveResumesWithASnapshot(t *testing.T) {
	f := setupWith(t, 1, func(*Options) {})
	f.example(t)
	snapshotAfter := func(t *testing.T, why, id string) string {
		t.Helper()
		c := f.resume(t, "acme", id)
		defer c.close()
		got, ok := c.next()
		if !ok || got.event != "snapshot" {
			t.Errorf("%s: %+v", why, got)
		}
		return got.id
	}
	id := snapshotAfter(t, "a first time", "")
	position, version, _ := strings.Cut(id, ":")
	for why, wrong := range map[string]string{
		"no id":                 "x",
		"the form before":       position,
		"no position":           ":" + version,
		"no version":            position + ":",
		"a version of nothing":  position + ":0",
		"a version to come":     position + ":99999",
		"a negative version":    position + ":-1",
		"of two partitions":     position + "." + position + ":" + version,
		"of another ledger":     strings.Repeat("A", len(position)) + ":" + version,
		"of another in a crash": id + ":1",
	} {
		snapshotAfter(t, why, wrong)
	}

	for i := range recentMax {
		f.rename(t, "acme", fmt.Sprint("kept ", i))
	}
	c := f.resume(t, "acme", id)
	if missed, _ := c.names(); len(missed) != recentMax {
		t.Errorf("%d changes of %d", len(missed), recentMax)
	}
	c.close()
	f.rename(t, "acme", "one more")
	id = snapshotAfter(t, "missed too much", id)

	f.rename(t, "acme", "told")
	f.Do("acme", domain.RenameTenant{Name: "lost"})
	f.Commit()
	f.projectWith(t, func(domain.TenantID, []byte) error { return errors.New("the projector died here") })
	snapshotAfter(t, "the last change was not told", id)
	f.rename(t, "acme", "after")
	id = snapshotAfter(t, "a change in between was not told", id)

	f.forgetAtOnce()
	c = f.resume(t, "acme", id)
	c.names()
	c.close()
	ctx := deadline(t)
	for forgotten := false; !forgotten; {
		if ctx.Err() != nil {
			t.Fatal("the tenant is not forgotten")
		}
		f.api.hub.mu.Lock()
		forgotten = len(f.api.hub.topics) == 0
		f.api.hub.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	f.rename(t, "acme", "unheard")
	id = snapshotAfter(t, "nobody listened", id)

	if _, err := f.db.Exec(deadline(t), `UPDATE read.checkpoints SET seq = seq - 1 WHERE projection = 'leases'`); err != nil {
		t.Fatal(err)
	}
	snapshotAfter(t, "a read model is rebuilt", id)
}

// A reader that stands still is cut short and brought up to date when it reads again; the one beside it never waits for it.
func TestLiveSlowReader(t *testing.T) {
	f := setup(t)
	f.api.stalled = time.Minute
	f.example(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(deadline(t))
	defer stop()
	router := serve.NewRouter()
	f.api.Routes(router)
	ended := make(chan error, 1)
	go func() { ended <- serve.Run(ctx, narrow{listener}, router, f.api.log) }()
	base := "http://" + listener.Addr().String()

	slow, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if err := slow.(*net.TCPConn).SetReadBuffer(2 << 10); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodGet, base+"/api/v1/tenants/acme/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+operatorKey)
	request.Header.Set(reasonHeader, "test")
	if err := request.Write(slow); err != nil {
		t.Fatal(err)
	}
	quick := f.liveAt(t, base, "acme")
	quick.next()
	quick.snapshot()
	f.api.hub.mu.Lock()
	readers := f.api.hub.topics["acme"].readers
	f.api.hub.mu.Unlock()
	behind := func() bool {
		f.api.hub.mu.Lock()
		defer f.api.hub.mu.Unlock()
		for r := range readers {
			if len(r.missed) > 0 {
				return true
			}
		}
		return false
	}
	name := ""
	for i := 0; !behind(); i++ {
		if i > 2000 {
			t.Fatal("the slow one keeps up")
		}
		name = fmt.Sprint(i, strings.Repeat("-", 180))
		f.rename(t, "acme", name)
		if change := quick.change(); change.Tenant.Name != name {
			t.Fatalf("the quick one is told %q, not %q", change.Tenant.Name, name)
		}
	}

	response, err := http.ReadResponse(bufio.NewReader(slow), request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	c := client{t: t, lines: bufio.NewScanner(response.Body)}
	c.lines.Buffer(nil, 10<<20)
	for last := ""; last != name; {
		got, ok := c.next()
		if !ok {
			t.Fatalf("it ended before it was up to date: %v", c.lines.Err())
		}
		if got.event == "snapshot" {
			last = decoded[api.LiveSnapshot](t, got).Tenant.Name
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// narrow gives connections hardly any room.
type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(2 << 10)
	}
	return c, err
}
