package eventstore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Connect returns a connection to a fresh in-process server.
func Connect(t *testing.T) *nats.Conn {
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
	nc, err := nats.Connect("", append(NATSOptions("test"), nats.InProcessServer(s))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// NewReplicatedLog returns the journal of a partition, in a stream with three replicas.
func NewReplicatedLog(t *testing.T, nc *nats.Conn, p int) Log {
	t.Helper()
	js, err := newJetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := streamConfigs(LedgerInfo{ID: "test", Partitions: 100}, Partition(p), 3)[0]
	stream, err := js.CreateStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(fmt.Errorf("create %s: %w", cfg.Name, err))
	}
	log := &natsLog{js: js, stream: stream, subject: cfg.Subjects[0]}
	// The servers tell each other of a new stream only after it is there. An append that must be refused shows that it
	// can be reached.
	for !errors.Is(<-log.Append(Place{Seq: 99, ID: "none"}, Record{ID: "none"}), ErrConflict) {
		if !pause(t.Context(), 5*time.Millisecond) {
			t.Fatal("the stream cannot be reached")
		}
	}
	return log
}
