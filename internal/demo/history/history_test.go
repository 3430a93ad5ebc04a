package history_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/internal/demo/history"
)

var small = history.Options{Tenants: 30, Scale: 0.5, Days: 60, End: time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC), Seed: 7}

func write(t *testing.T, o history.Options) (*eventstoretest.Store, history.Summary, []eventstore.Checkpoint) {
	t.Helper()
	store := eventstoretest.NewStore(2)
	s, err := history.Write(context.Background(), store, o)
	if err != nil {
		t.Fatal(err)
	}
	var ends []eventstore.Checkpoint
	for p := range eventstore.Partition(2) {
		last, err := store.Journal(p).Last(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		state := eventstore.NewState()
		// The fold checks both chains, the versions, and that no seat was sold twice.
		if err := state.FoldUpTo(context.Background(), store.Journal(p), last, nil); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, state.Checkpoint)
	}
	return store, s, ends
}

func TestTheSameSeedGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	store, s, ends := write(t, small)
	_, again, endsAgain := write(t, small)
	if s != again || ends[0] != endsAgain[0] || ends[1] != endsAgain[1] {
		t.Errorf("%+v %v, then %+v %v", s, ends, again, endsAgain)
	}
	other := small
	other.Seed++
	if _, _, ends := write(t, other); ends[0].Hash == endsAgain[0].Hash {
		t.Error("another seed gives the same bytes")
	}
	if s.Tenants < 25 || s.Acquires < 5000 || s.Denials < 20 || s.Denials > s.Acquires/4 {
		t.Errorf("no likely history: %+v", s)
	}

	names := eventstore.NewDirectory(store.Directory(0))
	if err := names.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	last, _ := store.Journal(0).Last(context.Background())
	known := 0
	state := eventstore.NewState()
	err := state.FoldUpTo(context.Background(), store.Journal(0), last, func(_ eventstore.Checkpoint, c eventstore.Commit) {
		slices, err := c.Decode()
		if err != nil {
			t.Error(err)
		}
		for _, slice := range slices {
			for _, e := range slice.Events {
				if a, ok := e.Data.(*domain.SeatAcquired); ok && (names.Text(e.Tenant, a.User) == "" || names.Text(e.Tenant, a.Machine) == "") {
					t.Fatalf("%s and %s have no names", a.User, a.Machine)
				} else if ok {
					known++
				}
				if e.Time.Before(small.Begin()) || e.Time.After(small.End) {
					t.Fatalf("an event at %s, out of the history", e.Time)
				}
			}
		}
	})
	if err != nil || known == 0 {
		t.Fatal(err, known)
	}
}

func TestALedgerWithCommitsIsLeftAlone(t *testing.T) {
	t.Parallel()
	brief := small
	brief.Tenants, brief.Days = 2, 2
	store, _, _ := write(t, brief)
	before, _ := store.Journal(0).Last(context.Background())
	_, err := history.Write(context.Background(), store, brief)
	after, _ := store.Journal(0).Last(context.Background())
	if !errors.Is(err, eventstore.ErrNotEmpty) || before != after {
		t.Errorf("%v; %d commits, then %d", err, before, after)
	}
}
