package projections

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// Few records and many are read in two ways, which say the same: each record once, in order, up to the last that was asked for; and which
// of them are not there, be it the first or the last.
func TestEachRecordOfADirectory(t *testing.T) {
	t.Parallel()
	const after = 3
	for _, n := range []uint64{1, getsMax, getsMax + 1, 3 * getsMax} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			last := after + n
			directory := directoryOf(t, last+3)
			erased := []uint64{after, after + 1, after + n/2, last, last + 1} // beside those that are asked for, too
			for _, seq := range erased {
				if err := directory.Erase(t.Context(), seq); err != nil {
					t.Fatal(err)
				}
			}
			var got, want []string
			for seq := uint64(after + 1); seq <= last; seq++ {
				id := fmt.Sprint("record ", seq)
				if slices.Contains(erased, seq) {
					id = "none"
				}
				want = append(want, fmt.Sprint(seq, " ", id))
			}
			err := eachRecord(t.Context(), directory, after, last, func(seq uint64, r *eventstore.Record) error {
				id := "none"
				if r != nil {
					id = r.ID
				}
				got = append(got, fmt.Sprint(seq, " ", id))
				return nil
			})
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, got\n%s\nnot\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// A directory that ends too early is told at once, and before anything of it is used.
func TestADirectoryThatEndsTooEarly(t *testing.T) {
	t.Parallel()
	const last = getsMax + 5
	err := eachRecord(t.Context(), directoryOf(t, last-1), 0, last, func(seq uint64, _ *eventstore.Record) error {
		t.Errorf("record %d is used", seq)
		return nil
	})
	if !errors.Is(err, eventstore.ErrChainBroken) || !strings.Contains(err.Error(), directoryEnds(last-1, last).Error()) {
		t.Error(err)
	}
}

// directoryOf returns a log of n records.
func directoryOf(t *testing.T, n uint64) *eventstoretest.Log {
	t.Helper()
	directory := eventstoretest.NewLog()
	var end eventstore.Place
	for seq := uint64(1); seq <= n; seq++ {
		r := eventstore.Record{ID: fmt.Sprint("record ", seq)}
		if err := <-directory.Append(end, r); err != nil {
			t.Fatal(err)
		}
		end = eventstore.Place{Seq: seq, ID: r.ID}
	}
	return directory
}
