package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/commandapi"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/process"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// serveLedger is the server under test. Its first line of output is its address, the second the operator's key.
func serveLedger(ctx context.Context, dir string) error {
	frame := process.NewFrame(slog.LevelWarn, os.Stderr)
	secret, err := identity.LoadOrCreateSecret(filepath.Join(dir, "ledger.secret"))
	if err != nil {
		return err
	}
	operator, operatorText, err := identity.LoadOrCreateOperatorKey(filepath.Join(dir, "operator.key"))
	if err != nil {
		return err
	}
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: filepath.Join(dir, "nats"), Log: frame.Log})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	nc, err := server.Connect(eventstore.NATSOptions("bench")...)
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := eventstore.CreateNATS(ctx, nc, 1, 1)
	if err != nil {
		return err
	}
	writers, err := eventstore.NewWriters(eventstore.WritersConfig{Store: store, Log: frame.Log, Registerer: frame.Registry, Alone: true})
	if err != nil {
		return err
	}
	frame.Health.Require("writers", writers.Ready)
	commandapi.New(writers, secret, operator, frame.Registry).Routes(frame.Router)
	frame.Router.Handle(echoPath, serve.Handler(echo)).Methods(http.MethodPost)
	listener, err := process.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s\n", listener.Addr(), operatorText)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return writers.Run(ctx) })
	g.Go(func() error { return frame.Serve(ctx, listener) })
	return g.Wait()
}

const echoPath = "/api/v1/licenses/echo"

// echo is the peer: it reads and decodes the same body and answers a constant of the same shape.
func echo(w http.ResponseWriter, r *http.Request) error {
	body, err := serve.ReadBody(r)
	if err != nil {
		return err
	}
	var req api.AcquireRequest
	if err := serve.Decode(body, &req, "user", "machine"); err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, api.AcquireResponse{
		Lease: api.Lease{Id: "lse_0123456789abcdef", Fence: 42, License: "lic_0123456789abcdef", User: req.User, Machine: req.Machine, State: api.LeaseStateActive},
	})
}
