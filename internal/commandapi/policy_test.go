package commandapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// policy makes a license with one more rule than seats, and returns its path and its key.
func (s *service) policy(seats int, rules string) (path, key string) {
	s.t.Helper()
	s.call("POST", "/api/v1/tenants", operatorKey, `{"id":"acme","name":"Acme"}`)
	got := s.want(s.call("POST", "/api/v1/tenants/acme/licenses", operatorKey, fmt.Sprintf(`{"product":"cad","seats":%d,%s}`, seats, rules)), 201, "")
	return "/api/v1/tenants/acme/licenses/" + got.str("license.id"), got.str("key")
}

func (s *service) acquire(key, user, machine, process string) reply {
	s.t.Helper()
	return s.call("POST", acquirePath, key, fmt.Sprintf(`{"user":%q,"machine":%q,"process":%q}`, user, machine, process))
}

// Each rule is given when the license is issued, shown, and holds.
func TestPolicies(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	day := time.Now().UTC().Truncate(time.Second)
	at := func(days int) string { return day.AddDate(0, 0, days).Format(time.RFC3339) }

	t.Run("defaults", func(t *testing.T) {
		path, key := s.policy(1, `"lease_seconds":300`)
		got := s.want(s.acquire(key, "ada", "ws", ""), 201, "")
		if got.str("heartbeat_seconds") != "100" || got.str("features") != "[]" {
			t.Error(got.text)
		}
		got = s.want(s.call("PATCH", path, operatorKey, `{"seats":1}`), 200, "")
		for field, want := range map[string]string{
			"lease_seconds": "300", "heartbeat_seconds": "100", "seat_per": "process", "overage": "none", "overage_percent": "<nil>",
			"revive_seconds": "0", "max_per_user": "0", "max_per_machine": "0", "features": "[]", "starts_at": "<nil>", "expires_at": "<nil>",
			"reservations": "[]", "borrow_days": "0", "borrow_max": "0", "borrow_low_water": "0", "grace_days": "0", "on_shrink": "drain", "trial": "false",
		} {
			if got.str("license."+field) != want {
				t.Errorf("%s is %s, want %s", field, got.str("license."+field), want)
			}
		}
	})
	t.Run("seat_per", func(t *testing.T) {
		_, key := s.policy(1, `"seat_per":"machine"`)
		s.want(s.acquire(key, "ada", "ws-1", "a"), 201, "")
		s.want(s.acquire(key, "bob", "ws-1", "b"), 201, "")
		s.want(s.acquire(key, "ada", "ws-2", "a"), 409, "no_seat_available")
	})
	t.Run("seat_per user", func(t *testing.T) {
		_, key := s.policy(1, `"seat_per":"user"`)
		s.want(s.acquire(key, "ada", "ws-1", ""), 201, "")
		s.want(s.acquire(key, "ada", "ws-2", ""), 201, "")
		s.want(s.acquire(key, "bob", "ws-1", ""), 409, "no_seat_available")
	})
	t.Run("heartbeat", func(t *testing.T) {
		_, key := s.policy(1, `"lease_seconds":600,"heartbeat_seconds":120`)
		if got := s.want(s.acquire(key, "ada", "ws", ""), 201, ""); got.str("heartbeat_seconds") != "120" || got.str("expires_in_seconds") != "600" {
			t.Error(got.text)
		}
	})
	t.Run("overage unlimited", func(t *testing.T) {
		_, key := s.policy(0, `"overage":"unlimited"`)
		if got := s.want(s.acquire(key, "ada", "ws", ""), 201, ""); got.str("lease.overage") != "true" {
			t.Error(got.text)
		}
	})
	t.Run("overage", func(t *testing.T) {
		_, key := s.policy(1, `"overage":"percent","overage_percent":100`)
		if got := s.want(s.acquire(key, "ada", "ws", ""), 201, ""); got.at("lease.overage") != nil {
			t.Error(got.text)
		}
		if got := s.want(s.acquire(key, "bob", "ws", ""), 201, ""); got.str("lease.overage") != "true" {
			t.Error(got.text)
		}
		s.want(s.acquire(key, "cem", "ws", ""), 409, "no_seat_available")
	})
	t.Run("limits", func(t *testing.T) {
		_, key := s.policy(9, `"max_per_user":1,"max_per_machine":2`)
		s.want(s.acquire(key, "ada", "ws-1", ""), 201, "")
		s.want(s.acquire(key, "ada", "ws-2", ""), 409, "user_limit_reached")
		s.want(s.acquire(key, "bob", "ws-1", ""), 201, "")
		s.want(s.acquire(key, "cem", "ws-1", ""), 409, "machine_limit_reached")
	})
	t.Run("reservations", func(t *testing.T) {
		path, key := s.policy(2, `"reservations":[{"name":"render team","users":["bob","ada"],"seats":1,"priority":3}]`)
		s.want(s.acquire(key, "cem", "ws", ""), 201, "")
		if got := s.want(s.acquire(key, "dan", "ws", ""), 409, "no_seat_available"); !strings.Contains(got.str("detail"), "kept for other users") || got.str("in_use") != "1" {
			t.Error(got.text)
		}
		s.want(s.acquire(key, "ada", "ws", ""), 201, "")
		got := s.want(s.call("PATCH", path, operatorKey, `{"seats":3}`), 200, "")
		if got.str("license.reservations") != "[map[name:render team priority:3 seats:1 users:[ada bob]]]" {
			t.Error(got.text)
		}
		s.want(s.call("PATCH", path, operatorKey, `{"reservations":[{"name":"a","users":["x"],"seats":4}]}`), 422, "policy_invalid")
		s.want(s.call("PATCH", path, operatorKey, `{"reservations":[{"name":"a","users":["x"],"seats":1},{"name":"b","users":["x"],"seats":1}]}`), 422, "policy_invalid")
		dry := s.want(s.call("PATCH", path+"?dry_run=true", operatorKey, `{"reservations":[{"name":"a","users":["nobody else"],"seats":1}]}`), 200, "")
		if !strings.Contains(dry.text, `:"nobody else"`) || !strings.Contains(dry.text, `:"ada"`) {
			t.Errorf("the dry run names nobody: %s", dry.text)
		}
		s.want(s.call("PATCH", path, operatorKey, `{"seats":4}`), 200, "")
		if names := s.names(); !strings.Contains(names, "ada") || strings.Contains(names, "nobody else") {
			t.Errorf("after a dry run the directory knows %s", names)
		}
	})
	t.Run("borrow", func(t *testing.T) {
		path, key := s.policy(2, `"borrow_days":2,"borrow_max":1,"lease_seconds":300`)
		ask := func(user, until string) reply {
			return s.call("POST", acquirePath, key, fmt.Sprintf(`{"user":%q,"machine":"ws","borrow_until":%q}`, user, until))
		}
		got := s.want(ask("ada", at(1)), 201, "")
		if got.str("lease.borrowed") != "true" || got.str("lease.expires_at") != at(1) {
			t.Error(got.text)
		}
		s.want(ask("bob", at(1)), 409, "borrow_limit_reached")
		s.want(ask("ada", at(3)), 403, "borrow_too_long")
		if got := s.want(ask("bob", at(-1)), 400, "invalid_request"); got.str("field") != "borrow_until" {
			t.Error(got.text)
		}
		s.want(s.call("POST", releasePath, key, lease(got.str("lease.id"))), 200, "")
		s.want(s.acquire(key, "bob", "ws", ""), 201, "")
		if got := s.want(ask("bob", at(1)), 200, ""); got.str("lease.borrowed") != "true" {
			t.Error(got.text)
		}
		s.want(s.call("PATCH", path, operatorKey, `{"borrow_days":0}`), 200, "")
		s.want(ask("cem", at(1)), 403, "borrow_not_allowed")
	})
	t.Run("denials", func(t *testing.T) {
		_, key := s.policy(0, `"lease_seconds":300`)
		s.want(s.acquire(key, "ada", "ws", ""), 409, "no_seat_available")
		last := s.last()
		for range 3 {
			s.want(s.acquire(key, "ada", "ws", ""), 409, "no_seat_available")
		}
		if now := s.last(); now != last {
			t.Errorf("the journal has %d commits after the same was refused again, %d before", now, last)
		}
	})
	t.Run("features", func(t *testing.T) {
		_, key := s.policy(9, `"features":["sim","cam","sim"]`)
		ask := func(user, features string) reply {
			return s.call("POST", acquirePath, key, fmt.Sprintf(`{"user":%q,"machine":"ws","features":%s}`, user, features))
		}
		if got := s.want(ask("ada", `["cam"]`), 201, ""); got.str("features") != "[cam]" {
			t.Error(got.text)
		}
		if got := s.want(ask("bob", `[]`), 201, ""); got.str("features") != "[cam sim]" {
			t.Error(got.text)
		}
		if got := s.want(ask("cem", `["cam","xray"]`), 403, "feature_not_entitled"); !strings.Contains(got.str("detail"), "xray") {
			t.Error(got.text)
		}
	})
	t.Run("validity", func(t *testing.T) {
		_, key := s.policy(9, fmt.Sprintf(`"starts_at":%q`, at(1)))
		if got := s.want(s.acquire(key, "ada", "ws", ""), 403, "license_not_started"); !strings.Contains(got.str("detail"), at(1)) {
			t.Error(got.text)
		}
		path, key := s.policy(9, fmt.Sprintf(`"expires_at":%q`, at(-1)))
		s.want(s.acquire(key, "ada", "ws", ""), 403, "license_expired")
		s.want(s.call("POST", path+"/renew", operatorKey, fmt.Sprintf(`{"expires_at":%q}`, at(30))), 200, "")
		s.want(s.acquire(key, "ada", "ws", ""), 201, "")
		if got := s.want(s.call("POST", path+"/renew", operatorKey, `{}`), 200, ""); got.at("license.expires_at") != nil {
			t.Error(got.text)
		}
	})
	t.Run("on_shrink", func(t *testing.T) {
		path, key := s.policy(2, `"on_shrink":"evict_newest"`)
		old := s.want(s.acquire(key, "ada", "ws", ""), 201, "").str("lease.id")
		newest := s.want(s.acquire(key, "bob", "ws", ""), 201, "").str("lease.id")
		s.want(s.call("PATCH", path, operatorKey, `{"seats":1}`), 200, "")
		s.want(s.call("POST", heartbeatPath, key, fmt.Sprintf(`{"lease":%q}`, newest)), 410, "lease_evicted")
		s.want(s.call("POST", heartbeatPath, key, fmt.Sprintf(`{"lease":%q}`, old)), 200, "")
	})
	t.Run("trial", func(t *testing.T) {
		path, _ := s.policy(2, `"trial":true`)
		for range 2 {
			if got := s.want(s.call("POST", path+"/convert", operatorKey, ""), 200, ""); got.str("license.trial") != "false" {
				t.Error(got.text)
			}
		}
	})
	t.Run("fence", func(t *testing.T) {
		_, key := s.policy(2, `"lease_seconds":300`)
		got := s.want(s.acquire(key, "ada", "ws", ""), 201, "")
		body := func(fence any) string { return fmt.Sprintf(`{"lease":%q,"fence":%v}`, got.str("lease.id"), fence) }
		fence := int64(got.at("lease.fence").(float64))
		s.want(s.call("POST", heartbeatPath, key, body(fence)), 200, "")
		s.want(s.call("POST", heartbeatPath, key, body(fence+1)), 410, "fence_stale")
		s.want(s.call("POST", releasePath, key, body(fence-1)), 410, "fence_stale")
		s.want(s.call("POST", releasePath, key, body(0)), 400, "invalid_request")
		s.want(s.call("POST", releasePath, key, body(fence)), 200, "")
	})
}

