package commandapi

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

const (
	// lookPath is where looks are recorded. It is among the routes for other processes only.
	lookPath = "/peer/looks"
	// looksMax is how many looks may be on their way to the ledger.
	looksMax = 1024
)

// recordLook records what staff is about to read.
func (a *API) recordLook(w http.ResponseWriter, r *http.Request) error {
	body, err := serve.ReadBody(r)
	if err != nil {
		return err
	}
	if !a.seal.Is(r.Header.Get(headerSeal), body) {
		return serve.Unauthorized("Only processes of this ledger say what staff reads.")
	}
	var look access.Look
	if err := json.Unmarshal(body, &look); err != nil {
		return err
	}
	c := call{Request: r, name: "record_staff_read", body: body, tenant: look.Tenant, actor: actorOperator}
	command := domain.RecordStaffRead{Permission: string(look.Permission), Reason: look.Reason}
	if _, err := a.execute(w, c, fixed(command)); err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, struct{}{})
}

// TakeLooks has what query services say that staff reads recorded, until ctx ends: by the owner of the tenant's partition, here or in another
// process. Any command service may be told.
func (a *API) TakeLooks(ctx context.Context, nc *nats.Conn, log *slog.Logger) error {
	router := serve.NewRouter()
	a.peerRoutes(router)
	room := make(chan struct{}, looksMax)
	var handlers sync.WaitGroup
	sub, err := nc.QueueSubscribe(access.LooksSubject, "commands", func(msg *nats.Msg) {
		handler := http.Handler(router)
		select {
		case room <- struct{}{}:
		default:
			answerLook(msg, overloaded, log)
			return
		}
		handlers.Go(func() {
			defer func() { <-room }()
			answerLook(msg, handler, log)
		})
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	drained := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(drained) })
	if err := sub.Drain(); err != nil {
		return err
	}
	<-drained
	handlers.Wait()
	return nc.Flush()
}

func answerLook(msg *nats.Msg, h http.Handler, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), executeFor)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, lookPath, bytes.NewReader(msg.Data))
	if err != nil {
		panic(err) // method and path are fixed
	}
	for _, name := range []string{headerSeal, "Idempotency-Key"} {
		r.Header.Set(name, msg.Header.Get(name))
	}
	w := &answerWriter{header: http.Header{}, status: http.StatusOK}
	serve.Relay(h, log, msg.Header.Get("X-Request-Id")).ServeHTTP(w, r)
	reply := nats.NewMsg(msg.Reply)
	reply.Data = w.body.Bytes()
	reply.Header.Set(headerStatus, strconv.Itoa(w.status))
	if err := msg.RespondMsg(reply); err != nil {
		log.Warn("could not answer that a look was recorded", "error", err)
	}
}
