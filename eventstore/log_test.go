package eventstore_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

func TestLogInMemory(t *testing.T) {
	t.Parallel()
	eventstoretest.Run(t, func(*testing.T) eventstore.Log { return eventstoretest.NewLog() })
}

func TestLogInJetStream(t *testing.T) {
	t.Parallel()
	t.Run("journal", func(t *testing.T) {
		t.Parallel()
		eventstoretest.Run(t, func(t *testing.T) eventstore.Log { return natsStore(t).Journal(0) })
	})
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		eventstoretest.Run(t, func(t *testing.T) eventstore.Log { return natsStore(t).Directory(0) })
	})
}

// natsStore returns an empty ledger in a server of its own.
func natsStore(t *testing.T) *eventstore.NATSStore {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server did not start")
	}
	nc, err := nats.Connect("", append(eventstore.NATSOptions("test"), nats.InProcessServer(s))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	store, err := eventstore.CreateNATS(t.Context(), nc, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	return store
}
