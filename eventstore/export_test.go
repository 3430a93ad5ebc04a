package eventstore

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
)

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
	return &natsLog{js: js, stream: stream, subject: cfg.Subjects[0]}
}
