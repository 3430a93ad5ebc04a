package commandapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// Peers are the other processes that take commands of the same ledger. Any of them may be asked: a request whose partition
// another one owns is handed on to it as it came, over NATS request/reply, and its answer is the answer. The owner checks
// who asks, as it does for a request that reaches it by HTTP.
//
// A request takes one hop at most. Where nothing was done (the owner is gone, or is not the owner any more) the process
// that was asked by the client waits for the next owner and asks that one.
type Peers struct {
	api      *API
	nc       *nats.Conn
	process  string
	log      *slog.Logger
	handler  http.Handler // answers what others hand on
	outcomes *prometheus.CounterVec

	waiting, waitingLong chan struct{} // have room for waitingMax; long is for seats
	running, runningLong chan struct{} // have room for runningMax
	hangUps              hangUps
}

// How much is handed on.
const (
	// waitingMax is how many requests may be waiting for another process, or for a partition to get an owner.
	waitingMax = 8192
	// runningMax is how many requests of others may run here.
	runningMax = 8192
	// gapMax is how long a request waits for an owner: a take-over is to look like latency, not like an error.
	gapMax = 5 * time.Second
	// askAgain is how long until an owner that could not be reached is asked again.
	askAgain = 50 * time.Millisecond
)

// Connect makes a find the other processes; process is the name under which this one owns partitions. Call it before
// Routes' first request, and Run to be found by them.
func (a *API) Connect(nc *nats.Conn, process string, log *slog.Logger, registry prometheus.Registerer) *Peers {
	router := serve.NewRouter()
	a.Routes(router)
	a.peerRoutes(router)
	p := &Peers{
		api: a, nc: nc, process: process, log: log, handler: router,
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledger_forwarded_commands_total",
			Help: "Requests handed on to the owner of their partition: answered; not_done, repeated or waiting, to be asked again; unknown; no_owner, overloaded, too_large or hung_up, given up.",
		}, []string{"outcome"}),
		waiting: make(chan struct{}, waitingMax), waitingLong: make(chan struct{}, waitingMax),
		running: make(chan struct{}, runningMax), runningLong: make(chan struct{}, runningMax),
		hangUps: hangUps{of: map[string]context.CancelFunc{}},
	}
	registry.MustRegister(p.outcomes)
	a.peers = p
	return p
}

// subjectOf is where a process is asked. deploy/nats-server.conf keeps everybody else from it: requests carry keys.
func subjectOf(process string) string { return "command." + process }

// The headers of a message beside those of HTTP.
const (
	headerMethod  = "Ledger-Method"
	headerPath    = "Ledger-Path"
	headerStatus  = access.HeaderStatus
	headerNotDone = "Ledger-Not-Done" // nothing was done: another process may be asked
	headerWait    = "Ledger-Wait"     // how long the client still waits for a seat, in milliseconds
	headerWaiting = "Ledger-Waiting"  // it waits: ask again at once
	headerSeal    = access.HeaderSeal // of the body: it comes from a process of this ledger
	headerHungUp  = "Ledger-Hung-Up"  // the client of this request has gone
)

// handedOn are the headers of a request that go with it.
var handedOn = []string{"Authorization", "Content-Type", "Idempotency-Key", "Traceparent", headerSeal}

// elsewhere is the error of a handler whose partition another process owns. Nothing was done, or, where a request is
// done in parts, nothing that is not the same when it is done again.
type elsewhere struct{ call }

func (*elsewhere) Error() string { return eventstore.ErrElsewhere.Error() }

// Unwrap makes it an eventstore.ErrElsewhere.
func (*elsewhere) Unwrap() error { return eventstore.ErrElsewhere }

// owned wraps a handler: what it can not do because another process owns the partition is handed on.
func (a *API) owned(h serve.Handler) serve.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := h(w, r)
		if errors.Is(err, eventstore.ErrWaiting) {
			w.Header().Set(headerWaiting, "true")
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		var e *elsewhere
		if !errors.As(err, &e) {
			return err
		}
		if a.peers == nil || handedOver(r) {
			if e.part > 0 {
				return problemOf(eventstore.ErrUnknown)
			}
			w.Header().Set(headerNotDone, "true")
			return problemOf(eventstore.ErrElsewhere)
		}
		return a.peers.handOn(w, r, h, e)
	}
}

// oneHop marks the context of a request that was handed on once.
type oneHop struct{}

func handedOver(r *http.Request) bool { return r.Context().Value(oneHop{}) != nil }

