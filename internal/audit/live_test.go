package audit

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// copyOf copies a partition, each commit as change makes it.
func copyOf(t *testing.T, journal eventstore.Log, change func(seq uint64, c *eventstore.Commit)) eventstore.Log {
	t.Helper()
	copied := eventstoretest.NewLog()
	last, err := journal.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var after eventstore.Place
	var prev eventstore.Hash
	for seq := range last {
		r, err := journal.Get(t.Context(), seq+1)
		if err != nil {
			t.Fatal(err)
		}
		c, err := eventstore.CommitOf(r)
		if err != nil {
			t.Fatal(err)
		}
		c.Prev = prev
		change(seq+1, &c)
		prev = c.Hash()
		if err := <-copied.Append(after, c.Record()); err != nil {
			t.Fatal(err)
		}
		after = eventstore.Place{Seq: seq + 1, ID: c.ID}
	}
	return copied
}

func TestCopiesOfAJournalAreCompared(t *testing.T) {
	t.Parallel()
	journal := aLedger(t, 20).Journal(0)
	last, err := journal.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		change func(seq uint64, c *eventstore.Commit)
		want   string
	}{
		"same": {func(uint64, *eventstore.Commit) {}, ""},
		"body": {func(seq uint64, c *eventstore.Commit) {
			if seq == 7 {
				c.Body = []byte(strings.ReplaceAll(string(c.Body), "u_user", "u_uzer"))
			}
		}, "commit 7 has another body"},
		"epoch": {func(seq uint64, c *eventstore.Commit) {
			if seq == 9 {
				c.Epoch++
			}
		}, "commit 9 has another epoch"},
		"directory": {func(seq uint64, c *eventstore.Commit) {
			if seq == 9 {
				c.Directory++
			}
		}, "commit 9 has another directory position"},
		"id": {func(seq uint64, c *eventstore.Commit) {
			if seq == last {
				c.ID = uuid.NewString()
			}
		}, "has another id"},
		"broken by itself": {func(seq uint64, c *eventstore.Commit) {
			if seq == 5 {
				c.Prev[0]++
			}
		}, "the copy"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			done := uint64(0)
			err := CompareJournals(t.Context(), journal, copyOf(t, journal, test.change), last, func(n, _ uint64) { done = n })
			switch {
			case test.want == "" && (err != nil || done != last):
				t.Errorf("%v after %d of %d", err, done, last)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v; want %q", err, test.want)
			}
		})
	}
}

func TestAPartitionIsFolded(t *testing.T) {
	t.Parallel()
	journal := aLedger(t, 20).Journal(0)
	last, err := journal.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state, err := FoldPartition(t.Context(), journal, last, func(uint64, uint64) {})
	if err != nil || state.Checkpoint.Seq != last {
		t.Errorf("%v at %d of %d", err, state.Checkpoint.Seq, last)
	}
	broken := copyOf(t, journal, func(seq uint64, c *eventstore.Commit) {
		if seq == 7 {
			c.Body = []byte(strings.ReplaceAll(string(c.Body), "u_user", "u_uzer"))
		}
	})
	if _, err := FoldPartition(t.Context(), broken, last, func(uint64, uint64) {}); !errors.Is(err, eventstore.ErrChainBroken) {
		t.Errorf("an event of commit 7 was changed, and the partition's chain made anew: %v", err)
	}
}
