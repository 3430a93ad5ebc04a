package eventstoretest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// RunRegister checks that registers do what eventstore.Register promises. newRegister returns one never written to.
func RunRegister(t *testing.T, newRegister func(t *testing.T) eventstore.Register) {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	r := newRegister(t)
	read := func(want string, wantRevision uint64) {
		t.Helper()
		value, revision, err := r.Read(ctx)
		if err != nil || string(value) != want || revision != wantRevision {
			t.Fatalf("read %q of revision %d, %v; want %q of %d", value, revision, err, want, wantRevision)
		}
	}
	read("", 0)
	first, err := r.Write(ctx, []byte("first"), 0)
	if err != nil || first == 0 {
		t.Fatalf("first write = %d, %v", first, err)
	}
	read("first", first)
	for _, stale := range []uint64{0, first + 1} {
		if _, err := r.Write(ctx, []byte("stale"), stale); !errors.Is(err, eventstore.ErrConflict) {
			t.Fatalf("write of revision %d = %v, want ErrConflict", stale, err)
		}
	}
	read("first", first)

	const writers = 8
	revisions := make([]uint64, writers)
	var wg sync.WaitGroup
	for i := range revisions {
		wg.Go(func() {
			revision, err := r.Write(ctx, fmt.Append(nil, i), first)
			if err != nil && !errors.Is(err, eventstore.ErrConflict) {
				t.Errorf("write = %v, want nil or ErrConflict", err)
			}
			revisions[i] = revision
		})
	}
	wg.Wait()
	won := 0
	for i, revision := range revisions {
		if revision > 0 {
			won++
			read(fmt.Sprint(i), revision)
		}
	}
	if won != 1 {
		t.Fatalf("%d of %d writes of one revision went through, want 1", won, writers)
	}
}
