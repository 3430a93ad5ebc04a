package commandapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/commandapi"
	"github.com/coditect-ai/license-ledger/internal/identity"
)

const acme = "/api/v1/tenants/acme"

// key makes a key with this role and returns its id and the key.
func (s *service) key(by, role string) (id, secret string) {
	s.t.Helper()
	got := s.want(s.call("POST", acme+"/keys", by, fmt.Sprintf(`{"name":"a key","role":%q}`, role)), 201, "")
	return got.str("key.id"), got.str("secret")
}

func TestLifeOfATenantKey(t *testing.T) {
	t.Parallel()
	store := eventstoretest.NewStore(1)
	s := start(t, store)
	license, _ := s.license("acme", 2, 300)
	_, owner := s.key(operatorKey, "owner")
	if !strings.HasPrefix(owner, "tk_acme_") {
		t.Errorf("a key %s", owner)
	}
	rotateLicense := func(key string) reply {
		return s.call("POST", acme+"/licenses/"+license+"/rotate-key", key, `{"overlap_seconds":0}`)
	}
	s.want(rotateLicense(owner), 201, "")
	id, admin := s.key(owner, "admin")

	rotated := s.want(s.call("POST", acme+"/keys/"+id+"/rotate", owner, `{"overlap_seconds":3600}`), 201, "")
	if rotated.str("key.id") == id || rotated.str("key.role") != "admin" || rotated.str("key.name") != "a key" {
		t.Errorf("rotated: %s", rotated.text)
	}
	s.want(rotateLicense(admin), 201, "") // for an hour
	s.want(rotateLicense(rotated.str("secret")), 201, "")
	s.want(s.call("POST", acme+"/keys/"+id+"/rotate", owner, `{"overlap_seconds":0}`), 409, "key_over")
	s.want(s.call("POST", acme+"/keys/nope/rotate", owner, `{"overlap_seconds":0}`), 404, "key_not_found")

	s.want(s.call("POST", acme+"/keys/"+id+"/revoke", owner, `{"reason":"lost"}`), 200, "")
	s.want(rotateLicense(admin), 401, "unauthorized")
	s.want(rotateLicense(rotated.str("secret")), 201, "")
	again := s.want(s.call("POST", acme+"/keys/"+rotated.str("key.id")+"/rotate", owner, `{"overlap_seconds":0}`), 201, "")
	s.want(rotateLicense(rotated.str("secret")), 401, "unauthorized")

	// What was true holds after a restart.
	s.stop()
	s = start(t, store)
	s.want(rotateLicense(admin), 401, "unauthorized")
	s.want(rotateLicense(again.str("secret")), 201, "")
	s.want(s.call("POST", acme+"/keys/"+id+"/revoke", owner, ``), 200, "")
	s.want(s.call("POST", acme+"/keys/nope/revoke", owner, ``), 404, "key_not_found")

	// The journal says who did it, and not how to.
	last, _ := store.Journal(0).Last(t.Context())
	var journal strings.Builder
	for seq := range last {
		record, _ := store.Journal(0).Get(t.Context(), seq+1)
		journal.Write(record.Body)
	}
	for _, secret := range []string{owner, admin} {
		if parts := strings.Split(secret, "_"); strings.Contains(journal.String(), parts[3][:20]) || !strings.Contains(journal.String(), `"actor":"tk:`) {
			t.Errorf("the journal holds a secret, or no actor: %s", journal.String())
		}
	}
}

// A revoked key gets not even the answer that it got before.
func TestARevokedKeyCanNotRepeat(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	s.license("acme", 2, 300)
	ownerID, owner := s.key(operatorKey, "owner")
	id, admin := s.key(owner, "admin")
	create := func() reply {
		return s.call("POST", acme+"/keys", admin, `{"name":"k","role":"auditor"}`, "Idempotency-Key", "k-1")
	}
	first := s.want(create(), 201, "")
	if again := s.want(create(), 201, ""); again.text != first.text {
		t.Errorf("repeated: %s", again.text)
	}
	s.want(s.call("POST", acme+"/keys/"+id+"/revoke", owner, ``), 200, "")
	s.want(create(), 401, "unauthorized")
	// Neither does who knows the id of a key, but not its secret.
	forged := identity.NewTenantKeys(identity.Secret(strings.Repeat("x", 32))).Text("acme", domain.KeyID(ownerID))
	s.want(s.call("POST", acme+"/keys", forged, `{"name":"k","role":"auditor"}`), 401, "unauthorized")
}

