package serve_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coditect-ai/license-ledger/internal/serve"
)

// pipes is a listener whose connections have no buffer and run on the clock of a synctest bubble: who does not read stops
// the writer at once.
type pipes struct {
	dialed chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialed:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.dialed <- server
	return client
}

// serving serves h in a bubble while test runs.
func serving(t *testing.T, h serve.Handler, test func(t *testing.T, dial func() net.Conn)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{dialed: make(chan net.Conn), closed: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- serve.Run(ctx, p, handler(io.Discard, h), slog.New(slog.DiscardHandler)) }()
		test(t, p.dial)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// until reads from c to its end and returns how long that took on the clock of the bubble, and what came.
func until(c net.Conn) (time.Duration, string) {
	began := time.Now()
	text, _ := io.ReadAll(c)
	return time.Since(began), string(text)
}

func TestHeadersThatDoNotEnd(t *testing.T) {
	serving(t, func(http.ResponseWriter, *http.Request) error { return errors.New("asked without headers") }, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		io.WriteString(c, "POST /x/1 HTTP/1.1\r\nHost: ")
		if took, _ := until(c); took != 10*time.Second {
			t.Errorf("cut off after %v, want 10 s", took)
		}
	})
}

// A body that trickles in is given up after 30 s; others are answered meanwhile.
func TestBodyThatDoesNotEnd(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) error {
		if _, err := serve.ReadBody(r); err != nil {
			return err
		}
		return serve.Reply(w, http.StatusOK, "read")
	}
	serving(t, h, func(t *testing.T, dial func() net.Conn) {
		slow := dial()
		began := time.Now()
		io.WriteString(slow, "POST /x/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
		var trickle sync.WaitGroup
		defer trickle.Wait()
		trickle.Go(func() {
			for err := error(nil); err == nil; time.Sleep(time.Second) { // on the clock of the bubble
				_, err = io.WriteString(slow, " ")
			}
		})
		other := dial()
		io.WriteString(other, "POST /x/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
		if took, text := until(other); took != 0 || !strings.HasPrefix(text, "HTTP/1.1 200") {
			t.Errorf("another request was answered after %v with %q", took, text)
		}
		if _, text := until(slow); time.Since(began) != 30*time.Second || !strings.HasPrefix(text, "HTTP/1.1 400") {
			t.Errorf("cut off after %v with %q, want 400 after 30 s", time.Since(began), text)
		}
	})
}

// A client that never reads its answer is cut off, and so the handler ends.
func TestAnswerThatIsNotRead(t *testing.T) {
	var ended chan time.Duration
	h := func(w http.ResponseWriter, _ *http.Request) error {
		began := time.Now()
		io.WriteString(w, strings.Repeat("x", 1<<20))
		ended <- time.Since(began)
		return nil
	}
	serving(t, h, func(t *testing.T, dial func() net.Conn) {
		ended = make(chan time.Duration, 1) // of the bubble
		dead := dial()
		io.WriteString(dead, "POST /x/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		if took := <-ended; took != time.Minute {
			t.Errorf("the handler ended after %v, want a minute", took)
		}
	})
}

// An answer that takes its time by agreement is sent, and its client is heard of when it hangs up.
func TestAnswerThatTakesLong(t *testing.T) {
	var gone chan error
	h := func(w http.ResponseWriter, r *http.Request) error {
		if _, err := serve.ReadBody(r); err != nil {
			return err
		}
		serve.Patiently(w, 5*time.Minute)
		select {
		case <-time.After(5 * time.Minute):
		case <-r.Context().Done():
			gone <- r.Context().Err()
		}
		return serve.Reply(w, http.StatusOK, "at last")
	}
	const request = "POST /x/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
	serving(t, h, func(t *testing.T, dial func() net.Conn) {
		gone = make(chan error, 2) // of the bubble
		patient, hasty := dial(), dial()
		io.WriteString(patient, request)
		io.WriteString(hasty, request)
		time.Sleep(2 * time.Minute)
		hasty.Close()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler of who hung up saw %v", err)
		}
		if took, text := until(patient); took != 3*time.Minute || !strings.HasPrefix(text, "HTTP/1.1 200") || len(gone) > 0 {
			t.Errorf("answered after %v with %q, want 200 after 3 more minutes", took, text)
		}
	})
}
