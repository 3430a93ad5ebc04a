package commandapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/internal/commandapi"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

const operatorKey = "op_0123456789012345678901234567890123456789abc"

var secret = identity.Secret(bytes.Repeat([]byte{7}, 32))

// service is the command API over a ledger in memory.
type service struct {
	t       testing.TB
	store   *eventstoretest.Store
	api     *commandapi.API
	handler http.Handler
	stop    func()
}

func start(t testing.TB, store *eventstoretest.Store) *service {
	t.Helper()
	return startTraced(t, store, nil)
}

func startTraced(t testing.TB, store *eventstoretest.Store, tracer trace.Tracer) *service {
	t.Helper()
	s := startOnTraced(t, store, tracer)
	s.store = store
	return s
}

// startOn starts a service on any ledger.
func startOn(t testing.TB, store eventstore.Store) *service { return startOnTraced(t, store, nil) }

func startOnTraced(t testing.TB, store eventstore.Store, tracer trace.Tracer) *service {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	registry := prometheus.NewRegistry()
	log := slog.New(slog.DiscardHandler)
	writers, err := eventstore.NewWriters(eventstore.WritersConfig{Store: store, Log: log, Registerer: registry, Alone: true, Tracer: tracer})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- writers.Run(ctx) }()
	stop := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(cancel)
	operator, err := identity.ParseOperatorKey(operatorKey)
	if err != nil {
		t.Fatal(err)
	}
	router := serve.NewRouter()
	commands := commandapi.New(writers, secret, operator, registry)
	commands.Routes(router)
	handler := serve.Observe(router, log, serve.NewMetrics(registry))
	if tracer != nil {
		handler = serve.Trace(handler, tracer)
	}
	return &service{t: t, api: commands, handler: handler, stop: stop}
}

// reply is an answer, decoded.
type reply struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

func (s *service) call(method, path, key, body string, headers ...string) reply {
	s.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, reader)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	got := reply{status: w.Code, header: w.Header(), text: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &got.body); err != nil {
		s.t.Fatalf("%s %s: the answer is not a JSON object: %q", method, path, got.text)
	}
	wantType := "application/json"
	if got.status >= 400 {
		wantType = "application/problem+json"
	}
	if ct := got.header.Get("Content-Type"); ct != wantType {
		s.t.Fatalf("%s %s: content type %q of a %d, want %q", method, path, ct, got.status, wantType)
	}
	return got
}

// want fails unless the answer has this status and, when not empty, this code.
func (s *service) want(got reply, status int, code string) reply {
	s.t.Helper()
	if got.status != status || (code != "" && got.body["code"] != code) {
		s.t.Fatalf("got %d %s, want %d %s", got.status, got.text, status, code)
	}
	return got
}

// at returns the value at a path such as "lease.id".
func (r reply) at(path string) any {
	var value any = r.body
	for part := range strings.SplitSeq(path, ".") {
		object, _ := value.(map[string]any)
		value = object[part]
	}
	return value
}

func (r reply) str(path string) string { return fmt.Sprint(r.at(path)) }

// license makes a tenant with one license, and returns the license and its key.
func (s *service) license(tenant string, seats, leaseSeconds int) (id, key string) {
	s.t.Helper()
	s.want(s.call("POST", "/api/v1/tenants", operatorKey, fmt.Sprintf(`{"id":%q,"name":"A Corp"}`, tenant)), 201, "")
	got := s.want(s.call("POST", "/api/v1/tenants/"+tenant+"/licenses", operatorKey,
		fmt.Sprintf(`{"product":"cad","seats":%d,"lease_seconds":%d}`, seats, leaseSeconds)), 201, "")
	return got.str("license.id"), got.str("key")
}

const (
	acquirePath   = "/api/v1/licenses/acquire"
	heartbeatPath = "/api/v1/licenses/heartbeat"
	releasePath   = "/api/v1/licenses/release"
)

func holder(user string) string { return fmt.Sprintf(`{"user":%q,"machine":"m-1"}`, user) }

func lease(id string) string { return fmt.Sprintf(`{"lease":%q}`, id) }