func TestNobodyGrantsAboveTheirOwnRole(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	s.license("acme", 2, 300)
	ownerID, owner := s.key(operatorKey, "owner")
	billingID, billing := s.key(owner, "billing")
	_, admin := s.key(owner, "admin")
	_, auditor := s.key(admin, "auditor")
	for _, role := range []string{"owner", "billing"} { // billing can do what an admin cannot
		s.want(s.call("POST", acme+"/keys", admin, fmt.Sprintf(`{"name":"k","role":%q}`, role)), 403, "forbidden")
		s.want(s.call("POST", acme+"/members", admin, fmt.Sprintf(`{"user":"eve","role":%q}`, role)), 403, "forbidden")
	}
	for _, id := range []string{ownerID, billingID} {
		s.want(s.call("POST", acme+"/keys/"+id+"/rotate", admin, `{"overlap_seconds":0}`), 403, "forbidden")
		s.want(s.call("POST", acme+"/keys/"+id+"/revoke", admin, ``), 403, "forbidden")
	}
	for _, key := range []string{billing, auditor} {
		s.want(s.call("POST", acme+"/keys", key, `{"name":"k","role":"auditor"}`), 403, "forbidden")
	}
	boss := s.want(s.call("POST", acme+"/members", owner, `{"user":"ada","role":"owner"}`), 201, "").str("member.id")
	s.want(s.call("PATCH", acme+"/members/"+boss, admin, `{"role":"auditor"}`), 403, "forbidden")
	s.want(s.call("POST", acme+"/members/"+boss+"/remove", admin, ``), 403, "forbidden")
	s.want(s.call("POST", acme+"/keys", admin, fmt.Sprintf(`{"name":"k","member":%q}`, boss)), 403, "forbidden")
	bob := s.want(s.call("POST", acme+"/members", admin, `{"user":"bob","role":"auditor"}`), 201, "").str("member.id")
	s.want(s.call("PATCH", acme+"/members/"+bob, admin, `{"role":"owner"}`), 403, "forbidden")
	s.want(s.call("PATCH", acme+"/members/"+bob, admin, `{"role":"admin"}`), 200, "")
	s.want(s.call("POST", acme+"/keys/"+ownerID+"/revoke", operatorKey, ``), 409, "last_owner_key")
}

func TestMembers(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	s.license("acme", 2, 300)
	invite := func(role string) reply {
		return s.call("POST", acme+"/members", operatorKey, fmt.Sprintf(`{"user":"ada","role":%q}`, role))
	}
	ada := s.want(invite("admin"), 201, "")
	id := ada.str("member.id")
	if ada.str("member.user") != "ada" || ada.str("member.status") != "member" || !strings.HasPrefix(id, "u_") {
		t.Errorf("invited: %s", ada.text)
	}
	s.want(invite("admin"), 200, "")
	s.want(invite("auditor"), 409, "member_exists")
	key := s.want(s.call("POST", acme+"/keys", operatorKey, fmt.Sprintf(`{"name":"k","member":%q}`, id)), 201, "")
	if key.str("key.role") != "admin" || key.str("key.member") != id {
		t.Errorf("key: %s", key.text)
	}
	create := func() reply { return s.call("POST", acme+"/keys", key.str("secret"), `{"name":"k","role":"auditor"}`) }
	s.want(create(), 201, "")
	s.want(s.call("PATCH", acme+"/members/"+id, operatorKey, `{"role":"auditor"}`), 200, "")
	s.want(create(), 401, "unauthorized") // another role, another key
	removed := s.want(s.call("POST", acme+"/members/"+id+"/remove", operatorKey, `{"reason":"left"}`), 200, "")
	if removed.str("member.status") != "removed" {
		t.Errorf("removed: %s", removed.text)
	}
	s.want(s.call("POST", acme+"/members/u_nobody/remove", operatorKey, ``), 404, "member_not_found")
	s.want(s.call("PATCH", acme+"/members/"+id, operatorKey, `{"role":"auditor"}`), 404, "member_not_found")
	for body, field := range map[string]string{
		`{"name":"k"}`: "role", `{"name":"k","role":"admin","member":"u_1"}`: "role", `{"name":"k","role":"king"}`: "role",
		`{"name":"k","role":"member"}`: "role", `{"name":"","role":"admin"}`: "name", `{"role":"admin"}`: "name", `{"name":"k","member":""}`: "member",
	} {
		if got := s.want(s.call("POST", acme+"/keys", operatorKey, body), 400, "invalid_request"); got.str("field") != field {
			t.Errorf("%s: %s", body, got.text)
		}
	}
	for body, field := range map[string]string{`{"user":"bob"}`: "role", `{"user":"","role":"admin"}`: "user", `{"user":"bob","role":"operator"}`: "role"} {
		if got := s.want(s.call("POST", acme+"/members", operatorKey, body), 400, "invalid_request"); got.str("field") != field {
			t.Errorf("%s: %s", body, got.text)
		}
	}
}

