package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/ratelimit"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/ui"
)

// ErrHelp: the help was asked for and printed; the process is done.
var ErrHelp = errors.New("help was printed")

// Main runs a service until it ends by itself or is told to stop, and exits with 1 when it failed.
func Main(name string, run func(ctx context.Context, args []string, logs io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Parse reads configuration into a struct with kong tags, from the environment and args. A field with the tag "needed"
// must be given; all that are missing are reported at once, by the name of their variable. Errors: ErrHelp.
func Parse(config any, name, description string, args []string, out io.Writer) error {
	exited := false
	parser, err := kong.New(config, kong.Name(name), kong.Description(description), kong.Writers(out, out),
		kong.Exit(func(int) { exited = true }), kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 110}))
	if err != nil {
		return err
	}
	_, err = parser.Parse(args)
	if exited {
		return ErrHelp
	}
	problems := []error{err}
	for _, flag := range parser.Model.Flags {
		if flag.Tag.Has("needed") && flag.Target.IsZero() {
			problems = append(problems, fmt.Errorf("%s is not set. %s", flag.Envs[0], flag.Help))
		}
	}
	return errors.Join(problems...)
}

// Service is the configuration that the three services share.
type Service struct {
	Addr     string     `env:"LISTEN_ADDR" default:":8080" help:"Address to serve HTTP on."`
	LogLevel slog.Level `env:"LOG_LEVEL" default:"INFO" help:"DEBUG logs every request."`
}

// Start returns the frame of a service.
func (s Service) Start(logs io.Writer) *Frame { return NewFrame(s.LogLevel, logs) }

// NATS is how to reach the nats-server.
type NATS struct {
	URL         string `name:"nats-url" env:"NATS_URL" needed:"" help:"Address of the nats-server, such as nats://nats:4222; several with commas."`
	Credentials string `name:"nats-credentials" env:"NATS_CREDENTIALS" help:"Credentials file (.creds) for it."`
}

// Connect returns a connection, which keeps trying when the server is not there yet. The options in more come last, and so win.
func (n NATS) Connect(name string, log *slog.Logger, more ...nats.Option) (*nats.Conn, error) {
	options := append(eventstore.NATSOptions(name),
		// An inbox of its own: answers to a service are nobody else's business.
		nats.CustomInboxPrefix("_INBOX_"+name),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("nats disconnected", "error", err) }),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("nats connected again", "server", c.ConnectedUrlRedacted()) }),
		// A refused publish arrives here and nowhere else.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Error("nats", "error", err) }),
	)
	if n.Credentials != "" {
		options = append(options, nats.UserCredentials(n.Credentials))
	}
	return nats.Connect(n.URL, append(options, more...)...)
}

// Postgres is how to reach Postgres.
type Postgres struct {
	DatabaseURL string `env:"DATABASE_URL" needed:"" help:"Postgres 15 or newer, such as postgres://user:password@host:5432/ledger."`
}

