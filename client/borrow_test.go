package client

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// A borrowed seat outlives the program that took it: it has no heartbeats, and is held until its time by whoever reads it back.
func TestBorrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		until := time.Now().Add(72 * time.Hour).UTC()
		f.network = func(_ context.Context, r request, answered bool) error {
			if len(f.asked(r.path)) == 1 && answered {
				return errDown // the answer is lost on its way back
			}
			return nil
		}
		b, err := c.Borrow(t.Context(), Holder{User: "ada", Machine: "laptop", Process: "cad"}, until)
		if err != nil {
			t.Fatal(err)
		}
		if b.Lease != "lse_1" || b.Fence != 7 || !b.Until.Equal(until) || b.Holder.Process != "cad" || len(f.leases) != 1 {
			t.Errorf("%+v, %d leases", b, len(f.leases))
		}
		if tries := f.asked("acquire"); len(tries) != 2 || tries[0].key != tries[1].key || tries[0].body["borrow_until"] != until.Format(time.RFC3339Nano) {
			t.Errorf("%+v", tries)
		}

		stored, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		var read Borrowed
		if err := json.Unmarshal(stored, &read); err != nil || !reflect.DeepEqual(read, b) {
			t.Errorf("read back %+v, %v", read, err)
		}
		time.Sleep(time.Until(until) - time.Millisecond)
		if !read.Held(time.Now()) || len(f.asked("heartbeat")) != 0 {
			t.Errorf("not held before its end; %d heartbeats", len(f.asked("heartbeat")))
		}
		time.Sleep(time.Millisecond)
		if read.Held(time.Now()) {
			t.Error("held at its end")
		}
	})
}

func TestReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		b, err := c.Borrow(t.Context(), Holder{User: "ada", Machine: "laptop"}, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Acquire(t.Context(), Holder{User: "bob"}); !errors.Is(err, NoSeatAvailable) {
			t.Fatal(err)
		}
		for range 2 { // returning twice is no error
			if err := c.Return(t.Context(), b); err != nil || f.active(b.Lease) {
				t.Fatalf("%v, active: %v", err, f.active(b.Lease))
			}
		}
		again, err := c.Borrow(t.Context(), Holder{User: "ada", Machine: "laptop"}, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if err := c.Return(t.Context(), again); err != nil {
			t.Errorf("returning one that is over: %v", err)
		}
		f.network = down
		if err := c.Return(t.Context(), again); !errors.Is(err, Unreachable) {
			t.Errorf("without a network: %v", err)
		}
	})
}

func TestBorrowIsRefused(t *testing.T) {
	for _, code := range []Code{BorrowNotAllowed, BorrowTooLong, BorrowLimitReached} {
		synctest.Test(t, func(t *testing.T) {
			f, c, _ := setup(t)
			f.answer = func(request) (reply, bool) { return problemReply(403, string(code)), true }
			if _, err := c.Borrow(t.Context(), Holder{}, time.Now().Add(time.Hour)); !errors.Is(err, code) {
				t.Errorf("%v, want %s", err, code)
			}
		})
	}
}