// Every command, with a key of each role: what the table does not give is refused, and nothing is done. So is everything of
// another tenant, whatever the role.
func TestEveryCommandChecksItsPermission(t *testing.T) {
	t.Parallel()
	store := eventstoretest.NewStore(1)
	s := start(t, store)
	license, _ := s.license("acme", 2, 300)
	other, _ := s.license("globex", 2, 300)
	_, owner := s.key(operatorKey, "owner")
	keys := map[access.Role]string{access.Owner: owner}
	for _, role := range []access.Role{access.Admin, access.Billing, access.Auditor} {
		_, keys[role] = s.key(owner, string(role))
	}
	ada := s.want(s.call("POST", acme+"/members", owner, `{"user":"ada","role":"member"}`), 201, "").str("member.id")
	keys[access.Member] = s.want(s.call("POST", acme+"/keys", owner, fmt.Sprintf(`{"name":"k","member":%q}`, ada)), 201, "").str("secret")

	router := mux.NewRouter()
	commandapi.New(nil, secret, identity.OperatorKey{}, prometheus.NewRegistry()).Routes(router)
	calls := 0
	err := router.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		template, _ := route.GetPathTemplate()
		methods, _ := route.GetMethods()
		p := route.GetHandler().(access.Guarded).Permission
		if p == access.LicenseKey || p == access.Signature {
			return nil
		}
		calls++
		path := func(tenant, license string) string {
			return strings.NewReplacer("{tenant}", tenant, "{license}", license, "{lease}", "lse_x", "{member}", "u_x", "{key}", "x").Replace(template)
		}
		for role, key := range keys {
			for _, where := range []string{path("globex", other), path("nobody", "lic_x")} {
				before, _ := store.Journal(0).Last(t.Context())
				s.want(s.call(methods[0], where, key, bodyFor(template, methods[0])), http.StatusForbidden, "forbidden")
				if after, _ := store.Journal(0).Last(t.Context()); after != before {
					t.Errorf("%s %s with a key of another tenant left events", methods[0], where)
				}
			}
			got := s.call(methods[0], path("acme", license)+"?dry_run=true", key, bodyFor(template, methods[0]))
			allowed := role.May(p) && strings.Contains(template, "{tenant}")
			if refused := got.status == http.StatusForbidden && got.body["code"] == "forbidden"; refused == allowed || got.status == 400 {
				t.Errorf("%s %s as %s: %d %s", methods[0], template, role, got.status, got.text)
			}
			// Who may not is told so, and nothing of what else is wrong.
			for _, wrong := range []func() reply{
				func() reply { return s.call(methods[0], path("acme", license), key, `{"no_such_field":1}`) },
				func() reply { return s.call(methods[0], path("acme", license), key, `nonsense`) },
				func() reply {
					return s.call(methods[0], path("acme", license), key, bodyFor(template, methods[0]), "Content-Type", "text/plain")
				},
				func() reply {
					return s.call(methods[0], path("acme", license)+"?dry_run=perhaps", key, bodyFor(template, methods[0]))
				},
				func() reply {
					return s.call(methods[0], path("acme", license)+"?dry_run=true", key, bodyFor(template, methods[0]), "Idempotency-Key", "not a key")
				},
			} {
				before := s.last()
				want := http.StatusForbidden
				if got := wrong(); (got.status == want) == allowed || (allowed && got.status != 400 && got.status != 415) || s.last() != before {
					t.Errorf("%s %s as %s, not valid: %d %s", methods[0], template, role, got.status, got.text)
				}
			}
		}
		return nil
	})
	if err != nil || calls < 15 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// bodyFor returns a body that a command understands.
func bodyFor(template, method string) string {
	switch path := strings.TrimPrefix(template, "/api/v1/tenants"); method + " " + path {
	case "POST ":
		return `{"id":"globex","name":"x"}`
	case "PATCH /{tenant}":
		return `{"name":"x"}`
	case "POST /{tenant}/licenses":
		return `{"product":"x","seats":1}`
	case "PATCH /{tenant}/licenses/{license}":
		return `{"seats":1}`
	case "POST /{tenant}/release":
		return `{"user":"ada"}`
	case "POST /{tenant}/forget":
		return `{"user":"ada"}`
	case "POST /{tenant}/licenses/{license}/transfer":
		return `{"to":"nobody"}`
	case "POST /{tenant}/licenses/{license}/renew":
		return `{}`
	case "POST /{tenant}/licenses/{license}/rotate-key", "POST /{tenant}/keys/{key}/rotate":
		return `{"overlap_seconds":0}`
	case "POST /{tenant}/members":
		return `{"user":"bob","role":"member"}`
	case "PATCH /{tenant}/members/{member}":
		return `{"role":"member"}`
	case "POST /{tenant}/keys":
		return `{"name":"k","role":"auditor"}`
	}
	return ""
}
