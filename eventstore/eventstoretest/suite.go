package eventstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// wait bounds a test that would hang; no test waits for it to pass.
const wait = 30 * time.Second

// Run checks that logs do what eventstore.Log promises. newLog returns an empty one.
func Run(t *testing.T, newLog func(t *testing.T) eventstore.Log) {
	run := func(name string, test func(ctx context.Context, t *testing.T, log eventstore.Log)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			test(ctx, t, newLog(t))
		})
	}
	run("an empty log has no records", testEmpty)
	run("records come back as they were stored", testRoundTrip)
	run("a stale expectation is a conflict and stores nothing", testStale)
	run("an expectation beyond the end is a conflict and stores nothing", testAhead)
	run("of many appends with one expectation one is stored", testRace)
	run("several appends may be in flight", several(testPipeline))
	run("a lost append takes those behind it along", several(testPipelineBroken))
	run("a lost place is not taken by what was sent behind it", several(testPipelineFenced))
	run("the same record appended again is stored once", testAgain)
	run("a reader sees all in order and waits for more", testFollow)
	run("a reader may start anywhere", testReadFrom)
	run("a reader stops with the error of its function", testReadError)
	run("a record of 256 KiB fits", testLarge)
}

// RunErase checks that logs that may forget do what eventstore.Log promises of Erase. newLog returns an empty one.
func RunErase(t *testing.T, newLog func(t *testing.T) eventstore.Log) {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	log := newLog(t)
	fill(t, log, 5)
	// Twice: what is erased is erased.
	for _, seq := range []uint64{1, 3, 3, 2} {
		if err := log.Erase(ctx, seq); err != nil {
			t.Fatalf("erase %d: %v", seq, err)
		}
	}
	for seq := uint64(1); seq <= 5; seq++ {
		_, err := log.Get(ctx, seq)
		if erased := seq <= 3; erased != errors.Is(err, eventstore.ErrNoRecord) || (!erased && err != nil) {
			t.Fatalf("get %d = %v", seq, err)
		}
	}
	mustLast(ctx, t, log, 5)
	if err := <-log.Append(behind(5), record(6)); err != nil {
		t.Fatalf("append behind erased records: %v", err)
	}
	for after, want := range map[uint64][]uint64{0: {4, 5, 6}, 2: {4, 5, 6}, 4: {5, 6}} {
		var seen []uint64
		err := log.Read(ctx, after, func(seq uint64, r eventstore.Record) error {
			if seen = append(seen, seq); r.ID != record(int(seq)).ID {
				return fmt.Errorf("record %d is %s", seq, r.ID)
			}
			if seq == 6 {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) || !slices.Equal(seen, want) {
			t.Fatalf("read after %d = %d, %v; want %d", after, seen, err, want)
		}
	}
}

// RunNoErase checks that a log that never forgets refuses to. newLog returns an empty one.
func RunNoErase(t *testing.T, newLog func(t *testing.T) eventstore.Log) {
	log := newLog(t)
	fill(t, log, 2)
	if err := log.Erase(t.Context(), 1); err == nil {
		t.Fatal("a record of a log that never forgets was erased")
	}
	if r, err := log.Get(t.Context(), 1); err != nil || r.ID != record(1).ID {
		t.Fatalf("get 1 = %s, %v", r.ID, err)
	}
}

// several is a test of a log that takes several appends at once; of one that does not there is nothing to promise.
func several(test func(context.Context, *testing.T, eventstore.Log)) func(context.Context, *testing.T, eventstore.Log) {
	return func(ctx context.Context, t *testing.T, log eventstore.Log) {
		switch n := log.InFlightMax(); {
		case n < 1:
			t.Errorf("%d appends in flight", n)
		case n > 1:
			test(ctx, t, log)
		}
	}
}

func record(i int) eventstore.Record {
	return eventstore.Record{ID: fmt.Sprint("record-", i), Header: map[string]string{"Ledger-Epoch": fmt.Sprint(i)}, Body: fmt.Appendf(nil, `[{"n":%d}]`, i)}
}

// behind is the place of record(i) where record(i) stands at sequence i; 0 is the beginning.
func behind(i int) eventstore.Place {
	if i == 0 {
		return eventstore.Place{}
	}
	return eventstore.Place{Seq: uint64(i), ID: record(i).ID}
}

func fill(t *testing.T, log eventstore.Log, n int) {
	t.Helper()
	for i := range n {
		if err := <-log.Append(behind(i), record(i+1)); err != nil {
			t.Fatalf("append %d: %v", i+1, err)
		}
	}
}

func mustLast(ctx context.Context, t *testing.T, log eventstore.Log, want uint64) {
	t.Helper()
	if last, err := log.Last(ctx); err != nil || last != want {
		t.Fatalf("last = %d, %v; want %d", last, err, want)
	}
}

func testEmpty(ctx context.Context, t *testing.T, log eventstore.Log) {
	mustLast(ctx, t, log, 0)
	if _, err := log.Get(ctx, 1); !errors.Is(err, eventstore.ErrNoRecord) {
		t.Fatalf("get 1 = %v, want ErrNoRecord", err)
	}
}

func testRoundTrip(ctx context.Context, t *testing.T, log eventstore.Log) {
	want := eventstore.Record{
		ID:     "01935e2f-7c00-7000-8000-000000000009",
		Header: map[string]string{"ledger-lower": "b", "Ledger-Prev": "-_x"},
		Body:   []byte("[{\"text\":\"\\u0000 ü 世\"}]\n"),
	}
	if err := <-log.Append(behind(0), want); err != nil {
		t.Fatal(err)
	}
	got, err := log.Get(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != want.ID {
		t.Fatalf("id = %q, want %q", got.ID, want.ID)
	}
	if !bytes.Equal(got.Body, want.Body) {
		t.Fatalf("body = %q, want %q", got.Body, want.Body)
	}
	for key, value := range want.Header {
		if got.Header[key] != value {
			t.Fatalf("header %s = %q, want %q", key, got.Header[key], value)
		}
	}
	_ = log.Read(ctx, 0, func(_ uint64, read eventstore.Record) error {
		if read.ID != got.ID || !bytes.Equal(read.Body, got.Body) || !maps.Equal(read.Header, got.Header) {
			t.Errorf("read %v, got %v", read, got)
		}
		return errEnough
	})
}

func testStale(ctx context.Context, t *testing.T, log eventstore.Log) {
	fill(t, log, 2)
	if err := <-log.Append(behind(1), record(9)); !errors.Is(err, eventstore.ErrConflict) {
		t.Fatalf("append = %v, want ErrConflict", err)
	}
	mustLast(ctx, t, log, 2)
}

func testAhead(ctx context.Context, t *testing.T, log eventstore.Log) {
	fill(t, log, 2)
	if err := <-log.Append(behind(7), record(9)); !errors.Is(err, eventstore.ErrConflict) {
		t.Fatalf("append = %v, want ErrConflict", err)
	}
	mustLast(ctx, t, log, 2)
}

func testRace(ctx context.Context, t *testing.T, log eventstore.Log) {
	const writers, rounds = 8, 20
	var last eventstore.Place
	for round := range uint64(rounds) {
		errs := make([]error, writers)
		var wg sync.WaitGroup
		of := func(i int) eventstore.Record { return record(int(round)*writers + i) }
		for i := range errs {
			wg.Go(func() { errs[i] = <-log.Append(last, of(i)) })
		}
		wg.Wait()
		stored := 0
		for i, err := range errs {
			switch {
			case err == nil:
				stored++
				last = eventstore.Place{Seq: round + 1, ID: of(i).ID}
			case !errors.Is(err, eventstore.ErrConflict):
				t.Fatalf("append = %v, want nil or ErrConflict", err)
			}
		}
		if stored != 1 {
			t.Fatalf("%d of %d appends at %d were stored, want 1", stored, writers, round)
		}
		mustLast(ctx, t, log, round+1)
	}
}

func testPipeline(ctx context.Context, t *testing.T, log eventstore.Log) {
	const n = 64
	outcomes := make([]<-chan error, n)
	for i := range outcomes {
		outcomes[i] = log.Append(behind(i), record(i+1))
	}
	for i, outcome := range outcomes {
		if err := <-outcome; err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	mustLast(ctx, t, log, n)
}

func testPipelineBroken(ctx context.Context, t *testing.T, log eventstore.Log) {
	fill(t, log, 1)
	first := log.Append(behind(0), record(8))
	second := log.Append(eventstore.Place{Seq: 2, ID: record(8).ID}, record(9)) // counts on one that is not stored
	for _, outcome := range []<-chan error{first, second} {
		if err := <-outcome; !errors.Is(err, eventstore.ErrConflict) {
			t.Fatalf("append = %v, want ErrConflict", err)
		}
	}
	mustLast(ctx, t, log, 1)
}

// The first of two in flight loses its place to another writer. The sequence that the second expects is then there.
func testPipelineFenced(ctx context.Context, t *testing.T, log eventstore.Log) {
	fill(t, log, 1)
	rival := log.Append(behind(1), record(7))
	first := log.Append(behind(1), record(8))
	second := log.Append(eventstore.Place{Seq: 2, ID: record(8).ID}, record(9))
	if err := <-rival; err != nil {
		t.Fatal(err)
	}
	for _, outcome := range []<-chan error{first, second} {
		if err := <-outcome; !errors.Is(err, eventstore.ErrConflict) {
			t.Fatalf("append = %v, want ErrConflict", err)
		}
	}
	mustLast(ctx, t, log, 2)
}

func testAgain(ctx context.Context, t *testing.T, log eventstore.Log) {
	fill(t, log, 1)
	// A log may say that it is there, or that the place is taken.
	if err := <-log.Append(behind(0), record(1)); err != nil && !errors.Is(err, eventstore.ErrConflict) {
		t.Fatalf("second append = %v, want nil or ErrConflict", err)
	}
	mustLast(ctx, t, log, 1)
}

var errEnough = errors.New("enough")

func testFollow(ctx context.Context, t *testing.T, log eventstore.Log) {
	fill(t, log, 3)
	const n = 50
	done := make(chan error, 1)
	go func() {
		next := uint64(1)
		done <- log.Read(ctx, 0, func(seq uint64, r eventstore.Record) error {
			if seq != next || r.ID != record(int(seq)).ID {
				return fmt.Errorf("read %d with %v, want %d", seq, r.Header, next)
			}
			if next++; seq == n {
				return errEnough
			}
			return nil
		})
	}()
	for i := 3; i < n; i++ {
		if err := <-log.Append(behind(i), record(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
}

func testReadFrom(ctx context.Context, t *testing.T, log eventstore.Log) {
	fill(t, log, 5)
	err := log.Read(ctx, 4, func(seq uint64, _ eventstore.Record) error {
		if seq != 5 {
			return fmt.Errorf("read %d, want 5", seq)
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	err = log.Read(ctx, 5, func(seq uint64, _ eventstore.Record) error { return fmt.Errorf("read %d after the end", seq) })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("read after the end = %v, want canceled", err)
	}
}

func testReadError(ctx context.Context, t *testing.T, log eventstore.Log) {
	fill(t, log, 3)
	calls := 0
	err := log.Read(ctx, 0, func(uint64, eventstore.Record) error {
		calls++
		return errEnough
	})
	if !errors.Is(err, errEnough) || calls != 1 {
		t.Fatalf("read = %v after %d calls", err, calls)
	}
}

func testLarge(ctx context.Context, t *testing.T, log eventstore.Log) {
	body := bytes.Repeat([]byte("x"), eventstore.CommitMax)
	if err := <-log.Append(behind(0), eventstore.Record{ID: "large", Body: body}); err != nil {
		t.Fatal(err)
	}
	got, err := log.Get(ctx, 1)
	if err != nil || !bytes.Equal(got.Body, body) {
		t.Fatalf("got %d bytes, %v", len(got.Body), err)
	}
}
