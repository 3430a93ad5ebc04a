package commandapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// waiter is a request that waits for a seat.
type waiter struct {
	w      *httptest.ResponseRecorder
	done   chan struct{}
	hangUp context.CancelFunc
}

func (s *service) wait(key, user string, seconds int) *waiter {
	ctx, cancel := context.WithCancel(context.Background())
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, acquirePath, strings.NewReader(fmt.Sprintf(`{"user":%q,"machine":"ws","wait_seconds":%d}`, user, seconds)))
	r.Header.Set("Authorization", "Bearer "+key)
	a := &waiter{w: httptest.NewRecorder(), done: make(chan struct{}), hangUp: cancel}
	go func() {
		defer close(a.done)
		s.handler.ServeHTTP(a.w, r)
	}()
	synctest.Wait()
	return a
}

// answer returns the answer; its status is 0 while there is none.
func (a *waiter) answer(t *testing.T) reply {
	t.Helper()
	synctest.Wait()
	select {
	case <-a.done:
	default:
		return reply{}
	}
	got := reply{status: a.w.Code, header: a.w.Header(), text: a.w.Body.String()}
	if err := json.Unmarshal(a.w.Body.Bytes(), &got.body); err != nil {
		t.Fatalf("%d %s", got.status, got.text)
	}
	return got
}

// inBubble runs a test on a service with the time of a bubble.
func inBubble(t *testing.T, test func(t *testing.T, s *service)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, eventstoretest.NewStore(1))
		test(t, s)
		s.stop()
	})
}

func TestWaitingForASeat(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		_, key := s.license("acme", 1, 3600)
		ada := s.want(s.acquire(key, "ada", "ws", ""), 201, "").str("lease.id")
		bob, carol := s.wait(key, "bob", 300), s.wait(key, "carol", 60)
		time.Sleep(time.Minute)
		got := s.want(carol.answer(t), 409, "no_seat_available")
		for field, want := range map[string]string{
			"position": "2", "waiting": "2", "seats": "1", "in_use": "1", "retry_after_seconds": "1", "estimate_seconds": "<nil>",
			"detail": "1 of 1 seats are in use; you are number 2 of 2 in the queue.",
		} {
			if got.str(field) != want {
				t.Errorf("%s is %s, want %s", field, got.str(field), want)
			}
		}
		if got.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %s", got.header.Get("Retry-After"))
		}
		// Who does not wait sees how many do, and has no place.
		got = s.want(s.acquire(key, "dan", "ws", ""), 409, "no_seat_available")
		if got.str("waiting") != "2" || got.at("position") != nil {
			t.Error(got.text)
		}
		if bob.answer(t).status != 0 {
			t.Fatal("bob was answered while there was no seat")
		}
		s.want(s.call("POST", releasePath, key, fmt.Sprintf(`{"lease":%q}`, ada)), 200, "")
		if got := s.want(bob.answer(t), 201, ""); got.str("lease.user") != "bob" || got.str("expires_in_seconds") != "3600" {
			t.Error(got.text)
		}
		// The next one is told how long it may take: a seat was given back a minute ago.
		time.Sleep(time.Minute)
		if got := s.want(s.acquire(key, "erik", "ws", ""), 409, "no_seat_available"); got.at("estimate_seconds") == nil {
			t.Error(got.text)
		}
	})
}

func TestWaitSecondsOutOfRange(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		_, key := s.license("acme", 1, 300)
		for _, seconds := range []string{"0", "-1", "301", "1.5", `"60"`, "null", "1e100"} {
			got := s.want(s.call("POST", acquirePath, key, `{"user":"ada","machine":"ws","wait_seconds":`+seconds+`}`), 400, "invalid_request")
			if got.str("field") != "wait_seconds" {
				t.Errorf("%s: %s", seconds, got.text)
			}
		}
		s.want(s.call("POST", acquirePath, key, `{"user":"ada","machine":"ws","wait_seconds":300}`), 201, "")
	})
}

func TestClientThatHangsUp(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		_, key := s.license("acme", 0, 300)
		bob := s.wait(key, "bob", 300)
		got := s.want(s.acquire(key, "dan", "ws", ""), 409, "no_seat_available")
		if got.str("waiting") != "1" {
			t.Error(got.text)
		}
		bob.hangUp()
		<-bob.done
		synctest.Wait()
		if got := s.want(s.acquire(key, "dan", "ws", ""), 409, "no_seat_available"); got.str("waiting") != "0" {
			t.Error(got.text)
		}
	})
}

// A suspended license ends the wait at once, with its own refusal.
func TestWaitForALicenseThatIsSuspended(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		license, key := s.license("acme", 0, 300)
		bob := s.wait(key, "bob", 300)
		s.want(s.call("POST", "/api/v1/tenants/acme/licenses/"+license+"/suspend", operatorKey, ""), 200, "")
		s.want(bob.answer(t), 403, "license_suspended")
	})
}

// A service that stops answers whoever waits; its place is kept.
func TestWaitAtAServiceThatStops(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		_, key := s.license("acme", 0, 300)
		bob := s.wait(key, "bob", 300)
		s.stop()
		if got := s.want(bob.answer(t), 503, "stopping"); got.header.Get("Retry-After") == "" {
			t.Error(got.text)
		}
		s = start(t, s.store)
		defer s.stop()
		if got := s.want(s.acquire(key, "bob", "ws", ""), 409, "no_seat_available"); got.str("position") != "1" {
			t.Error(got.text)
		}
	})
}
