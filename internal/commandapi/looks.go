package commandapi

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"sync"

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
	var look access.Look
	c, err := a.peerCall(r, "record_staff_read", &look)
	if err != nil {
		return err
	}
	c.tenant, c.actor = look.Tenant, actorOperator
	command := domain.RecordStaffRead{Permission: string(look.Permission), Reason: look.Reason}
	if _, err := a.execute(w, c, fixed(command)); err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, struct{}{})
}

// TakeLooks has what query services say that staff reads recorded, until ctx ends: by the owner of the tenant's partition, here or in another
// process. Any command service may be told.
func (a *API) TakeLooks(ctx context.Context, nc *nats.Conn, log *slog.Logger) error {
	room := make(chan struct{}, looksMax)
	var handlers sync.WaitGroup
	sub, err := nc.QueueSubscribe(access.LooksSubject, "commands", func(msg *nats.Msg) {
		select {
		case room <- struct{}{}:
		default:
			answerLook(msg, overloaded, log)
			return
		}
		handlers.Go(func() {
			defer func() { <-room }()
			answerLook(msg, a.between, log)
		})
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return end(nc, sub, &handlers)
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
	respond(msg, r, h, log)
}
