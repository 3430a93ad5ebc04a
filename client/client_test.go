package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// However often an acquire is sent, it takes one seat: each attempt has the same Idempotency-Key.
func TestAcquireIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		f.network = func(ctx context.Context, r request, answered bool) error {
			if n := len(f.asked("acquire")); r.path == "acquire" && n < 4 && (n == 1 || answered) {
				return errDown // lost on the way there, then on the way back
			}
			return nil
		}
		l := acquire(t, c)
		tries := f.asked("acquire")
		if len(tries) != 4 || len(f.leases) != 1 {
			t.Fatalf("%d attempts, %d leases", len(tries), len(f.leases))
		}
		for _, r := range tries {
			if r.key == "" || r.key != tries[0].key {
				t.Errorf("keys %q and %q", tries[0].key, r.key)
			}
		}
		if !l.Held() || l.Status().Until.After(f.leases[0].expires) {
			t.Errorf("%+v, the ledger says until %v", l.Status(), f.leases[0].expires)
		}
	})
}

func TestAcquireGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		f.network = hang
		start := time.Now()
		_, err := c.Acquire(t.Context(), Holder{})
		if took := time.Since(start); !errors.Is(err, Unreachable) || took != 30*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err = c.Acquire(ctx, Holder{})
		if took := time.Since(start); !errors.Is(err, Unreachable) || !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestRefusals(t *testing.T) {
	for code, status := range map[Code]int{Unauthorized: 401, LicenseSuspended: 403, TenantSuspended: 403, LicenseRevoked: 403, "invalid_request": 400} {
		synctest.Test(t, func(t *testing.T) {
			f, c, _ := setup(t)
			f.answer = func(request) (reply, bool) { return problemReply(status, string(code)), true }
			_, err := c.Acquire(t.Context(), Holder{})
			var e *Error
			if !errors.Is(err, code) || !errors.As(err, &e) || e.Status != status || e.Detail != "Detail." || len(f.requests) != 1 {
				t.Errorf("%v after %d requests, want %s", err, len(f.requests), code)
			}
		})
	}
}

func TestNoSeatAndWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		first := acquire(t, c)
		other := Holder{User: "bob"}
		_, err := c.Acquire(t.Context(), other)
		var e *Error
		if !errors.Is(err, NoSeatAvailable) || !errors.As(err, &e) || e.RetryAfter != 3*time.Second || e.Seats != 1 || e.InUse != 1 {
			t.Fatalf("%v: %+v", err, e)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Wait(ctx, other, nil); !errors.Is(err, NoSeatAvailable) || ctx.Err() == nil {
			t.Errorf("Wait ended with %v", err)
		}
		// Also when the end comes while an answer is on its way.
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = c.Wait(ctx, other, func(*Error) { f.set(func() { f.network = hang }) })
		if !errors.Is(err, NoSeatAvailable) || ctx.Err() == nil {
			t.Errorf("Wait ended with %v", err)
		}
		f.set(func() { f.network = nil })
		time.AfterFunc(time.Minute, func() { first.Close(context.Background()) })
		var told []string
		l, err := c.Wait(t.Context(), other, func(e *Error) { told = append(told, e.Error()) })
		if err != nil || !l.Held() || len(told) != 4 || told[0] != "number 1 of 1 in the queue, about 2 min (no_seat_available)" { // after 1 s, and every 15 s
			t.Fatalf("Wait: %v; told %q", err, told)
		}
		keys := map[string]bool{}
		for _, r := range f.asked("acquire") {
			keys[r.key] = true
		}
		if len(keys) != len(f.asked("acquire")) {
			t.Error("a denial would be repeated for ever: acquires share an Idempotency-Key")
		}
		l.Close(t.Context())
	})
}

// Whoever stops waiting leaves the queue; whoever came first gets the seat, whatever becomes of the network meanwhile.
func TestWaitKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		first := acquire(t, c)
		got := make(chan string, 3)
		wait := func(ctx context.Context, user string) {
			go func() {
				if l, err := c.Wait(ctx, Holder{User: user}, nil); err == nil {
					got <- user
					l.Close(context.Background())
				}
			}()
			time.Sleep(time.Second)
		}
		wait(t.Context(), "bob")
		ctx, stop := context.WithCancel(t.Context())
		wait(ctx, "carol")
		wait(t.Context(), "dan")
		f.set(func() { f.network = down })
		time.Sleep(20 * time.Second)
		f.set(func() { f.network = nil })
		time.Sleep(20 * time.Second)
		stop()
		synctest.Wait()
		if len(f.queue) != 2 {
			t.Errorf("%q wait", f.queue)
		}
		first.Close(t.Context())
		if one, two := <-got, <-got; one != "bob" || two != "dan" {
			t.Errorf("%s got a seat, and then %s", one, two)
		}
	})
}

// A server that says at once that there is no seat is not asked again at once.
func TestWaitDoesNotHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		f.answer = func(request) (reply, bool) {
			return reply{status: 409, body: `{"code":"no_seat_available","position":1,"waiting":1}`}, true
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Wait(ctx, Holder{User: "ada"}, nil); !errors.Is(err, NoSeatAvailable) || len(f.requests) > 80 {
			t.Errorf("%v after %d requests", err, len(f.requests))
		}
	})
}

