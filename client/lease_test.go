package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHeartbeatsKeepTheSeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		l := acquire(t, c)
		for range 6000 {
			time.Sleep(100 * time.Millisecond)
			if !l.Held() || !f.active(l.ID()) {
				t.Fatalf("not held: %+v", l.Status())
			}
		}
		// Each 8 to 10 s: the server suggests 10.
		if n := len(f.asked("heartbeat")); n < 60 || n > 75 {
			t.Errorf("%d heartbeats in 10 minutes", n)
		}
		if l.Fence() != 7 || l.License() != "lic_1" || l.Err() != nil || l.Status().State != Held {
			t.Errorf("fence %d of %s, %v, %+v", l.Fence(), l.License(), l.Err(), l.Status())
		}
		if err := l.Close(t.Context()); err != nil || f.active(l.ID()) || l.Held() || !errors.Is(l.Err(), Closed) || isLost(l) {
			t.Errorf("after Close: %v, %v, %+v", err, l.Err(), l.Status())
		}
	})
}

// A seat is held until its length has passed since the last acknowledged heartbeat was sent, to the nanosecond.
func TestHeldUntilTheLeaseEnds(t *testing.T) {
	for name, network := range map[string]func(context.Context, request, bool) error{"down": down, "hangs": hang, "answers are lost": func(_ context.Context, _ request, answered bool) error {
		if answered {
			return errDown
		}
		return nil
	}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, c, _ := setup(t)
				l := acquire(t, c)
				time.Sleep(time.Minute)
				beats := f.asked("heartbeat")
				end := beats[len(beats)-1].at.Add(f.length)
				f.set(func() { f.network = network })
				time.Sleep(time.Until(end) - time.Nanosecond)
				s := l.Status()
				if !l.Held() || s.State != AtRisk || !s.Until.Equal(end) || !errors.Is(s.Err, Unreachable) || isLost(l) {
					t.Errorf("just before the end: held %v, %+v, want until %v", l.Held(), s, end)
				}
				time.Sleep(time.Nanosecond)
				if l.Held() {
					t.Error("held when the lease had ended")
				}
				synctest.Wait()
				if err := l.Err(); !isLost(l) || !errors.Is(err, LeaseLost) || !errors.Is(err, LeaseExpired) || !errors.Is(err, Unreachable) {
					t.Errorf("after the end: %v", err)
				}
				if tries := len(f.asked("heartbeat")) - len(beats); tries < 4 {
					t.Errorf("only %d heartbeats were tried", tries)
				}
				// It stays lost when the ledger is back, and nothing more is sent: the holder may have a new seat.
				f.set(func() { f.network = nil; f.requests = nil })
				time.Sleep(time.Hour)
				if err := l.Close(t.Context()); err != nil || len(f.requests) > 0 || l.Held() {
					t.Errorf("%v, %d requests after the loss", err, len(f.requests))
				}
			})
		})
	}
}

// Whatever the network and the wall clock do: who is told that it holds a seat holds one, and a seat is lost only when the
// ledger did not answer for a while.
func TestNeverHeldWithoutASeat(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			f, c, wallOff := setup(t)
			f.length = time.Duration(1+random.IntN(40)) * time.Second
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			bad, slow := 0.7*random.Float64(), random.Float64()*float64(f.length)
			if seed%3 == 0 {
				bad, slow = 0, float64(f.length)/20
			}
			draws := make(chan float64)
			go func() {
				for {
					select {
					case draws <- random.Float64():
					case <-ctx.Done():
						return
					}
				}
			}()
			f.set(func() {
				f.network = func(ctx context.Context, _ request, _ bool) error {
					if <-draws < bad {
						return errDown
					}
					if !sleep(ctx, time.Duration(<-draws*slow)) {
						return ctx.Err()
					}
					return nil
				}
			})
			lost := 0
			for range 20 {
				l, err := c.Acquire(ctx, Holder{User: "ada", Machine: "ws-1"})
				if err != nil {
					continue
				}
				for range 400 {
					time.Sleep(time.Duration(<-draws * float64(time.Second)))
					if <-draws < 0.01 {
						wallOff.Add(int64((<-draws - 0.5) * float64(time.Minute)))
					}
					if l.Held() && !f.active(l.ID()) {
						t.Fatalf("seed %d: held without a seat: %+v", seed, l.Status())
					}
					if isLost(l) {
						lost++
						break
					}
				}
				l.Close(ctx)
			}
			if bad == 0 && lost > 0 {
				t.Errorf("seed %d: lost %d seats on a working network", seed, lost)
			}
		})
	}
}