func TestLifeOfALease(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	license, key := s.license("acme", 2, 300)

	ada := s.want(s.call("POST", acquirePath, key, `{"user":"ada","machine":"m-1","process":"p-1"}`), 201, "")
	for path, want := range map[string]string{
		"lease.user": "ada", "lease.machine": "m-1", "lease.process": "p-1", "lease.state": "active",
		"lease.license": license, "lease.fence": "3", "heartbeat_seconds": "100",
	} {
		if got := ada.str(path); got != want {
			t.Errorf("%s = %s, want %s", path, got, want)
		}
	}
	if ada.header.Get("Ledger-Position") == "" {
		t.Error("no Ledger-Position")
	}
	id := ada.str("lease.id")

	again := s.want(s.call("POST", acquirePath, key, `{"user":"ada","machine":"m-1","process":"p-1"}`), 200, "")
	if again.str("lease.id") != id {
		t.Error("a repeated acquire got another lease")
	}
	s.want(s.call("POST", acquirePath, key, holder("bob")), 201, "")
	full := s.want(s.call("POST", acquirePath, key, holder("carol")), 409, "no_seat_available")
	if full.str("seats") != "2" || full.str("in_use") != "2" || full.at("retry_after_seconds") == nil || full.header.Get("Retry-After") == "" {
		t.Errorf("full: %s", full.text)
	}
	if full.header.Get("Ledger-Position") == "" {
		t.Error("no Ledger-Position on a denial, which is an event")
	}

	beat := s.want(s.call("POST", heartbeatPath, key, lease(id)), 200, "")
	if beat.str("lease.id") != id || beat.str("lease.user") != "ada" {
		t.Errorf("heartbeat: %s", beat.text)
	}
	for range 2 {
		released := s.want(s.call("POST", releasePath, key, lease(id)), 200, "")
		if released.str("lease.state") != "released" {
			t.Errorf("release: %s", released.text)
		}
	}
	s.want(s.call("POST", heartbeatPath, key, lease(id)), 410, "lease_released")
	s.want(s.call("POST", heartbeatPath, key, lease("lse_nope")), 404, "lease_not_found")
	carol := s.want(s.call("POST", acquirePath, key, holder("carol")), 201, "")
	if fence := carol.at("lease.fence").(float64); fence <= 3 {
		t.Errorf("fence %v did not grow", fence)
	}
}

func TestBatches(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	_, key := s.license("acme", 1000, 300)
	var ids []string
	for i := range 600 {
		ids = append(ids, s.want(s.call("POST", acquirePath, key, holder(fmt.Sprint("u", i))), 201, "").str("lease.id"))
	}
	s.want(s.call("POST", releasePath, key, lease(ids[3])), 200, "")
	asked := append([]string{"lse_unknown"}, ids...)
	body, _ := json.Marshal(map[string]any{"leases": asked})

	beats := s.want(s.call("POST", heartbeatPath, key, string(body)), 200, "").body["results"].([]any)
	for i, result := range beats {
		r := result.(map[string]any)
		if r["lease"] != asked[i] {
			t.Fatalf("result %d is for %v, want %s", i, r["lease"], asked[i])
		}
		switch i {
		case 0:
			if r["code"] != "lease_not_found" {
				t.Errorf("unknown: %v", r)
			}
		case 4:
			if r["code"] != "lease_released" {
				t.Errorf("released: %v", r)
			}
		default:
			if r["expires_at"] == nil || r["code"] != nil {
				t.Errorf("result %d: %v", i, r)
			}
		}
	}
	for range 2 { // more than one command can release, and again
		released := s.want(s.call("POST", releasePath, key, string(body), "Idempotency-Key", "all"), 200, "").body["results"].([]any)
		if len(released) != len(asked) {
			t.Fatalf("%d results, want %d", len(released), len(asked))
		}
		for i, result := range released[1:] {
			if r := result.(map[string]any); r["state"] != "released" || r["lease"] != ids[i] {
				t.Fatalf("result %d: %v", i, r)
			}
		}
	}
}