func TestPlaceInWords(t *testing.T) {
	for want, e := range map[string]Error{
		"":                           {Waiting: 7},
		"number 3 of 7 in the queue": {Position: 3, Waiting: 7},
		"number 3 of 7 in the queue, less than a minute": {Position: 3, Waiting: 7, Estimate: 59 * time.Second},
		"number 3 of 7 in the queue, about 2 min":        {Position: 3, Waiting: 7, Estimate: 125 * time.Second},
		"number 3 of 7 in the queue, about 119 min":      {Position: 3, Waiting: 7, Estimate: 119 * time.Minute},
		"number 3 of 7 in the queue, about 5 h":          {Position: 3, Waiting: 7, Estimate: 290 * time.Minute},
	} {
		if got := e.Place(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// An acquire that finds an older lease of the same holder holds it for as long as that runs, and renews it.
func TestAcquireOfAnOlderLease(t *testing.T) {
	for _, left := range []time.Duration{time.Millisecond, time.Second, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			f, c, _ := setup(t)
			first := acquire(t, c)
			first.Close(t.Context())
			f.set(func() { f.leases[0].state, f.leases[0].expires, f.requests = "active", time.Now().Add(left), nil })
			l := acquire(t, c)
			var end time.Time
			f.set(func() { end = f.leases[0].expires })
			if l.ID() != first.ID() || !l.Held() || l.Status().Until.After(end) {
				t.Errorf("%v left: %+v, the ledger says until %v", left, l.Status(), end)
			}
			for range 400 {
				time.Sleep(100 * time.Millisecond)
				if !l.Held() || !f.active(l.ID()) {
					t.Fatalf("%v left: not held: %+v", left, l.Status())
				}
			}
		})
	}
}

// Whoever asks for features is told which it has.
func TestFeatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t, func(config *Config) { config.Features = []string{"cad"} })
		if l := acquire(t, c); fmt.Sprint(l.Features()) != "[cad]" || fmt.Sprint(f.asked("acquire")[0].body["features"]) != "[cad]" {
			t.Errorf("features %v, asked for %v", l.Features(), f.asked("acquire")[0].body)
		}
	})
}

// A holder that lost its seat may acquire the moment after, also when the ledger still counts the old lease.
func TestAcquireAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		first := acquire(t, c)
		if _, err := c.Acquire(t.Context(), first.Holder()); !errors.Is(err, AlreadyHeld) {
			t.Errorf("the same holder twice: %v", err)
		}
		f.set(func() { f.network = down })
		<-first.Lost()
		f.set(func() {
			f.network = nil
			f.leases[0].state, f.leases[0].expires = "active", time.Now().Add(time.Minute)
		})
		second := acquire(t, c)
		first.Close(t.Context()) // a deferred one
		if second.ID() != first.ID() || !second.Held() || !f.active(second.ID()) || first.Held() {
			t.Errorf("first %+v, second %+v", first.Status(), second.Status())
		}
	})
}

// Whoever hears of a loss may acquire at once: the holder is free by then.
func TestAcquireAtTheMomentOfALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		for range 2000 {
			l, err := c.Acquire(t.Context(), Holder{User: "ada"})
			if err != nil {
				t.Fatal(err)
			}
			f.set(func() { f.leases = nil }) // as after a restore: the next heartbeat is answered with 404
			<-l.Lost()
		}
	})
}

// An acquire that is told to wait waits, and is not sent before; when it is told for longer than the program has, the program learns why.
func TestAcquireOverTheRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		f.answer = func(request) (reply, bool) {
			return reply{429, `{"code":"rate_limited","detail":"Too many."}`, "7"}, len(f.asked("acquire")) < 3
		}
		acquire(t, c)
		tries := f.asked("acquire")
		if len(tries) != 3 {
			t.Fatalf("%d attempts", len(tries))
		}
		for i, r := range tries[1:] {
			if pause := r.at.Sub(tries[i].at); pause < 7*time.Second || pause > 10*time.Second {
				t.Errorf("asked again after %v, with Retry-After: 7", pause)
			}
		}
		f.set(func() {
			f.answer = func(request) (reply, bool) { return reply{429, `{"code":"rate_limited"}`, "3600"}, true }
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.Acquire(ctx, Holder{User: "bob"})
		if !errors.Is(err, Unreachable) || !errors.Is(err, RateLimited) {
			t.Errorf("gave up with %v", err)
		}
	})
}

func TestSeveralServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t, func(config *Config) { config.Server = "http://one.test/, https://two.test" })
		without := func(gone string) func(context.Context, request, bool) error {
			return func(_ context.Context, r request, _ bool) error {
				if r.host == gone {
					return errDown
				}
				return nil
			}
		}
		f.network = without("one.test")
		l := acquire(t, c)
		time.Sleep(time.Minute)
		f.set(func() { f.network = without("two.test") })
		time.Sleep(time.Minute)
		if !l.Held() || l.Status().State != Held {
			t.Errorf("%+v", l.Status())
		}
		if n := len(f.asked("heartbeat")); n > 20 {
			t.Errorf("%d heartbeats in two minutes: the server that answered last is not remembered", n)
		}
	})
}

func TestBadConfig(t *testing.T) {
	for _, config := range []Config{{}, {LicenseKey: "lk"}, {LicenseKey: "lk", Server: "localhost:8080"}, {LicenseKey: "lk", Server: "http://a,"}, {Server: "http://a"}} {
		if _, err := New(config); err == nil {
			t.Errorf("%+v is taken", config)
		}
	}
}

func TestHolderDefaults(t *testing.T) {
	_, c, _ := setup(t)
	h, err := Holder{}.complete(c.process)
	if err != nil || h.User == "" || h.Machine == "" || h.Process != c.process {
		t.Errorf("%+v %v", h, err)
	}
	_, other, _ := setup(t)
	if other.process == c.process {
		t.Error("two clients have the same process")
	}
}
