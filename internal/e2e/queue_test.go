package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// waiter is a program that waits for a seat at one address.
type waiter struct {
	answer ledgertest.Answer
	err    error
	done   chan struct{}
	hangUp context.CancelFunc
}

// wait asks for a seat, with a key of its own: a holder asks with another one at another address.
func (p *pair) wait(at int, key, user string) *waiter {
	ctx, cancel := context.WithCancel(p.t.Context())
	w := &waiter{done: make(chan struct{}), hangUp: cancel}
	body := ledgertest.Holder(user)
	body["wait_seconds"] = 300
	go func() {
		defer close(w.done)
		w.answer, w.err = p.clients[at].Do(ctx, "POST", "/api/v1/licenses/acquire", key, body, nil)
	}()
	return w
}

// awaitWaiting returns when so many wait, as the process at an address says.
func (p *pair) awaitWaiting(at int, key, want string) {
	p.t.Helper()
	var last ledgertest.Answer
	p.process[at].Await(want+" that wait", func() bool {
		last, _ = p.clients[at].Do(p.t.Context(), "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("probe"), nil)
		return last.At("waiting") == want
	}, func() string { return fmt.Sprint(last.Body) })
}

func (w *waiter) hasSeat(t *testing.T, user string) string {
	t.Helper()
	<-w.done
	if w.err != nil || w.answer.Status != 201 || w.answer.At("lease.user") != user {
		t.Fatalf("%s: %d %v %v, want a seat", user, w.answer.Status, w.answer.Body, w.err)
	}
	return w.answer.At("lease.id")
}

func (w *waiter) waits(t *testing.T) {
	t.Helper()
	select {
	case <-w.done:
		t.Fatalf("answered %d %v %v, and should wait", w.answer.Status, w.answer.Body, w.err)
	default:
	}
}

// awaitMetric returns when a process has a line with this text among its metrics.
func (p *pair) awaitMetric(at int, line string) {
	p.t.Helper()
	p.process[at].Await(line, func() bool {
		r, err := http.Get("http://" + p.addr[at] + "/metrics")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		text, _ := io.ReadAll(r.Body)
		return strings.Contains(string(text), line)
	}, func() string { return "" })
}

// Whoever waits at a process that does not own the partition waits in the same queue, is heard of when it hangs up, and
// waits on when the owner is killed: nothing but a connection to the dead process is lost.
func TestQueueOverTwoProcesses(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	_, key := p.clients[0].License(t, "queue", 1, 300)
	held := p.clients[0].Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("ada")).At("lease.id")
	release := func(at int, lease string) {
		t.Helper()
		p.clients[at].Must(t, 200, "POST", "/api/v1/licenses/release", key, ledgertest.Lease(lease))
	}

	bob := p.wait(1, key, "bob")
	p.awaitWaiting(0, key, "1")
	carol := p.wait(0, key, "carol")
	p.awaitWaiting(1, key, "2")
	dan := p.wait(1, key, "dan")
	p.awaitWaiting(0, key, "3")
	dan.hangUp()
	p.awaitWaiting(0, key, "2")
	p.awaitMetric(1, `ledger_forwarded_commands_total{outcome="waiting"}`) // bob was asked for again
	release(0, held)
	held = bob.hasSeat(t, "bob")
	carol.waits(t)

	erik := p.wait(1, key, "erik")
	p.awaitWaiting(0, key, "2")
	fay := p.wait(1, key, "fay")
	p.awaitWaiting(0, key, "3")
	p.process[0].Kill()
	<-carol.done
	if carol.err == nil {
		t.Errorf("carol, whose server was killed, heard %d %v", carol.answer.Status, carol.answer.Body)
	}
	p.awaitWaiting(1, key, "3")
	carol = p.wait(1, key, "carol") // she asks elsewhere
	release(1, held)
	held = carol.hasSeat(t, "carol") // and has her place
	fay.waits(t)
	release(1, held)
	held = erik.hasSeat(t, "erik")
	release(1, held)
	fay.hasSeat(t, "fay")
}
