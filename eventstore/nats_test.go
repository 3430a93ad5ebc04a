package eventstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// nats-server 2.15 answers a lost race on the stream's last sequence with 10071, with 10164 where the race is with a
// message that is still on its way, and with 10070 when another message stands at the right sequence. Each has to be a
// conflict; a server that always answers with one of them forces it.
func TestEveryConflictCodeIsAConflict(t *testing.T) {
	t.Parallel()
	for _, code := range []int{10070, 10071, 10164} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			nc := Connect(t)
			_, err := nc.Subscribe("ledger.refused", func(m *nats.Msg) {
				m.Respond(fmt.Appendf(nil, `{"error":{"code":400,"err_code":%d,"description":"wrong last sequence"}}`, code))
			})
			if err != nil {
				t.Fatal(err)
			}
			js, err := newJetStream(nc)
			if err != nil {
				t.Fatal(err)
			}
			log := &natsLog{js: js, subject: "ledger.refused"}
			if err := <-log.Append(Place{Seq: 3, ID: "c"}, Record{ID: "d", Body: []byte("[]")}); !errors.Is(err, ErrConflict) {
				t.Fatalf("append = %v, want ErrConflict", err)
			}
		})
	}
}

func TestOtherServerErrorsAreNoConflict(t *testing.T) {
	t.Parallel()
	nc := Connect(t)
	_, err := nc.Subscribe("ledger.full", func(m *nats.Msg) {
		m.Respond([]byte(`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	js, err := newJetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	log := &natsLog{js: js, subject: "ledger.full"}
	if err := <-log.Append(Place{Seq: 3, ID: "c"}, Record{ID: "d", Body: []byte("[]")}); err == nil || errors.Is(err, ErrConflict) {
		t.Fatalf("append = %v, want an error that leaves the outcome open", err)
	}
}

func TestLedgerIsCreatedOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	nc := Connect(t)
	if _, err := OpenNATS(ctx, nc); !errors.Is(err, ErrNoLedger) {
		t.Fatalf("open = %v, want ErrNoLedger", err)
	}
	first, err := CreateNATS(ctx, nc, 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := CreateNATS(ctx, nc, 9, 1)
	if err != nil {
		t.Fatal(err)
	}
	if again.Info() != first.Info() || again.Info().Partitions != 4 {
		t.Fatalf("second create found %+v, first made %+v", again.Info(), first.Info())
	}
}

func TestMissingStreamIsNeverCreatedAgain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	nc := Connect(t)
	store, err := CreateNATS(ctx, nc, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	js := store.journals[1].js
	if err := js.DeleteStream(ctx, "LEDGER_01"); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateNATS(ctx, nc, 2, 1); err == nil {
		t.Fatal("a ledger that lost a stream was opened")
	}
	if _, err := js.Stream(ctx, "LEDGER_01"); err == nil {
		t.Fatal("the lost stream was created again")
	}
}

func TestLedgerGoesOnAfterACrashInItsCreation(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	nc := Connect(t)
	js, err := newJetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	info, err := newInfo(ctx, js, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range streamConfigs(info, 0, 1) { // then the process died
		if _, err := js.CreateStream(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	store, err := CreateNATS(ctx, nc, 7, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := store.Info(); got.ID != info.ID || got.Partitions != 2 {
		t.Fatalf("ledger = %+v, want the one begun as %+v", got, info)
	}
}