// Connect returns a pool whose connections have this role, such as projections.QueryRole; empty: that of the user. It
// connects on first use.
func (p Postgres) Connect(ctx context.Context, role string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(p.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	if role != "" {
		// From the first moment on, and what RESET ROLE goes back to.
		config.ConnConfig.RuntimeParams["role"] = role
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// Keys are the files with the ledger's secrets.
type Keys struct {
	SecretFile   string `env:"LEDGER_SECRET_FILE" needed:"" help:"File with the ledger's secret: 32 random bytes or more in URL-safe base64, the same for all services."`
	OperatorFile string `env:"OPERATOR_KEY_FILE" needed:"" help:"File with the operator's bearer key: op_ and 43 characters or more."`
}

// Load reads both files and reports both errors.
func (k Keys) Load() (identity.Secret, identity.OperatorKey, error) {
	secret, err := identity.LoadSecret(k.SecretFile)
	if err != nil {
		err = fmt.Errorf("LEDGER_SECRET_FILE: %w", err)
	}
	operator, err2 := identity.LoadOperatorKey(k.OperatorFile)
	if err2 != nil {
		err2 = fmt.Errorf("OPERATOR_KEY_FILE: %w", err2)
	}
	return secret, operator, errors.Join(err, err2)
}

// RateLimits is how much one key may ask of this process.
type RateLimits struct {
	Seats     float64        `name:"rate-seats" env:"RATE_SEATS" default:"5000" help:"Acquires, heartbeats and releases a second of one license key, and ten seconds' worth at once; 0: any number."`
	Commands  float64        `name:"rate-commands" env:"RATE_COMMANDS" default:"200" help:"Other commands a second of one key."`
	Reads     float64        `name:"rate-reads" env:"RATE_READS" default:"200" help:"Queries a second of one key."`
	Exports   float64        `name:"rate-exports" env:"RATE_EXPORTS" default:"5" help:"Queries that cost much a second of one key: exports, states, differences, forecasts."`
	Streams   int            `name:"rate-streams" env:"RATE_STREAMS" default:"500" help:"Live streams of one key that may be open."`
	Strangers float64        `name:"rate-strangers" env:"RATE_STRANGERS" default:"50" help:"Requests a second of one address without a key of this ledger."`
	Proxies   []netip.Prefix `name:"trusted-proxies" env:"TRUSTED_PROXIES" placeholder:"CIDR" help:"Networks whose X-Forwarded-For is believed, such as 10.0.0.0/8. Without it all that comes through a proxy is one address."`
}

// Limit keeps requests to the router within limits. Call it before Serve.
func (f *Frame) Limit(limits RateLimits, secret identity.Secret, operator identity.OperatorKey) {
	licenses, people := identity.NewLicenseKeys(secret), identity.NewTenantKeys(secret)
	made := func(key string) bool { return licenses.Made(key) || people.Made(key) || operator.Is(key) }
	f.limiter = ratelimit.New(ratelimit.Limits(limits), made, f.Registry)
}

// AwaitLedger opens a ledger with open, again and again until it is there: the services may start in any order.
func (f *Frame) AwaitLedger(ctx context.Context, open func(context.Context) (*eventstore.NATSStore, error)) (*eventstore.NATSStore, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		store, err := open(attempt)
		cancel()
		if err == nil {
			return store, nil
		}
		if !isAway(err) {
			return nil, err
		}
		level, what := slog.LevelInfo, []any{"reason", err}
		if errors.Is(err, eventstore.ErrNoLedger) {
			level = slog.LevelWarn
			what = append(what, "if_it_is_new", "start one commandsvc with LEDGER_CREATE=true, once",
				"if_there_was_one", "do not create another: restore the journal, see deploy/runbooks/journal-missing.md")
		}
		f.Log.Log(ctx, level, "waiting for the ledger", what...)
		f.startsWhen("the ledger is there", err)
		if !pause(ctx) {
			return nil, ctx.Err()
		}
	}
}

// Migrate brings the read models' schema up to date, and waits for a Postgres that is not there yet.
func (f *Frame) Migrate(ctx context.Context, p Postgres) error {
	db, err := p.Connect(ctx, "")
	if err != nil {
		return err
	}
	defer db.Close()
	for {
		err := projections.Migrate(ctx, db)
		if !isPostgresAway(err) {
			return err
		}
		f.Log.Info("waiting for Postgres", "reason", err)
		f.startsWhen("Postgres is there", err)
		if !pause(ctx) {
			return ctx.Err()
		}
	}
}

// isPostgresAway reports whether err says that Postgres cannot be reached, or not yet.
func isPostgresAway(err error) bool {
	var unreachable *pgconn.ConnectError
	var refused *pgconn.PgError
	return errors.As(err, &unreachable) || errors.As(err, &refused) && refused.Code == "57P03" // cannot_connect_now
}

// pause waits a moment and reports whether ctx is still alive then.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(500 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

// isAway reports whether err may pass by itself.
func isAway(err error) bool {
	for _, passing := range []error{eventstore.ErrNoLedger, context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders,
		nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// Frame is what stands around the pieces of a process.
type Frame struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	Router   *mux.Router
	Health   *serve.Health
	// Tracer records traces; nil when none are recorded.
	Tracer trace.Tracer

	limiter *ratelimit.Limiter // nil: nothing is limited
	traces  *sdktrace.TracerProvider
	metrics *serve.Metrics
	handler atomic.Pointer[http.Handler] // answers requests now
	start   atomic.Pointer[error]        // why the process still starts; nil: it does not
	stop    func()                       // ends the server
	ended   chan struct{}                // closed when the server has ended, with failed
	failed  error
}

// poolRandom makes ids of requests and events, thousands a second, cheap.
var poolRandom = sync.OnceFunc(uuid.EnableRandPool)

// NewFrame returns a frame whose router has /healthz, /readyz and /metrics.
func NewFrame(level slog.Level, logs io.Writer) *Frame {
	f := &Frame{
		Log:      serve.NewLogger(logs, level),
		Registry: prometheus.NewRegistry(),
		Router:   serve.NewRouter(),
		Health:   &serve.Health{},
	}
	poolRandom()
	f.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	serve.Operations(f.Router, f.Health, f.Registry)
	f.metrics = serve.NewMetrics(f.Registry)
	f.startsWhen("all its parts are there", nil)
	f.Health.Require("start", func(context.Context) error {
		if why := f.start.Load(); why != nil {
			return *why
		}
		return nil
	})
	if f.traces = startTraces(f.Log); f.traces != nil {
		f.Tracer = f.traces.Tracer("github.com/coditect-ai/license-ledger")
	}
	return f
}

// Page serves the web page on every path that is not the API's: there a wrong path is a problem, not a page.
func (f *Frame) Page() {
	notAPI := func(r *http.Request, _ *mux.RouteMatch) bool { return !strings.HasPrefix(r.URL.Path, "/api/") }
	f.Router.MatcherFunc(notAPI).Methods(http.MethodGet, http.MethodHead).Handler(ui.Handler())
}

// Listen takes the address, so that a port in use is reported before anything else is started.
func Listen(addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot serve on %s (another program may; choose another address): %w", addr, err)
	}
	return listener, nil
}

// startsWhen notes what the process waits for before it serves; reason may be nil.
func (f *Frame) startsWhen(what string, reason error) {
	why := fmt.Errorf("starts when %s", what)
	if reason != nil {
		why = fmt.Errorf("%w: %w", why, reason)
	}
	f.start.Store(&why)
}

// Listen takes the address of the process and answers there from now on: /healthz, /readyz, which says what is waited for, and
// /metrics. All else is 503 "starting" until Serve. Close ends it.
func (f *Frame) Listen(addr string) (net.Listener, error) {
	listener, err := Listen(addr)
	if err != nil {
		return nil, err
	}
	early := serve.NewRouter()
	early.NotFoundHandler = serve.Handler(func(http.ResponseWriter, *http.Request) error {
		p := serve.NewProblem(http.StatusServiceUnavailable, "starting", "The service is starting", "Nothing was done. Try again in a moment.")
		p.RetryAfterSeconds = 1
		return p
	})
	serve.Operations(early, f.Health, f.Registry)
	f.answerWith(serve.Observe(early, f.Log, f.metrics))
	running, stop := context.WithCancel(context.Background())
	f.stop, f.ended = stop, make(chan struct{})
	go func() {
		defer close(f.ended)
		f.failed = serve.Run(running, listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*f.handler.Load()).ServeHTTP(w, r) }), f.Log)
	}()
	return listener, nil
}

func (f *Frame) answerWith(h http.Handler) { f.handler.Store(&h) }

// Serve serves the router, where Listen answers, until ctx ends and running requests are answered.
func (f *Frame) Serve(ctx context.Context) error {
	handler := serve.Observe(f.Router, f.Log, f.metrics)
	if f.limiter != nil {
		f.Router.Use(f.limiter.Limit) // within Observe: what is refused is counted, too
	}
	if f.Tracer != nil {
		handler = serve.Trace(handler, f.Tracer)
	}
	defer f.stopTraces()
	f.answerWith(handler)
	f.start.Store(nil)
	f.Log.Info("serving")
	select {
	case <-ctx.Done():
	case <-f.ended:
	}
	return f.Close()
}

// Close ends what Listen began, once running requests are answered. Closing again does nothing.
func (f *Frame) Close() error {
	f.stop()
	<-f.ended
	return f.failed
}