func TestManagement(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	license, key := s.license("acme", 2, 300)
	path := "/api/v1/tenants/acme/licenses/" + license
	op := func(method, path, body string) reply { return s.call(method, path, operatorKey, body) }

	s.want(op("POST", "/api/v1/tenants", `{"id":"acme","name":"Again"}`), 409, "tenant_exists")
	if got := s.want(op("PATCH", "/api/v1/tenants/acme", `{"name":"Acme Ltd"}`), 200, ""); got.str("tenant.name") != "Acme Ltd" {
		t.Error(got.text)
	}
	id := s.want(s.call("POST", acquirePath, key, holder("ada")), 201, "").str("lease.id")

	if got := s.want(op("POST", "/api/v1/tenants/acme/suspend", `{"reason":"unpaid"}`), 200, ""); got.str("tenant.status") != "suspended" {
		t.Error(got.text)
	}
	s.want(s.call("POST", acquirePath, key, holder("bob")), 403, "tenant_suspended")
	s.want(s.call("POST", heartbeatPath, key, lease(id)), 403, "tenant_suspended")
	s.want(op("POST", "/api/v1/tenants/acme/reinstate", ""), 200, "")

	if got := s.want(op("POST", path+"/suspend", `{}`), 200, ""); got.str("license.status") != "suspended" {
		t.Error(got.text)
	}
	s.want(s.call("POST", acquirePath, key, holder("bob")), 403, "license_suspended")
	s.want(op("POST", path+"/reinstate", `{"reason":"paid"}`), 200, "")
	s.want(s.call("POST", heartbeatPath, key, lease(id)), 200, "")

	if got := s.want(op("PATCH", path, `{"seats":7}`), 200, ""); got.str("license.seats") != "7" {
		t.Error(got.text)
	}
	s.want(op("PATCH", path, `{"seats":0}`), 200, "")
	s.want(s.call("POST", acquirePath, key, holder("bob")), 409, "no_seat_available")
	s.want(s.call("POST", heartbeatPath, key, lease(id)), 200, "") // nobody is cut off

	if got := s.want(op("POST", path+"/revoke", `{"reason":"fraud"}`), 200, ""); got.str("license.status") != "revoked" || got.str("license.in_use") != "0" {
		t.Error(got.text)
	}
	s.want(op("POST", path+"/revoke", ""), 200, "")
	s.want(s.call("POST", heartbeatPath, key, lease(id)), 410, "lease_revoked")
	s.want(s.call("POST", acquirePath, key, holder("bob")), 403, "license_revoked")
	s.want(op("PATCH", path, `{"seats":7}`), 409, "license_already_revoked")
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	store := eventstoretest.NewStore(1)
	s := start(t, store)
	_, key := s.license("acme", 2, 300)
	issue := func() reply {
		return s.want(s.call("POST", "/api/v1/tenants/acme/licenses", operatorKey, `{"product":"cam","seats":1}`, "Idempotency-Key", "issue-1"), 201, "")
	}
	take := func(key, body, idempotency string, status int, code string) reply {
		t.Helper()
		return s.want(s.call("POST", acquirePath, key, body, "Idempotency-Key", idempotency), status, code)
	}
	issued, taken := issue(), take(key, holder("ada"), "a", 201, "")
	check := func() {
		t.Helper()
		if again := issue(); again.text != issued.text { // the license key with it
			t.Errorf("repeated issue: %s, recorded %s", again.text, issued.text)
		}
		if again := take(key, holder("ada"), "a", 201, ""); again.text != taken.text {
			t.Errorf("repeated acquire: %s, recorded %s", again.text, taken.text)
		}
		take(key, holder("eve"), "a", 422, "idempotency_key_reused")
	}
	check()
	take(issued.str("key"), holder("ada"), "a", 201, "") // another caller's key "a" is another key
	s.stop()
	s = start(t, store)
	check()
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(4))
	license, key := s.license("acme", 2, 300)
	other, otherKey := s.license("beta", 2, 300)
	mistyped := key[:len(key)-3] + string(key[len(key)-3]^1) + key[len(key)-2:] // another character, whichever it is
	foreign := identity.NewLicenseKeys(identity.Secret(bytes.Repeat([]byte{8}, 32))).Text("acme", "abcdefghijkl")

	for name, bad := range map[string]string{"none": "", "operator's": operatorKey, "mistyped": mistyped, "of another ledger": foreign, "short": "lk_", "junk": "lk_acme_a_b"} {
		got := s.call("POST", acquirePath, bad, holder("ada"))
		if got.status != 401 || got.body["code"] != "unauthorized" || got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s key: %d %s", name, got.status, got.text)
		}
	}
	for name, bad := range map[string]string{"none": "", "license": key, "junk": "op_x", "other operator": operatorKey + "x"} {
		s.want(s.call("POST", "/api/v1/tenants", bad, `{"id":"x","name":"x"}`), 401, "unauthorized")
		s.want(s.call("POST", "/api/v1/tenants/acme/licenses/"+license+"/revoke", bad, ""), 401, "unauthorized")
		_ = name
	}
	// A license of one tenant is not there for another, and neither is a lease.
	s.want(s.call("POST", "/api/v1/tenants/acme/licenses/"+other+"/revoke", operatorKey, ""), 404, "license_not_found")
	s.want(s.call("POST", "/api/v1/tenants/nobody/suspend", operatorKey, ""), 404, "tenant_not_found")
	s.want(s.call("POST", "/api/v1/tenants/No%20Body/suspend", operatorKey, ""), 404, "tenant_not_found")
	id := s.want(s.call("POST", acquirePath, key, holder("ada")), 201, "").str("lease.id")
	s.want(s.call("POST", heartbeatPath, otherKey, lease(id)), 404, "lease_not_found")
	s.want(s.call("POST", releasePath, otherKey, lease(id)), 404, "lease_not_found")
}