func TestChangeLicenseChecksEachRule(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	path, _ := s.policy(1, `"lease_seconds":300`)
	for body, field := range map[string]string{
		`{}`:                                     "seats",
		`{"seats":-1}`:                           "seats",
		`{"lease_seconds":29}`:                   "lease_seconds",
		`{"lease_seconds":604801}`:               "lease_seconds",
		`{"heartbeat_seconds":-1}`:               "heartbeat_seconds",
		`{"seat_per":"desk"}`:                    "seat_per",
		`{"overage":"some"}`:                     "overage",
		`{"overage_percent":0}`:                  "overage_percent",
		`{"revive_seconds":-1}`:                  "revive_seconds",
		`{"max_per_user":-1}`:                    "max_per_user",
		`{"max_per_machine":1000001}`:            "max_per_machine",
		`{"features":[""]}`:                      "features[0]",
		`{"features":["a","` + "\\u0000" + `"]}`: "features[1]",
		`{"starts_at":"tomorrow"}`:               "starts_at",
		`{"borrow_days":366}`:                    "borrow_days",
		`{"borrow_max":-1}`:                      "borrow_max",
		`{"borrow_low_water":-1}`:                "borrow_low_water",
		`{"reservations":[{"name":"","users":[],"seats":1}]}`:                "reservations[0].name",
		`{"reservations":[{"name":"a","users":[""],"seats":1}]}`:             "reservations[0].users[0]",
		`{"reservations":[{"name":"a","users":[],"seats":-1}]}`:              "reservations[0].seats",
		`{"reservations":[{"name":"a","users":[],"seats":1,"priority":10}]}`: "reservations[0].priority",
		`{"reservations":[{"name":"a","users":[],"seats":1,"prio":10}]}`:     "reservations[0].prio",
		`{"grace_days":366}`:    "grace_days",
		`{"on_shrink":"evict"}`: "on_shrink",
		`{"trial":false}`:       "trial",
	} {
		if got := s.want(s.call("PATCH", path, operatorKey, body), 400, "invalid_request"); got.str("field") != field {
			t.Errorf("%s: the field is %q, want %q", body, got.str("field"), field)
		}
	}
	for _, body := range []string{`{"heartbeat_seconds":300}`, `{"overage":"percent"}`, `{"overage_percent":5}`} {
		s.want(s.call("PATCH", path, operatorKey, body), 422, "policy_invalid")
	}
}