func TestSleepAndWrongClocks(t *testing.T) {
	t.Run("the laptop slept longer than the lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c, wallOff := setup(t)
			l := acquire(t, c)
			time.Sleep(5 * time.Second)
			wallOff.set(time.Hour) // the monotonic clock stood still
			f.set(func() { f.leases[0].state = "expired" })
			if l.Held() {
				t.Error("held an hour later")
			}
			<-l.Lost()
			if !errors.Is(l.Err(), LeaseExpired) {
				t.Errorf("lost: %v", l.Err())
			}
		})
	})
	t.Run("and comes back without a network", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c, wallOff := setup(t)
			l := acquire(t, c)
			f.set(func() { f.network = hang })
			wallOff.set(time.Hour)
			start := time.Now()
			<-l.Lost()
			if took := time.Since(start); !errors.Is(l.Err(), LeaseExpired) || took > 10*time.Second {
				t.Errorf("lost after %v: %v", took, l.Err())
			}
		})
	})
	t.Run("the laptop slept, and the seat is still there", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c, wallOff := setup(t)
			l := acquire(t, c)
			wallOff.set(20 * time.Second)
			if left := l.Status().Until.Sub(c.clock.wall()); !l.Held() || left != 10*time.Second {
				t.Errorf("held %v, %v left", l.Held(), left)
			}
			time.Sleep(watch)
			synctest.Wait()
			if n := len(f.asked("heartbeat")); n != 1 {
				t.Errorf("%d heartbeats after waking up", n)
			}
		})
	})
	t.Run("somebody sets the time forward", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c, wallOff := setup(t)
			l := acquire(t, c)
			wallOff.set(1000 * time.Hour)
			time.Sleep(watch)
			synctest.Wait()
			if !l.Held() || isLost(l) || !f.active(l.ID()) {
				t.Errorf("lost on a working network: %+v", l.Status())
			}
		})
	})
	t.Run("somebody sets the time back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c, wallOff := setup(t)
			l := acquire(t, c)
			wallOff.set(-1000 * time.Hour)
			time.Sleep(time.Minute)
			if !l.Held() || len(f.asked("heartbeat")) < 6 {
				t.Errorf("%d heartbeats, %+v", len(f.asked("heartbeat")), l.Status())
			}
			f.set(func() { f.network = down })
			time.Sleep(f.length)
			if l.Held() {
				t.Error("held for ever")
			}
		})
	})
}

// blockingHandler is a log that nobody reads.
type blockingHandler struct {
	slog.Handler
	until chan struct{}
}

func (h blockingHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (h blockingHandler) Handle(context.Context, slog.Record) error { <-h.until; return nil }
func (h blockingHandler) WithAttrs([]slog.Attr) slog.Handler        { return h }

func TestABlockedProgramKeepsItsSeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := make(chan struct{})
		var seen []State
		f, c, _ := setup(t, func(config *Config) {
			config.Logger = slog.New(blockingHandler{until: until})
			config.OnChange = func(_ *Lease, s Status) {
				<-until
				seen = append(seen, s.State)
			}
		})
		l := acquire(t, c) // and nobody reads l.Changes
		for round := range 3 {
			f.set(func() { f.network = down })
			time.Sleep(15 * time.Second)
			if s := l.Status(); s.State != AtRisk {
				t.Fatalf("round %d: %+v", round, s)
			}
			f.set(func() { f.network = nil })
			time.Sleep(15 * time.Second)
			if s := l.Status(); s.State != Held {
				t.Fatalf("round %d: %+v", round, s)
			}
		}
		if err := l.Close(t.Context()); err != nil {
			t.Errorf("Close behind a blocked callback: %v", err)
		}
		close(until)
		synctest.Wait()
		if got := fmt.Sprint(seen); got != "[held released]" { // those in between were missed
			t.Errorf("the callback saw %v", got)
		}
	})
}

func TestChangesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var called []State
		f, c, _ := setup(t, func(config *Config) {
			config.OnChange = func(_ *Lease, s Status) { called = append(called, s.State) }
		})
		l := acquire(t, c)
		work, cancel := l.Context(t.Context())
		defer cancel()
		var read []State
		done := make(chan struct{})
		go func() {
			defer close(done)
			for s := range l.Changes() {
				read = append(read, s.State)
			}
		}()
		time.Sleep(time.Second)
		f.set(func() { f.network = down })
		time.Sleep(15 * time.Second)
		f.set(func() { f.network = nil })
		time.Sleep(15 * time.Second)
		f.set(func() { f.leases[0].state = "revoked" })
		<-work.Done()
		<-done
		synctest.Wait()
		const want = "[held at_risk held lost]"
		if fmt.Sprint(read) != want || fmt.Sprint(called) != want {
			t.Errorf("read %v, called %v, want %v", read, called, want)
		}
		if cause := context.Cause(work); !errors.Is(cause, LeaseRevoked) || !errors.Is(l.Err(), LeaseLost) {
			t.Errorf("the work ended with %v", cause)
		}
	})
}

func TestHowALeaseIsLost(t *testing.T) {
	for answer, want := range map[reply]Code{
		problemReply(410, "lease_expired"):                      LeaseExpired,
		problemReply(410, "lease_released"):                     LeaseReleased,
		problemReply(410, "lease_revoked"):                      LeaseRevoked,
		problemReply(410, "lease_evicted"):                      LeaseEvicted,
		problemReply(410, "lease_transferred"):                  LeaseTransferred,
		problemReply(410, "lease_something_new"):                "lease_something_new",
		problemReply(404, "lease_not_found"):                    LeaseNotFound,
		{200, `{"lease":{"id":"lse_1","state":"expired"}}`, ""}: LeaseExpired,
	} {
		synctest.Test(t, func(t *testing.T) {
			f, c, _ := setup(t)
			l := acquire(t, c)
			f.set(func() { f.answer = func(request) (reply, bool) { return answer, true } })
			time.Sleep(11 * time.Second)
			if !isLost(l) || !errors.Is(l.Err(), want) || !errors.Is(l.Err(), LeaseLost) || l.Held() {
				t.Errorf("%v: %v, want %s", answer, l.Err(), want)
			}
		})
	}
}

// What is not a yes is not taken for one, and what is not a no is tried again.
func TestOddAnswersNeitherKeepNorLoseTheSeat(t *testing.T) {
	for _, answer := range []reply{
		{200, `<html>Please log in to the hotel's network</html>`, ""},
		{200, `{"lease":{"id":"lse_99","state":"active"},"expires_in_seconds":30}`, ""},
		{200, `{"lease":{"id":"lse_1","state":"active"}}`, ""},
		{200, `{}`, ""},
		{410, `gone`, ""},
		{404, `not found`, ""},
		{502, `bad gateway`, ""},
		problemReply(404, "not_found"),
		problemReply(401, "unauthorized"),
		problemReply(403, "license_suspended"),
		problemReply(503, "overloaded"),
		problemReply(500, "internal"),
	} {
		synctest.Test(t, func(t *testing.T) {
			f, c, _ := setup(t)
			l := acquire(t, c)
			odd := func(request) (reply, bool) { return answer, true }
			f.set(func() { f.answer = odd })
			time.Sleep(20 * time.Second)
			if s := l.Status(); !l.Held() || s.State != AtRisk || s.Err == nil {
				t.Errorf("%v: after 20 s: %+v", answer, s)
			}
			f.set(func() { f.answer = nil })
			time.Sleep(9 * time.Second)
			if s := l.Status(); !l.Held() || s.State != Held || s.Err != nil {
				t.Errorf("%v: when it is over: %+v", answer, s)
			}
			f.set(func() { f.answer = odd })
			time.Sleep(30 * time.Second)
			if !errors.Is(l.Err(), LeaseExpired) {
				t.Errorf("%v: after 30 s: %v", answer, l.Err())
			}
		})
	}
}

