package eventstore_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// stalls is a log whose first Read gives nothing.
type stalls struct {
	eventstore.Log
	read bool
}

func (l *stalls) Read(ctx context.Context, after uint64, f func(uint64, eventstore.Record) error) error {
	if !l.read {
		l.read = true
		<-ctx.Done()
		return ctx.Err()
	}
	return l.Log.Read(ctx, after, f)
}

// Where reading stands still for a while, records that were erased are not taken for damaged.
func TestReadingGoesOnBehindWhatWasErased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := eventstoretest.NewLog()
		var end eventstore.Place
		for seq := uint64(1); seq <= 5; seq++ {
			r := eventstore.Record{ID: fmt.Sprint("record ", seq)}
			if err := <-log.Append(end, r); err != nil {
				t.Fatal(err)
			}
			end = eventstore.Place{Seq: seq, ID: r.ID}
		}
		for _, seq := range []uint64{1, 2, 4} {
			if err := log.Erase(t.Context(), seq); err != nil {
				t.Fatal(err)
			}
		}
		var got []uint64
		err := eventstore.ReadUpTo(t.Context(), &stalls{Log: log}, 0, 5, func(seq uint64, _ eventstore.Record) error {
			got = append(got, seq)
			return nil
		})
		if err != nil || !slices.Equal(got, []uint64{3, 5}) {
			t.Errorf("%v, %v", got, err)
		}
	})
}