// The three holes of others: a late heartbeat cannot revive a lease over the limit; a heartbeat for an ended lease is never 200;
// a holder may acquire again the moment its lease expired.
func TestLateHeartbeats(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		path, key := s.policy(1, `"lease_seconds":60,"revive_seconds":600`)
		beat := func(id string) reply { return s.call("POST", heartbeatPath, key, lease(id)) }
		first := s.want(s.acquire(key, "ada", "ws", ""), 201, "").str("lease.id")
		time.Sleep(time.Minute)
		second := s.want(s.acquire(key, "bob", "ws", ""), 201, "").str("lease.id")
		s.want(beat(first), 410, "lease_expired") // the seat is bob's
		s.want(s.call("POST", releasePath, key, lease(second)), 200, "")
		s.want(beat(second), 410, "lease_released")
		if got := s.want(beat(first), 200, ""); got.str("lease.state") != "active" || got.str("expires_in_seconds") != "60" {
			t.Error(got.text) // the seat is free, and it is not too late
		}
		time.Sleep(time.Minute)
		again := s.want(s.acquire(key, "ada", "ws", ""), 201, "").str("lease.id")
		s.want(beat(first), 410, "lease_expired")
		s.want(s.call("POST", path+"/revoke", operatorKey, ""), 200, "")
		s.want(beat(again), 410, "lease_revoked")
		s.want(beat(first), 410, "lease_expired")

		// Without the rule nothing is revived, not even beside free seats.
		_, key = s.policy(9, `"lease_seconds":60`)
		plain := s.want(s.acquire(key, "ada", "ws", ""), 201, "").str("lease.id")
		time.Sleep(time.Minute)
		s.want(beat(plain), 410, "lease_expired")
		s.want(s.acquire(key, "ada", "ws", ""), 201, "")
	})
}