func TestRetryAfterIsHonouredButNotToDeath(t *testing.T) {
	for _, c := range []struct {
		refused   reply
		wantBeats [2]int
	}{
		{reply{503, `{"code":"overloaded"}`, "5"}, [2]int{2, 4}},
		{reply{503, `{"code":"overloaded"}`, "3600"}, [2]int{2, 8}},
		{reply{429, `{"code":"rate_limited"}`, "5"}, [2]int{2, 4}},
		{reply{429, `{"code":"rate_limited"}`, "3600"}, [2]int{2, 8}},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, holder, _ := setup(t)
			l := acquire(t, holder)
			f.set(func() {
				f.answer = func(request) (reply, bool) { return c.refused, true }
			})
			time.Sleep(24 * time.Second)
			if n := len(f.asked("heartbeat")); n < c.wantBeats[0] || n > c.wantBeats[1] {
				t.Errorf("%+v: %d heartbeats in 24 s", c.refused, n)
			}
			f.set(func() { f.answer = nil })
			time.Sleep(5 * time.Second)
			if !l.Held() {
				t.Errorf("%+v cost the seat: %v", c.refused, l.Err())
			}
		})
	}
}

// The server may change how long a lease runs, and how often it wants to hear of it.
func TestTheServerChangesTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		l := acquire(t, c)
		f.set(func() {
			f.answer = func(request) (reply, bool) {
				return reply{200, `{"lease":{"id":"lse_1","state":"active"},"expires_in_seconds":9,"heartbeat_seconds":2}`, ""}, true
			}
		})
		time.Sleep(40 * time.Second)
		if n := len(f.asked("heartbeat")); n < 15 {
			t.Errorf("%d heartbeats", n)
		}
		f.set(func() { f.network = down })
		time.Sleep(9 * time.Second)
		if l.Held() {
			t.Error("held for longer than the new length")
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		l := acquire(t, c)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Close(ended); err != nil || f.active(l.ID()) {
			t.Errorf("Close with a context that had ended: %v", err)
		}
		if err := l.Close(t.Context()); err != nil || len(f.asked("release")) != 1 {
			t.Errorf("second Close: %v, %d releases", err, len(f.asked("release")))
		}
		if _, open := <-l.Changes(); !open {
			t.Error("the last change is not there")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := setup(t)
		l := acquire(t, c)
		f.set(func() { f.network = hang })
		start := time.Now()
		if err := l.Close(context.Background()); !errors.Is(err, Unreachable) || time.Since(start) > releaseFor || l.Held() {
			t.Errorf("Close without a server: %v after %v", err, time.Since(start))
		}
	})
	synctest.Test(t, func(t *testing.T) { // a release is repeated, and one that finds the lease ended is fine
		f, c, _ := setup(t)
		l := acquire(t, c)
		f.set(func() {
			f.network = func(_ context.Context, _ request, answered bool) error {
				if len(f.asked("release")) < 3 {
					return errDown
				}
				return nil
			}
			f.leases[0].state = "expired"
		})
		if err := l.Close(t.Context()); err != nil || len(f.asked("release")) != 3 {
			t.Errorf("Close: %v, %d releases", err, len(f.asked("release")))
		}
	})
}

func TestErrorsSayWhatHappened(t *testing.T) {
	err := error(&Error{Code: NoSeatAvailable, Seats: 5, InUse: 5, RetryAfter: time.Second})
	if got := err.Error(); got != "5 of 5 seats are in use (no_seat_available)" {
		t.Error(got)
	}
	if errors.Is(err, LeaseLost) || !errors.Is(err, NoSeatAvailable) {
		t.Error("a refusal is not a loss")
	}
	err = unreachable("no answer", errors.New("connection refused"))
	if got := err.Error(); !strings.Contains(got, "no answer: connection refused (unreachable)") {
		t.Error(got)
	}
}