func TestBadInputNamesTheField(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	license, key := s.license("acme", 2, 300)
	before, _ := s.store.Journal(0).Last(t.Context())
	long := strings.Repeat("x", 201)
	many, _ := json.Marshal(map[string]any{"leases": make([]string, 1001)})
	for _, c := range []struct{ method, path, body, field string }{
		{"POST", acquirePath, ``, ""},
		{"POST", acquirePath, `{`, ""},
		{"POST", acquirePath, `[]`, ""},
		{"POST", acquirePath, `null`, ""},
		{"POST", acquirePath, `{"user":"ada","machine":"m"} x`, ""},
		{"POST", acquirePath, `{"machine":"m"}`, "user"},
		{"POST", acquirePath, `{"user":"ada"}`, "machine"},
		{"POST", acquirePath, `{"user":"","machine":"m"}`, "user"},
		{"POST", acquirePath, `{"user":7,"machine":"m"}`, "user"},
		{"POST", acquirePath, `{"user":null,"machine":"m"}`, "user"},
		{"POST", acquirePath, `{"user":"ada","machine":["m"]}`, "machine"},
		{"POST", acquirePath, `{"user":"ada","machine":"m","seat":1}`, "seat"},
		{"POST", acquirePath, `{"user":"ada","user":"eve","machine":"m"}`, "user"},
		{"POST", acquirePath, `{"user":"` + long + `","machine":"m"}`, "user"},
		{"POST", acquirePath, `{"user":"a\u0000","machine":"m"}`, "user"},
		{"POST", acquirePath, `{"user":"ada","machine":"m","process":"` + long + `"}`, "process"},
		{"POST", acquirePath, "{\"user\":\"\xff\",\"machine\":\"m\"}", "user"},
		{"POST", heartbeatPath, `{}`, "lease"},
		{"POST", heartbeatPath, `{"lease":""}`, "lease"},
		{"POST", heartbeatPath, `{"lease":5}`, "lease"},
		{"POST", heartbeatPath, `{"lease":"a","leases":["b"]}`, "leases"},
		{"POST", heartbeatPath, `{"leases":[]}`, "leases"},
		{"POST", heartbeatPath, `{"leases":["a",3]}`, "leases[1]"},
		{"POST", heartbeatPath, `{"leases":["a",""]}`, "leases[1]"},
		{"POST", releasePath, string(many), "leases"},
		{"POST", "/api/v1/tenants", `{"id":"Acme","name":"x"}`, "id"},
		{"POST", "/api/v1/tenants", `{"id":"a_b","name":"x"}`, "id"},
		{"POST", "/api/v1/tenants", `{"name":"x"}`, "id"},
		{"POST", "/api/v1/tenants", `{"id":"beta","name":""}`, "name"},
		{"PATCH", "/api/v1/tenants/acme", `{"name":"` + long + `"}`, "name"},
		{"POST", "/api/v1/tenants/acme/suspend", `{"reason":5}`, "reason"},
		{"POST", "/api/v1/tenants/acme/suspend", `{"because":"x"}`, "because"},
		{"POST", "/api/v1/tenants/acme/licenses", `{"product":"cad"}`, "seats"},
		{"POST", "/api/v1/tenants/acme/licenses", `{"product":"cad","seats":null}`, "seats"},
		{"POST", "/api/v1/tenants/acme/licenses", `{"product":"cad","seats":-1}`, "seats"},
		{"POST", "/api/v1/tenants/acme/licenses", `{"product":"cad","seats":1.5}`, "seats"},
		{"POST", "/api/v1/tenants/acme/licenses", `{"product":"cad","seats":"5"}`, "seats"},
		{"POST", "/api/v1/tenants/acme/licenses", `{"product":"cad","seats":99999999999999999999}`, "seats"},
		{"POST", "/api/v1/tenants/acme/licenses", `{"product":"cad","seats":1,"lease_seconds":0}`, "lease_seconds"},
		{"POST", "/api/v1/tenants/acme/licenses", `{"product":"cad","seats":1,"lease_seconds":604801}`, "lease_seconds"},
		{"PATCH", "/api/v1/tenants/acme/licenses/" + license, `{}`, "seats"},
		{"PATCH", "/api/v1/tenants/acme/licenses/" + license, `{"seats":1000001}`, "seats"},
	} {
		credential := operatorKey
		if strings.HasPrefix(c.path, "/api/v1/licenses") {
			credential = key
		}
		got := s.call(c.method, c.path, credential, c.body)
		field, _ := got.body["field"].(string)
		if got.status != 400 || got.body["code"] != "invalid_request" || field != c.field {
			t.Errorf("%s %s %.60s: %d %s, want 400 naming %q", c.method, c.path, c.body, got.status, got.text, c.field)
		}
	}
	if got := s.call("POST", acquirePath, key, holder("ada"), "Idempotency-Key", strings.Repeat("k", 201)); got.status != 400 || got.body["field"] != "Idempotency-Key" {
		t.Errorf("long Idempotency-Key: %d %s", got.status, got.text)
	}
	if after, _ := s.store.Journal(0).Last(t.Context()); after != before {
		t.Errorf("bad input added %d commits", after-before)
	}
	s.want(s.call("POST", acquirePath, key, `{"user":"`+strings.Repeat("x", 1<<20)+`","machine":"m"}`), 413, "body_too_large")
	s.want(s.call("POST", acquirePath, key, holder("ada"), "Content-Type", "text/xml"), 415, "unsupported_media_type")
	s.want(s.call("POST", "/api/v1/nothing", key, holder("ada")), 404, "not_found")
	wrong := s.want(s.call("PUT", acquirePath, key, holder("ada")), 405, "method_not_allowed")
	if allow := wrong.header.Get("Allow"); allow != "POST" {
		t.Errorf("Allow = %q, want POST", allow)
	}
}