// Leases go on for the grace, and end with it.
func TestGrace(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		end := time.Now().UTC().Add(time.Hour)
		_, key := s.policy(9, fmt.Sprintf(`"lease_seconds":7200,"expires_at":%q,"grace_days":1`, end.Format(time.RFC3339)))
		id := s.want(s.acquire(key, "ada", "ws", ""), 201, "").str("lease.id")
		time.Sleep(time.Hour)
		s.want(s.acquire(key, "bob", "ws", ""), 403, "license_expired")
		s.want(s.acquire(key, "ada", "ws", ""), 200, "") // who has a lease gets it again
		for range 23 {
			s.want(s.call("POST", heartbeatPath, key, lease(id)), 200, "")
			time.Sleep(time.Hour)
		}
		if got := s.want(s.call("POST", heartbeatPath, key, lease(id)), 200, ""); got.str("expires_in_seconds") != "3600" {
			t.Error(got.text)
		}
		time.Sleep(time.Hour)
		s.want(s.call("POST", heartbeatPath, key, lease(id)), 410, "lease_expired")
	})
}

// When several refusals apply the documented order wins, over HTTP, too: the reasons are taken away one by one.
func TestOrderOfRefusals(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	now := time.Now().UTC()
	at := func(hours int) string { return now.Add(time.Duration(hours) * time.Hour).Format(time.RFC3339) }
	path, key := s.policy(0, fmt.Sprintf(`"starts_at":%q,"max_per_user":1,"max_per_machine":1`, at(1)))
	ask := func() reply {
		return s.call("POST", acquirePath, key, fmt.Sprintf(`{"user":"ada","machine":"ws","process":"two","features":["cam"],"borrow_until":%q}`, at(72)))
	}
	patch := func(body string) { s.want(s.call("PATCH", path, operatorKey, body), 200, "") }
	s.want(s.call("POST", path+"/suspend", operatorKey, ""), 200, "")
	s.want(s.call("POST", "/api/v1/tenants/acme/suspend", operatorKey, ""), 200, "")
	s.want(ask(), 403, "tenant_suspended")
	s.want(s.call("POST", "/api/v1/tenants/acme/reinstate", operatorKey, ""), 200, "")
	s.want(ask(), 403, "license_suspended")
	s.want(s.call("POST", path+"/reinstate", operatorKey, ""), 200, "")
	s.want(ask(), 403, "feature_not_entitled")
	patch(`{"features":["cam"]}`)
	s.want(ask(), 403, "license_not_started")
	patch(fmt.Sprintf(`{"starts_at":%q}`, at(-2)))
	s.want(ask(), 403, "borrow_not_allowed")
	patch(`{"borrow_days":2,"borrow_low_water":1,"seats":1}`)
	s.want(ask(), 403, "borrow_too_long")
	patch(`{"borrow_days":9}`)
	s.want(ask(), 409, "borrow_limit_reached")
	s.want(s.call("POST", acquirePath, key, `{"user":"ada","machine":"ws","process":"one"}`), 201, "")
	patch(`{"borrow_low_water":0}`)
	s.want(ask(), 409, "user_limit_reached")
	patch(`{"max_per_user":0}`)
	s.want(ask(), 409, "machine_limit_reached")
	patch(`{"max_per_machine":0}`)
	s.want(ask(), 409, "no_seat_available")
	patch(`{"seats":2}`)
	s.want(ask(), 201, "")
	s.want(s.call("POST", path+"/revoke", operatorKey, ""), 200, "")
	s.want(ask(), 403, "license_revoked")
}

