package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewLogger returns a logger: text on a terminal, else JSON.
func NewLogger(out io.Writer, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if file, ok := out.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return slog.New(slog.NewTextHandler(out, options))
		}
	}
	return slog.New(slog.NewJSONHandler(out, options))
}

// Health is what a process says of itself. It is safe for concurrent use.
type Health struct {
	mu     sync.Mutex
	checks []namedCheck
}

type namedCheck struct {
	name  string
	check func(context.Context) error
}

// Require makes readiness depend on check; nil is ready.
func (h *Health) Require(name string, check func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, namedCheck{name, check})
}

// Closed returns a check that is ready once c is closed.
func Closed(c <-chan struct{}, otherwise string) func(context.Context) error {
	return func(context.Context) error {
		select {
		case <-c:
			return nil
		default:
			return errors.New(otherwise)
		}
	}
}

// Operations adds /healthz (the process lives), /readyz (it can answer; else 503 and why) and /metrics.
func Operations(router *mux.Router, health *Health, gatherer prometheus.Gatherer) {
	router.Path("/healthz").Methods(http.MethodGet).Handler(Handler(func(w http.ResponseWriter, _ *http.Request) error {
		return Reply(w, http.StatusOK, map[string]string{"status": "ok"})
	}))
	router.Path("/readyz").Methods(http.MethodGet).Handler(Handler(func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		health.mu.Lock()
		checks := health.checks
		health.mu.Unlock()
		failed := map[string]string{}
		for _, c := range checks {
			if err := c.check(ctx); err != nil {
				failed[c.name] = err.Error()
			}
		}
		if len(failed) > 0 {
			return Reply(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "failed": failed})
		}
		return Reply(w, http.StatusOK, map[string]string{"status": "ready"})
	}))
	router.Path("/metrics").Methods(http.MethodGet).Handler(promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
}

// drainFor is how long requests that run may take when the server stops.
const drainFor = 15 * time.Second

// How long a client may take. A slow or dead one costs a goroutine and its buffers for that long, and nothing else: its body is
// read before the ledger is asked, and its answer is written after the ledger has answered.
const (
	headerFor  = 10 * time.Second // to send the headers of a request
	requestFor = 30 * time.Second // to send all of it
	// answerFor is from the headers of a request to the end of its answer. A handler that streams moves it on as it goes,
	// with http.ResponseController.
	answerFor = time.Minute
	idleFor   = 2 * time.Minute // between two requests
)

// Run serves handler on listener until ctx ends, then lets running requests finish for up to 15 s. A handler
// that streams ends when Stopping is closed.
func Run(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	requests, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerFor,
		ReadTimeout:       requestFor,
		WriteTimeout:      answerFor,
		IdleTimeout:       idleFor,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(requests, stoppingKey{}, ctx.Done()) },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		server.Close()
		return fmt.Errorf("drain %s: %w", listener.Addr(), err)
	}
	<-failed // told to stop before it began, the server closes the listener a moment later
	return nil
}

// Patiently lets the answer to a request take so much longer than answers may, and its client be silent for as long. For one
// that did not come over a connection of this process it does nothing.
func Patiently(w http.ResponseWriter, longer time.Duration) {
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(longer + requestFor))
	control.SetWriteDeadline(time.Now().Add(longer + answerFor))
}

type stoppingKey struct{}

// Stopping returns a channel that is closed when the server of the request begins to stop: a handler that streams has to
// return then. It is nil outside of Run.
func Stopping(ctx context.Context) <-chan struct{} {
	done, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return done
}