// FuzzCommands sends arbitrary input to every call: it must be answered, never by a panic or a 500.
func FuzzCommands(f *testing.F) {
	s := start(f, eventstoretest.NewStore(1))
	license, key := s.license("acme", 2, 300)
	paths := []string{acquirePath, heartbeatPath, releasePath, "/api/v1/tenants", "/api/v1/tenants/acme/licenses",
		"/api/v1/tenants/acme/suspend", "/api/v1/tenants/acme/licenses/" + license}
	f.Add(0, `{"user":"ada","machine":"m"}`, "", key)
	f.Add(1, `{"leases":["a"]}`, "k", key)
	f.Add(6, `{"seats":3}`, "k", operatorKey)
	f.Add(5, `{"reason":"\ud800"}`, "", operatorKey)
	f.Fuzz(func(t *testing.T, path int, body, idempotency, bearer string) {
		target := paths[uint(path)%uint(len(paths))]
		for _, method := range []string{http.MethodPost, http.MethodPatch} {
			for _, credential := range []string{bearer, key, operatorKey} {
				r := httptest.NewRequest(method, target, strings.NewReader(body))
				r.Header["Authorization"] = []string{"Bearer " + credential}
				if idempotency != "" {
					r.Header["Idempotency-Key"] = []string{idempotency}
				}
				w := httptest.NewRecorder()
				s.handler.ServeHTTP(w, r)
				if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
					t.Fatalf("%s %s %q: %d %s", method, target, body, w.Code, w.Body)
				}
			}
		}
	})
}

// A client that sends its body slowly, or never reads its answers, is nobody else's trouble.
func TestSlowClientsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	server := httptest.NewServer(s.handler)
	defer server.Close()
	body := `{"id":"acme","name":"Acme"}`
	request := "POST /api/v1/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + operatorKey + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	for i := range 50 {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		sent := request + body[:len(body)-1] // and no more
		if i%2 == 0 {
			sent = strings.Repeat(request+body, 200) // and the answers are never read
		}
		if _, err := io.WriteString(c, sent); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.call("POST", "/api/v1/tenants", operatorKey, `{"id":"beta","name":"Beta"}`); r.status != 201 {
		t.Fatalf("%d %s", r.status, r.text)
	}
}