// The old key opens the license during the overlap, and no longer; the recorded answer holds the same new key.
func TestRotateKey(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	path, first := s.policy(9, `"lease_seconds":300`)
	rotate := func(overlap int, idempotency string) string {
		got := s.want(s.call("POST", path+"/rotate-key", operatorKey, fmt.Sprintf(`{"overlap_seconds":%d}`, overlap), "Idempotency-Key", idempotency), 201, "")
		return got.str("key")
	}
	second := rotate(3600, "one")
	if again := rotate(3600, "one"); again != second || second == first {
		t.Errorf("keys %q, %q, then %q", first, second, again)
	}
	s.want(s.acquire(first, "ada", "ws", ""), 201, "")
	s.want(s.acquire(second, "ada", "ws", ""), 200, "")
	third := rotate(0, "two")
	s.want(s.acquire(third, "ada", "ws", ""), 200, "")
	if got := s.want(s.acquire(second, "ada", "ws", ""), 401, "unauthorized"); !strings.Contains(got.str("detail"), "replaced") {
		t.Error(got.text)
	}
	s.want(s.acquire(first, "ada", "ws", ""), 401, "unauthorized")
}

func TestEvictAndReleaseHolder(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	path, key := s.policy(600, `"lease_seconds":300`)
	lease := s.want(s.acquire(key, "ada", "ws", ""), 201, "").str("lease.id")
	for range 2 {
		if got := s.want(s.call("POST", path+"/leases/"+lease+"/evict", operatorKey, `{"reason":"left"}`), 200, ""); got.str("lease.state") != "evicted" {
			t.Error(got.text)
		}
	}
	s.want(s.call("POST", heartbeatPath, key, fmt.Sprintf(`{"lease":%q}`, lease)), 410, "lease_evicted")
	s.want(s.call("POST", path+"/leases/lse_none/evict", operatorKey, ""), 404, "lease_not_found")

	for i := range 300 { // more than fit in one commit
		s.want(s.acquire(key, "ada", "ws", fmt.Sprint(i)), 201, "")
	}
	s.want(s.acquire(key, "bob", "ws", ""), 201, "")
	release := func(body string) int {
		got := s.want(s.call("POST", "/api/v1/tenants/acme/release", operatorKey, body), 200, "")
		return len(got.at("released").([]any))
	}
	if n := release(`{"user":"nobody at all"}`); n != 0 {
		t.Errorf("%d leases of a user who is not known were released", n)
	}
	if n := release(`{"user":"ada"}`); n != 300 {
		t.Errorf("%d leases released, want 300", n)
	}
	if n := release(`{"machine":"ws"}`); n != 1 {
		t.Errorf("%d leases released, want 1", n)
	}
	s.want(s.call("POST", "/api/v1/tenants/acme/release", operatorKey, `{"user":"a","machine":"b"}`), 400, "invalid_request")
	s.want(s.call("POST", "/api/v1/tenants/acme/release", operatorKey, `{}`), 400, "invalid_request")
}