// handOn asks the owner of the partition, whoever that is by then, until there is an answer or time is up.
func (p *Peers) handOn(w http.ResponseWriter, r *http.Request, h serve.Handler, e *elsewhere) error {
	// begun says that some of it may be done: whatever says that nothing was, speaks of the last attempt only.
	begun := e.part > 0
	refuse := func(outcome string, err error) error {
		if begun {
			outcome, err = "unknown", eventstore.ErrUnknown
		}
		return p.refuse(outcome, err)
	}
	room := p.waiting
	if e.waits {
		room = p.waitingLong
	}
	select {
	case room <- struct{}{}:
		defer func() { <-room }()
	default:
		return refuse("overloaded", eventstore.ErrOverloaded)
	}
	_, ctx, cancel := e.patience()
	defer cancel()
	if e.waits {
		r = r.WithContext(context.WithValue(r.Context(), waitUntil{}, e.until)) // also when it is decided here after all
	}
	gap := time.NewTimer(gapMax)
	defer gap.Stop()
	for {
		now, changed := p.api.ledger.Ownership(e.tenant)
		switch {
		case now.Mine:
			r.Body = io.NopCloser(bytes.NewReader(e.body))
			if err := h(w, r); !errors.Is(err, eventstore.ErrElsewhere) {
				if begun && nothingDone(err) {
					return p.refuse("unknown", eventstore.ErrUnknown)
				}
				return err
			}
			gap.Reset(gapMax) // it may have waited for long
		case now.Owner != "" && now.Owner != p.process:
			reply, err := p.ask(ctx, now.Owner, r, e)
			switch {
			case err == nil && reply.Header.Get(headerWaiting) != "":
				p.outcomes.WithLabelValues("waiting").Inc()
				gap.Reset(gapMax)
				continue
			case err == nil && begun && reply.Header.Get(headerStatus) == strconv.Itoa(http.StatusServiceUnavailable):
				return p.refuse("unknown", eventstore.ErrUnknown)
			case err == nil:
				p.outcomes.WithLabelValues("answered").Inc()
				return relay(w, reply)
			case errors.Is(err, errNotDone):
				p.outcomes.WithLabelValues("not_done").Inc()
			case errors.Is(err, errOwnerChanged) && repeatable(r):
				p.outcomes.WithLabelValues("repeated").Inc()
				begun = true
				continue
			case errors.Is(err, nats.ErrMaxPayload):
				p.outcomes.WithLabelValues("too_large").Inc()
				return serve.NewProblem(http.StatusRequestEntityTooLarge, "body_too_large", "The body is too large", "Nothing was done.")
			case e.waits && r.Context().Err() != nil:
				p.outcomes.WithLabelValues("hung_up").Inc()
				return r.Context().Err()
			default:
				return p.refuse("unknown", eventstore.ErrUnknown)
			}
		}
		select {
		case <-changed:
		case <-time.After(askAgain):
		case <-gap.C:
			return refuse("no_owner", eventstore.ErrElsewhere)
		case <-ctx.Done():
			return refuse("no_owner", eventstore.ErrElsewhere)
		}
	}
}

func (p *Peers) refuse(outcome string, err error) error {
	p.outcomes.WithLabelValues(outcome).Inc()
	return problemOf(err)
}

// repeatable reports whether a request whose outcome is unknown may be sent to the next owner: when its key makes sure
// that it is done once, or when its nature does. The owner before is fenced by then, so it is known there what it did.
func repeatable(r *http.Request) bool {
	if r.Header.Get("Idempotency-Key") != "" {
		return true
	}
	switch r.URL.Path {
	case "/api/v1/licenses/acquire", "/api/v1/licenses/heartbeat", "/api/v1/licenses/release", receivePath, receiveLeasesPath, movedPath:
		return true
	}
	return false
}

// The errors of ask. After any other the outcome is unknown.
var (
	// errNotDone: the process that was asked did nothing.
	errNotDone = errors.New("nothing was done")
	// errOwnerChanged: the process that was asked has not answered, and another one owns the partition by now.
	errOwnerChanged = errors.New("the owner changed before it answered")
)

// ask hands a request on and returns the answer.
func (p *Peers) ask(ctx context.Context, owner string, r *http.Request, e *elsewhere) (*nats.Msg, error) {
	msg := nats.NewMsg(subjectOf(owner))
	msg.Data = e.body
	for _, name := range handedOn {
		if values := r.Header.Values(name); len(values) > 0 {
			msg.Header[name] = values
		}
	}
	if parent := traceparentOf(r); parent != "" {
		msg.Header.Set("Traceparent", parent) // of the request here, when it is traced: the owner goes on with it
	}
	msg.Header.Set(headerMethod, r.Method)
	msg.Header.Set(headerPath, r.URL.RequestURI())
	msg.Header.Set("X-Request-Id", serve.RequestID(r.Context()))
	if e.waits {
		msg.Header.Set(headerWait, strconv.FormatInt(max(0, time.Until(e.until).Milliseconds()), 10))
	}

	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for {
			now, changed := p.api.ledger.Ownership(e.tenant)
			if now.Owner != "" && now.Owner != owner {
				cancel(errOwnerChanged)
				return
			}
			select {
			case <-changed:
			case <-asking.Done():
				return
			}
		}
	}()
	reply, err := p.nc.RequestMsgWithContext(asking, msg)
	switch {
	case err == nil && reply.Header.Get(headerNotDone) != "":
		return nil, errNotDone
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrReconnectBufExceeded):
		return nil, errNotDone // it was not sent, or there was nobody to get it
	case err != nil && errors.Is(context.Cause(asking), errOwnerChanged):
		return nil, errOwnerChanged
	case err != nil && e.waits && context.Cause(ctx) == context.Canceled:
		hangUp := nats.NewMsg(subjectOf(owner))
		hangUp.Header.Set(headerHungUp, serve.RequestID(r.Context()))
		p.nc.PublishMsg(hangUp) // when it gets lost the owner finds out by itself
	}
	return reply, err
}

