package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Handler answers a request, or returns the error to answer with: a *Problem as it is, anything else as 500.
type Handler func(w http.ResponseWriter, r *http.Request) error

// ServeHTTP implements http.Handler.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h(w, r)
	if err == nil || hungUp(r, err) {
		return
	}
	if entry := entryOf(r.Context()); entry != nil && problemOf(err).Status >= http.StatusInternalServerError {
		entry.err = err
	}
	writeProblem(w, r, err)
}

// NewRouter returns a router whose own refusals (404, 405 with Allow) are problems, too. Name a route's path before its
// methods: mux forgets that another route had the path when the first condition of a later one is met.
func NewRouter() *mux.Router {
	router := mux.NewRouter()
	router.NotFoundHandler = Handler(func(_ http.ResponseWriter, r *http.Request) error {
		return NewProblem(http.StatusNotFound, "not_found", "There is nothing here", fmt.Sprintf("No such path: %s.", r.URL.Path))
	})
	router.MethodNotAllowedHandler = Handler(func(w http.ResponseWriter, r *http.Request) error {
		allowed := allowedMethods(router, r)
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return NewProblem(http.StatusMethodNotAllowed, "method_not_allowed", "This method is not allowed here",
			fmt.Sprintf("%s is answered here, %s is not.", strings.Join(allowed, " and "), r.Method))
	})
	return router
}

// allowedMethods returns the methods that the router answers on the path of r.
func allowedMethods(router *mux.Router, r *http.Request) []string {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		try := r.Clone(r.Context())
		try.Method = method
		var match mux.RouteMatch
		if router.Match(try, &match) && match.MatchErr == nil && match.Route != nil {
			allowed = append(allowed, method)
		}
	}
	return slices.Compact(allowed)
}

// Metrics are the metrics of a process's HTTP requests.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewMetrics registers the metrics. Labels hold route templates and outcomes, never a tenant or a license.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledger_http_requests_total", Help: "Requests by route template, method and status."}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ledger_http_request_seconds", Help: "Time to answer, by route template and method.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"route", "method"}),
	}
	registry.MustRegister(m.requests, m.seconds)
	return m
}

// entry is what is known of a request for its log line.
type entry struct {
	id    string
	route string // template of its path; "none" when there is no such route
	err   error
}

type entryKey struct{}

func entryOf(ctx context.Context) *entry {
	e, _ := ctx.Value(entryKey{}).(*entry)
	return e
}

// RequestID returns the id of the request, which its answer and its log line carry as well; empty outside of a request.
func RequestID(ctx context.Context) string {
	if e := entryOf(ctx); e != nil {
		return e.id
	}
	return ""
}

// Observe is the middleware around a router: request id, one log line and the metrics per request, and a 500 in place of
// a panic.
func Observe(router *mux.Router, log *slog.Logger, metrics *Metrics) http.Handler {
	router.Use(noteRoute)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		e := &entry{id: uuid.NewString(), route: "none"}
		r = r.WithContext(context.WithValue(r.Context(), entryKey{}, e))
		recorder := &recorder{ResponseWriter: w}
		recorder.Header().Set("X-Request-Id", e.id)
		defer func() {
			if cause := recover(); cause != nil {
				if cause == http.ErrAbortHandler {
					panic(cause)
				}
				e.err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
				if recorder.status == 0 {
					writeProblem(recorder, r, e.err)
				}
			}
			status := max(recorder.status, http.StatusOK)
			took := time.Since(began)
			e.note(trace.SpanFromContext(r.Context()), r.Method, status)
			metrics.requests.WithLabelValues(e.route, r.Method, strconv.Itoa(status)).Inc()
			metrics.seconds.WithLabelValues(e.route, r.Method).Observe(took.Seconds())
			level := slog.LevelDebug
			attrs := []slog.Attr{
				slog.String("method", r.Method), slog.String("route", e.route), slog.Int("status", status),
				slog.Duration("took", took), slog.String("request_id", e.id),
			}
			if e.err != nil {
				level = slog.LevelError
				attrs = append(attrs, slog.Any("error", e.err))
			}
			log.LogAttrs(r.Context(), level, "request", attrs...)
		}()
		router.ServeHTTP(recorder, r)
	})
}

// noteRoute notes which route answers.
func noteRoute(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if template, err := mux.CurrentRoute(r).GetPathTemplate(); err == nil {
			entryOf(r.Context()).route = template
		}
		next.ServeHTTP(w, r)
	})
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