// A dry run says what would be appended, or refuses, and appends nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	path, key := s.policy(1, `"lease_seconds":300`)
	lease := s.want(s.acquire(key, "ada", "ws", ""), 201, "").str("lease.id")
	last := s.last()
	for call, want := range map[string]string{
		"POST /api/v1/tenants {\"id\":\"new\",\"name\":\"New\"}":             "tenant.created.v1",
		"PATCH /api/v1/tenants/acme {\"name\":\"New\"}":                      "tenant.renamed.v1",
		"POST /api/v1/tenants/acme/suspend ":                                 "tenant.suspended.v1",
		"POST /api/v1/tenants/acme/reinstate ":                               "",
		"POST /api/v1/tenants/acme/licenses {\"product\":\"p\",\"seats\":1}": "license.issued.v1",
		"PATCH " + path + ` {"seats":3,"lease_seconds":60}`:                  "license.policy_changed.v1 license.resized.v1",
		"POST " + path + "/suspend ":                                         "license.suspended.v1",
		"POST " + path + "/revoke ":                                          "license.revoked.v1",
		"POST " + path + `/renew {"expires_at":"2099-01-01T00:00:00Z"}`:      "license.renewed.v1",
		"POST " + path + "/convert ":                                         "",
		"POST " + path + `/rotate-key {"overlap_seconds":60}`:                "license.key_rotated.v1",
		"POST " + path + "/leases/" + lease + "/evict ":                      "seat.evicted.v1",
		`POST /api/v1/tenants/acme/release {"user":"ada"}`:                   "seat.released.v1",
	} {
		method, rest, _ := strings.Cut(call, " ")
		to, body, _ := strings.Cut(rest, " ")
		got := s.want(s.call(method, to+"?dry_run=true", operatorKey, body, "Idempotency-Key", "same"), http.StatusOK, "")
		var types []string
		for _, e := range got.at("events").([]any) {
			types = append(types, strings.TrimPrefix(e.(map[string]any)["type"].(string), "ai.coditect."))
		}
		if got.str("dry_run") != "true" || strings.Join(types, " ") != want {
			t.Errorf("%s: %s, want %s", call, got.text, want)
		}
	}
	s.want(s.call("PATCH", path+"?dry_run=true", operatorKey, `{"heartbeat_seconds":300}`), 422, "policy_invalid")
	s.want(s.call("PATCH", path+"?dry_run=yes", operatorKey, `{"seats":3}`), 400, "invalid_request")
	if now := s.last(); now != last {
		t.Errorf("the journal has %d commits, %d before", now, last)
	}
	s.want(s.call("PATCH", path, operatorKey, `{"seats":3}`, "Idempotency-Key", "same"), 200, "") // the key was not used
}