// relay answers with another process's answer.
func relay(w http.ResponseWriter, reply *nats.Msg) error {
	status, err := strconv.Atoi(reply.Header.Get(headerStatus))
	if err != nil {
		return err
	}
	for name, values := range reply.Header {
		if name != headerStatus {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(status)
	w.Write(reply.Data)
	return nil
}

// Run answers what other processes hand on until ctx ends. From then on it refuses, so that they wait for the next owner,
// until gone is closed: when this process owns no partition any more.
func (p *Peers) Run(ctx context.Context, gone <-chan struct{}) error {
	var handlers sync.WaitGroup
	sub, err := p.nc.Subscribe(subjectOf(p.process), func(msg *nats.Msg) {
		if id := msg.Header.Get(headerHungUp); id != "" {
			p.hangUps.hungUp(id)
			return
		}
		if ctx.Err() != nil {
			p.answer(msg, retired)
			return
		}
		room := p.running
		if msg.Header.Get(headerWait) != "" {
			room = p.runningLong
		}
		select {
		case room <- struct{}{}:
		default:
			p.answer(msg, overloaded)
			return
		}
		handlers.Go(func() {
			defer func() { <-room }()
			p.answer(msg, p.handler)
		})
	})
	if err != nil {
		return err
	}
	<-gone
	return end(p.nc, sub, &handlers)
}

// end has a subscription take no more, and returns when all that it took is answered.
func end(nc *nats.Conn, sub *nats.Subscription, handlers *sync.WaitGroup) error {
	drained := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(drained) })
	if err := sub.Drain(); err != nil {
		return err
	}
	<-drained
	handlers.Wait()
	return nc.Flush()
}

// What a process answers that does not take requests of others: it is about to give its partitions up, or has too many.
var (
	retired = serve.Handler(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set(headerNotDone, "true")
		return problemOf(eventstore.ErrElsewhere)
	})
	overloaded = serve.Handler(func(http.ResponseWriter, *http.Request) error { return problemOf(eventstore.ErrOverloaded) })
)

// answer has h answer a request that was handed on.
func (p *Peers) answer(msg *nats.Msg, h http.Handler) {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(msg.Header))
	ctx = context.WithValue(ctx, oneHop{}, true)
	if wait, err := strconv.ParseInt(msg.Header.Get(headerWait), 10, 64); err == nil {
		ctx = context.WithValue(ctx, waitUntil{}, time.Now().Add(time.Duration(wait)*time.Millisecond))
		var done context.CancelFunc
		ctx, done = p.hangUps.listen(ctx, msg.Header.Get("X-Request-Id"))
		defer done()
	}
	r, err := http.NewRequestWithContext(ctx, msg.Header.Get(headerMethod), msg.Header.Get(headerPath), bytes.NewReader(msg.Data))
	if err != nil {
		p.log.Error("a request that was handed on cannot be read", "error", err)
		return
	}
	for _, name := range handedOn {
		if values := msg.Header.Values(name); len(values) > 0 {
			r.Header[name] = values
		}
	}
	respond(msg, r, h, p.log)
}

// respond has h answer a message, which is the request r.
func respond(msg *nats.Msg, r *http.Request, h http.Handler, log *slog.Logger) {
	w := &answerWriter{header: http.Header{}, status: http.StatusOK}
	serve.Relay(h, log, msg.Header.Get("X-Request-Id")).ServeHTTP(w, r)
	reply := nats.NewMsg(msg.Reply)
	reply.Header, reply.Data = nats.Header(w.header), w.body.Bytes()
	reply.Header.Set(headerStatus, strconv.Itoa(w.status))
	if err := msg.RespondMsg(reply); err != nil {
		log.Warn("could not answer a request of another process", "path", r.URL.Path, "error", err)
	}
}

// answerWriter is an http.ResponseWriter that keeps the answer.
type answerWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *answerWriter) Header() http.Header         { return w.header }
func (w *answerWriter) WriteHeader(status int)      { w.status = status }
func (w *answerWriter) Write(b []byte) (int, error) { return w.body.Write(b) }
