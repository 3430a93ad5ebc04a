package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/google/uuid"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// filled returns a ledger with n commits and as many records of names in each partition.
func filled(t *testing.T, n int) *eventstoretest.Store {
	t.Helper()
	store := eventstoretest.NewStore(2)
	for p := range eventstore.Partition(2) {
		var at eventstore.Place
		var prev eventstore.Hash
		for i := range n {
			c := eventstore.Commit{ID: uuid.NewString(), Epoch: 1, Prev: prev, Directory: uint64(i), Body: fmt.Appendf(nil,
				`[{"specversion":"1.0","id":"%d","source":"/x","type":"ai.coditect.writer.epoch_started.v1","time":"2026-01-02T03:04:05Z","data":{"epoch":1,"writer":"w"}}]`, i)}
			if err := <-store.Journal(p).Append(at, c.Record()); err != nil {
				t.Fatal(err)
			}
			name := eventstore.Record{ID: c.ID, Header: map[string]string{"Content-Type": "application/json"}, Body: []byte(`[]`)}
			if err := <-store.Directory(p).Append(at, name); err != nil {
				t.Fatal(err)
			}
			prev, at = c.Hash(), eventstore.Place{Seq: at.Seq + 1, ID: c.ID}
		}
	}
	return store
}

func last(t *testing.T, log eventstore.Log) uint64 {
	t.Helper()
	n, err := log.Last(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Whatever is left of a journal: what its copy has is there again, the same.
func TestRestoreBringsBackWhatTheCopyHas(t *testing.T) {
	t.Parallel()
	for _, left := range [][2]uint64{{0, 0}, {20, 0}, {7, 20}, {20, 20}, {19, 1}} {
		copied := filled(t, 20)
		journal := eventstoretest.NewStore(2)
		for p := range eventstore.Partition(2) {
			for i, logs := range [][2]eventstore.Log{{copied.Journal(p), journal.Journal(p)}, {copied.Directory(p), journal.Directory(p)}} {
				var at eventstore.Place
				for seq := uint64(1); seq <= left[i]; seq++ {
					r, err := logs[0].Get(t.Context(), seq)
					if err == nil {
						err = <-logs[1].Append(at, r)
					}
					if err != nil {
						t.Fatal(err)
					}
					at = eventstore.Place{Seq: seq, ID: r.ID}
				}
			}
		}
		for range 2 { // and again: then there is nothing to do
			var at, of uint64
			done, err := eventstore.Restore(t.Context(), copied, journal, func(done, total uint64) { at, of = done, total })
			if err != nil {
				t.Fatal(left, err)
			}
			if len(done) != 2 || done[1].Commits != 20 || done[1].Names != 20 || done[1].Time.Year() != 2026 || at != 80 || of != 80 {
				t.Errorf("%v: %+v, %d of %d", left, done, at, of)
			}
		}
		for p := range eventstore.Partition(2) {
			for _, logs := range [][2]eventstore.Log{{copied.Journal(p), journal.Journal(p)}, {copied.Directory(p), journal.Directory(p)}} {
				for seq := uint64(1); seq <= 20; seq++ {
					want, _ := logs[0].Get(t.Context(), seq)
					got, err := logs[1].Get(t.Context(), seq)
					if err != nil || !reflect.DeepEqual(got, want) {
						t.Fatalf("%v: record %d is %v, not %v (%v)", left, seq, got, want, err)
					}
				}
				if n := last(t, logs[1]); n != 20 {
					t.Errorf("%v: %d records", left, n)
				}
			}
		}
	}
}

// A journal that went on differently after a loss is left alone.
func TestRestoreRefusesAnotherHistory(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(copied, journal *eventstoretest.Store){
		"another commit at the end": func(copied, journal *eventstoretest.Store) {
			journal.Journal(1).(*eventstoretest.Log).Replace(10, func(r *eventstore.Record) { r.ID = uuid.NewString() })
		},
		"another name": func(copied, journal *eventstoretest.Store) {
			journal.Directory(0).(*eventstoretest.Log).Replace(10, func(r *eventstore.Record) { r.Body = []byte(`[ ]`) })
		},
		"a commit of the copy was changed": func(copied, journal *eventstoretest.Store) {
			copied.Journal(0).(*eventstoretest.Log).Replace(15, func(r *eventstore.Record) { r.Body = append(r.Body, ' ') })
		},
		"a commit of the journal was changed": func(copied, journal *eventstoretest.Store) {
			journal.Journal(0).(*eventstoretest.Log).Replace(5, func(r *eventstore.Record) { r.Body = append(r.Body, ' ') })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			copied, journal := filled(t, 20), eventstoretest.NewStore(2)
			if _, err := eventstore.Restore(t.Context(), copied, journal, nil); err != nil {
				t.Fatal(err)
			}
			for p := range eventstore.Partition(2) {
				journal.Journal(p).(*eventstoretest.Log).Truncate(10)
				journal.Directory(p).(*eventstoretest.Log).Truncate(10)
			}
			spoil(copied, journal)
			_, err := eventstore.Restore(t.Context(), copied, journal, nil)
			if !errors.Is(err, eventstore.ErrDiverged) && !errors.Is(err, eventstore.ErrChainBroken) {
				t.Error(err)
			}
		})
	}
}