// names is the whole directory as it is stored.
func (s *service) names() string {
	s.t.Helper()
	var text strings.Builder
	directory := s.store.Directory(0)
	last, err := directory.Last(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for seq := uint64(1); seq <= last; seq++ {
		r, err := directory.Get(s.t.Context(), seq)
		if err != nil {
			s.t.Fatal(err)
		}
		text.Write(r.Body)
	}
	return text.String()
}

func (s *service) last() uint64 {
	s.t.Helper()
	last, err := s.store.Journal(0).Last(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return last
}

// Who counts from when it asked stops in time, whatever its clock says: each decision says how long the lease runs from it.
func TestExpiresIn(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	license, key := s.license("acme", 2, 300)
	acquired := s.want(s.call("POST", acquirePath, key, holder("ada"), "Idempotency-Key", "a"), 201, "")
	id := acquired.str("lease.id")
	if acquired.str("expires_in_seconds") != "300" {
		t.Errorf("acquire: %s", acquired.text)
	}
	if repeated := s.want(s.call("POST", acquirePath, key, holder("ada"), "Idempotency-Key", "a"), 201, ""); repeated.text != acquired.text {
		t.Errorf("acquire, repeated: %s", repeated.text)
	}
	again := s.want(s.call("POST", acquirePath, key, holder("ada")), 200, "")
	if left, _ := again.at("expires_in_seconds").(float64); left <= 0 || left > 300 {
		t.Errorf("acquire of a seat that is held: %s", again.text)
	}
	s.want(s.call("PATCH", "/api/v1/tenants/acme/licenses/"+license, operatorKey, `{"lease_seconds":60,"heartbeat_seconds":20}`), 200, "")
	beaten := s.want(s.call("POST", heartbeatPath, key, lease(id)), 200, "")
	if beaten.str("expires_in_seconds") != "60" || beaten.str("heartbeat_seconds") != "20" {
		t.Errorf("heartbeat after the policy changed: %s", beaten.text)
	}
	// The last lease ends with the license.
	ends := time.Now().Add(10 * time.Second).UTC().Format(time.RFC3339Nano)
	s.want(s.call("POST", "/api/v1/tenants/acme/licenses/"+license+"/renew", operatorKey, `{"expires_at":"`+ends+`"}`), 200, "")
	beaten = s.want(s.call("POST", heartbeatPath, key, lease(id)), 200, "")
	if left, _ := beaten.at("expires_in_seconds").(float64); left <= 0 || left > 10 {
		t.Errorf("heartbeat just before the license ends: %s", beaten.text)
	}
	if released := s.want(s.call("POST", releasePath, key, lease(id)), 200, ""); released.at("expires_in_seconds") != nil {
		t.Errorf("release: %s", released.text)
	}
}
