package queryapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// key makes a key of a tenant with a role and returns its id and the key; it waits for its commit.
func (f *fixture) key(tenant domain.TenantID, role domain.Role) (domain.KeyID, string) {
	id := tenantKeys.NewID()
	f.Do(tenant, domain.CreateTenantKey{Key: tenantKeys.Stored(tenant, id), Name: "a key", Role: role})
	return id, tenantKeys.Text(tenant, id)
}

// memberKey makes a key of a member.
func (f *fixture) memberKey(tenant domain.TenantID, user domain.Pseudonym, role domain.Role) string {
	f.Do(tenant, domain.InviteMember{User: user, Role: role})
	id := tenantKeys.NewID()
	f.Do(tenant, domain.CreateTenantKey{Key: tenantKeys.Stored(tenant, id), Name: "a key", Member: user})
	return tenantKeys.Text(tenant, id)
}

func bearer(key string) []string { return []string{"Authorization", "Bearer " + key} }

// calls returns every query with its permission; the path is filled with what there is of a tenant.
func (f *fixture) calls(t *testing.T, tenant string) map[string]access.Permission {
	t.Helper()
	router := mux.NewRouter()
	f.api.Routes(router)
	calls := map[string]access.Permission{}
	err := router.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		path, err := route.GetPathTemplate()
		if err != nil {
			return err
		}
		calls[strings.NewReplacer("/api/v1", "", "{tenant}", tenant, "{license}", "lic_1", "{lease}", "lse_1").Replace(path)] = route.GetHandler().(access.Guarded).Permission
		return nil
	})
	if err != nil || len(calls) < 9 {
		t.Fatalf("%d calls, %v", len(calls), err)
	}
	return calls
}

// Every query, with a key of each role.
func TestEveryQueryChecksItsPermission(t *testing.T) {
	f := setup(t)
	f.example(t)
	keys := map[access.Role]string{access.Operator: operatorKey}
	for _, role := range []domain.Role{domain.RoleOwner, domain.RoleAdmin, domain.RoleBilling, domain.RoleAuditor} {
		_, keys[access.Role(role)] = f.key("acme", role)
	}
	keys[access.Member] = f.memberKey("acme", "u_ada", domain.RoleMember)
	f.commit(t)
	for path, p := range f.calls(t, "acme") {
		for role, key := range keys {
			status, body := f.begin(t, path, key)
			allowed := role.May(p) && (role == access.Operator || strings.Contains(path, "acme"))
			if allowed && status == http.StatusForbidden || !allowed && (status != http.StatusForbidden || !strings.Contains(body, `"forbidden"`)) {
				t.Errorf("%s as %s: %d %s", path, role, status, body)
			}
		}
	}
}

// begin asks and returns how the answer begins: a stream has no end.
func (f *fixture) begin(t *testing.T, path, key string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(deadline(t), http.MethodGet, f.server.URL+"/api/v1"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	headers = append(append(bearer(key), reasonHeader, "test"), headers...)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := f.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	first := make([]byte, 64<<10)
	n, _ := io.ReadAtLeast(response.Body, first, 500) // a stream begins with a snapshot, which is longer
	return response.StatusCode, string(first[:n])
}

// What another tenant has, however it is asked for: by its path, by its ids on the own path, by its cursors, its positions,
// on its stream. The answer is a refusal, or what is the own; and never a byte of the other.
func TestTheSecondTenantFindsNothing(t *testing.T) {
	f := setup(t)
	f.example(t)
	f.Name("globex", "u_eve", eventstore.UserName, "SECRET-eve")
	f.Do("globex", domain.RenameTenant{Name: "SECRET-name"})
	f.Do("globex", domain.IssueLicense{License: "lic_secret", Product: "SECRET-product", Seats: 1, Policy: domain.Policy{LeaseSeconds: 60}, Key: domain.LicenseKey{ID: "SECRET-key"}})
	f.Acquire("globex", "lic_secret", "eve")
	f.memberKey("globex", "u_eve", domain.RoleOwner)
	_, owner := f.key("acme", domain.RoleOwner)
	theirs := f.commit(t)
	f.archive(t)
	mine := func(path string, headers ...string) {
		t.Helper()
		status, body := f.begin(t, path, owner, headers...)
		if strings.Contains(body, "SECRET") || status == http.StatusInternalServerError {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, other := range []string{"globex", "nobody", "ACME", "acme%00"} {
		for path := range f.calls(t, other) {
			for _, query := range []string{"", "?limit=1", "?license=lic_secret", "?cursor=eyJ2ZXJzaW9uIjo5fQ", "?as_of=" + theirs, "?min_version=1"} {
				status, body := f.begin(t, path+query, owner, "Ledger-Min-Position", theirs, "Last-Event-ID", theirs)
				if status != http.StatusForbidden || strings.Contains(body, "SECRET") {
					t.Errorf("%s%s: %d %s", path, query, status, body)
				}
			}
		}
	}
	// The other's ids, cursors and positions on the own paths.
	lists := []string{"/tenants/acme/licenses", "/tenants/acme/seats", "/tenants/acme/timeline", "/tenants/acme/members", "/tenants/acme/keys"}
	for _, list := range lists {
		_, body := f.begin(t, strings.Replace(list, "acme", "globex", 1)+"?limit=1", operatorKey)
		if _, next, ok := strings.Cut(body, `"next":"`); ok {
			next, _, _ = strings.Cut(next, `"`)
			mine(list + "?cursor=" + next)
		}
	}
	for path := range f.calls(t, "acme") {
		if path == "/tenants" {
			continue
		}
		mine(path, "Ledger-Min-Position", theirs, "Last-Event-ID", theirs)
		for _, query := range []string{"license=lic_secret", "q=user:eve", "user=eve", "user=u_eve", "as_of=" + theirs, "tenant=globex", "tenant_id=globex"} {
			mine(path + "?" + query)
		}
		mine(strings.NewReplacer("lic_1", "lic_secret", "lse_1", "lse_6").Replace(path))
	}
	f.refusedTo(t, owner, http.StatusNotFound, "license_not_found", "/tenants/acme/licenses/lic_secret")
	f.refusedTo(t, owner, http.StatusNotFound, "license_not_found", "/tenants/acme/seats?license=lic_secret")
}

func (f *fixture) refusedTo(t *testing.T, key string, status int, code, path string) {
	t.Helper()
	f.refused(t, status, code, "", path, bearer(key)...)
}

// A statement that forgets to name the tenant still sees only its rows: Postgres does not show the others.
func TestAStatementThatForgetsTheTenant(t *testing.T) {
	f := setup(t)
	f.example(t)
	router := mux.NewRouter()
	router.Handle("/tenants/{tenant}", access.Guard(access.TenantRead, access.Reads, f.api.callerOf, func(w http.ResponseWriter, r *http.Request) error {
		_, err := f.api.read(w, r, reading{tenant: "acme", rows: f.forgetful(w)})
		return err
	}))
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/tenants/acme", nil)
	r.Header.Set("Authorization", "Bearer "+operatorKey)
	r.Header.Set(reasonHeader, "test")
	router.ServeHTTP(w, r)
	if got := w.Body.String(); got != "acme" {
		t.Errorf("it sees %s", got)
	}
}

func TestMembersAndKeys(t *testing.T) {
	f := setup(t)
	f.example(t)
	id, _ := f.key("acme", domain.RoleOwner)
	f.memberKey("acme", "u_ada", domain.RoleAdmin)
	f.Do("acme", domain.InviteMember{User: "u_bob", Role: domain.RoleAuditor})
	f.Do("acme", domain.RemoveMember{User: "u_bob"})
	next := tenantKeys.NewID()
	f.Do("acme", domain.RotateTenantKey{OldKey: id, Key: tenantKeys.Stored("acme", next)})
	f.commit(t)
	owner := tenantKeys.Text("acme", next)
	members := ok[api.MemberList](t, f, "/tenants/acme/members?limit=1", bearer(owner)...)
	rest := ok[api.MemberList](t, f, "/tenants/acme/members?limit=1&cursor="+members.Next, bearer(owner)...)
	if got := fmt.Sprint(members.Items, rest.Items, rest.Next); got != "[{u_ada admin member ada}] [{u_bob auditor removed }]" {
		t.Errorf("members %s", got)
	}
	keys := ok[api.KeyList](t, f, "/tenants/acme/keys?limit=2", bearer(owner)...)
	last := ok[api.KeyList](t, f, "/tenants/acme/keys?limit=2&cursor="+keys.Next, bearer(owner)...)
	if len(keys.Items) != 2 || len(last.Items) != 1 || keys.Items[0].Id != string(next) || keys.Items[0].Status != api.KeyStatusActive ||
		*keys.Items[1].Member != "u_ada" || keys.Items[1].Role != api.RoleAdmin ||
		last.Items[0].Id != string(id) || last.Items[0].Status != api.KeyStatusReplaced || last.Items[0].EndsAt == nil {
		t.Errorf("keys %+v %+v", keys, last)
	}
}

// A key opens from its commit on and until the one that ends it, as the rows know them.
func TestAKeyOpensWhileItLasts(t *testing.T) {
	f := setup(t)
	f.example(t)
	id, admin := f.key("acme", domain.RoleAdmin)
	asks := func() int { status, _ := f.begin(t, "/tenants/acme", admin); return status }
	if got := asks(); got != http.StatusUnauthorized {
		t.Errorf("before its commit: %d", got)
	}
	// Read your writes: a query that names the position of the key's commit waits for it.
	after := f.tokens.Token(f.Commit()...)
	answers := make(chan reply)
	go func() {
		answers <- f.get(t, "/tenants/acme", "Authorization", "Bearer "+admin, "Ledger-Min-Position", after)
	}()
	awaitWaiters(t, f.api, 1)
	f.project(t)
	if got := <-answers; got.status != http.StatusOK {
		t.Errorf("with its position: %d %s", got.status, got.body)
	}
	// Not another secret, nor the same secret of another tenant.
	status, _ := f.begin(t, "/tenants/globex", tenantKeys.Text("globex", id))
	otherSecret := identity.NewTenantKeys(identity.Secret(bytes.Repeat([]byte{2}, 32))).Text("acme", id)
	for _, forged := range []string{tenantKeys.Text("acme", tenantKeys.NewID()), otherSecret} {
		if status != http.StatusUnauthorized || f.get(t, "/tenants/acme", bearer(forged)...).status != http.StatusUnauthorized {
			t.Errorf("a key that was never given out opens")
		}
	}
	next := tenantKeys.NewID()
	f.Do("acme", domain.RotateTenantKey{OldKey: id, Key: tenantKeys.Stored("acme", next)})
	f.commit(t)
	if got := asks(); got != http.StatusUnauthorized {
		t.Errorf("replaced without overlap: %d", got)
	}
	admin = tenantKeys.Text("acme", next)
	if got := asks(); got != http.StatusOK {
		t.Errorf("in its place: %d", got)
	}
	f.Do("acme", domain.RevokeTenantKey{Key: next})
	revoked := f.tokens.Token(f.Commit()...)
	go func() {
		answers <- f.get(t, "/tenants/acme", "Authorization", "Bearer "+admin, "Ledger-Min-Position", revoked)
	}()
	awaitWaiters(t, f.api, 1)
	f.project(t)
	if got := <-answers; got.status != http.StatusUnauthorized {
		t.Errorf("with the position of its end: %d %s", got.status, got.body)
	}
	if got := asks(); got != http.StatusUnauthorized {
		t.Errorf("revoked: %d", got)
	}
}

// A live stream ends with the change that ends its key, and shows nothing after it.
func TestALiveStreamEndsWithItsKey(t *testing.T) {
	f := setup(t)
	f.example(t)
	admin := f.memberKey("acme", "u_ada", domain.RoleAdmin)
	f.commit(t)
	r, err := http.NewRequestWithContext(deadline(t), http.MethodGet, f.server.URL+"/api/v1/tenants/acme/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+admin)
	response, err := f.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	until := func(what string) (seen []string) {
		for lines.Scan() {
			if seen = append(seen, lines.Text()); strings.Contains(lines.Text(), what) {
				return seen
			}
		}
		return seen
	}
	until("event: snapshot")
	f.Do("globex", domain.RenameTenant{Name: "SECRET"})
	f.Do("acme", domain.RenameTenant{Name: "before"})
	f.commit(t)
	if seen := strings.Join(until("before"), "\n"); strings.Contains(seen, "SECRET") {
		t.Errorf("it shows another tenant: %s", seen)
	}
	f.Do("acme", domain.ChangeMemberRole{User: "u_ada", Role: domain.RoleBilling}) // which ends the key
	f.Do("acme", domain.RenameTenant{Name: "SECRET"})
	f.commit(t)
	if seen := strings.Join(until("SECRET"), "\n"); strings.Contains(seen, "SECRET") || lines.Err() != nil {
		t.Errorf("it goes on: %s, %v", seen, lines.Err())
	}
}

// A member sees its own leases.
func TestAMemberSeesItsOwn(t *testing.T) {
	f := setup(t)
	f.example(t)
	member := f.memberKey("acme", "u_ada", domain.RoleMember)
	f.commit(t)
	list := ok[api.SeatList](t, f, "/tenants/acme/seats", bearer(member)...)
	var ids []string
	for _, l := range list.Items {
		ids = append(ids, l.Id)
	}
	if got := strings.Join(ids, " "); got != "lse_5 lse_1" {
		t.Errorf("it sees %s", got)
	}
	if all := ok[api.SeatList](t, f, "/tenants/acme/seats"); len(all.Items) != 3 {
		t.Errorf("there are %d", len(all.Items))
	}
}

// forgetful reads the names of all tenants.
func (f *fixture) forgetful(w http.ResponseWriter) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		var all string
		if err := tx.QueryRow(ctx, `SELECT string_agg(tenant_id, ' ') FROM read.tenants`).Scan(&all); err != nil {
			return err
		}
		_, err := w.Write([]byte(all))
		return err
	}
}

// Every read of staff on a tenant is recorded before it is answered: which tenant, what, and why; once an hour for each. Without a reason, or
// when it is not recorded, nothing is shown. A tenant's own people need no reason, and are not recorded.
func TestWhatStaffReadsIsRecorded(t *testing.T) {
	f := setup(t)
	f.example(t)
	_, owner := f.key("acme", domain.RoleOwner)
	f.commit(t)
	calls := f.calls(t, "acme")
	calls["/audit?q=tenant:acme"] = access.AuditRead
	seal := identity.NewSeal(identity.Secret(bytes.Repeat([]byte{1}, 32)))
	for path, p := range calls {
		if !strings.Contains(path, "acme") {
			continue
		}
		if status, body := f.begin(t, path, operatorKey, reasonHeader, ""); status != http.StatusBadRequest || !strings.Contains(body, `"reason_required"`) || !strings.Contains(body, `"field":"Ledger-Reason"`) {
			t.Errorf("%s without a reason: %d %s", path, status, body)
		}
		reason := "ticket 4711: " + path
		for range 2 {
			f.begin(t, path, operatorKey, reasonHeader, reason)
		}
		select {
		case msg := <-f.looks:
			var look access.Look
			if err := json.Unmarshal(msg.Data, &look); err != nil || look != (access.Look{Tenant: "acme", Permission: p, Reason: reason}) {
				t.Errorf("%s is recorded as %s, %v", path, msg.Data, err)
			}
			if !seal.Is(msg.Header.Get(access.HeaderSeal), msg.Data) || msg.Header.Get("Idempotency-Key") == "" {
				t.Errorf("%s: recorded with the headers %v", path, msg.Header)
			}
		default:
			t.Errorf("%s is not recorded", path)
		}
		f.begin(t, path, owner, reasonHeader, "")
	}
	if n := len(f.looks); n > 0 {
		t.Errorf("%d more records, such as %s", n, (<-f.looks).Data)
	}
	// Of all tenants at once.
	for path, p := range map[string]access.Permission{"/tenants": access.TenantRead, "/audit": access.AuditRead} {
		f.refused(t, http.StatusBadRequest, "reason_required", reasonHeader, path, reasonHeader, "")
		for range 2 {
			if got := f.get(t, path, reasonHeader, "ticket 4712"); got.status != http.StatusOK {
				t.Errorf("%s: %d %s", path, got.status, got.body)
			}
		}
		var look access.Look
		if err := json.Unmarshal((<-f.looks).Data, &look); err != nil || look != (access.Look{Tenant: domain.Staff, Permission: p, Reason: "ticket 4712"}) || len(f.looks) > 0 {
			t.Errorf("%s is recorded as %+v and %d more, %v", path, look, len(f.looks), err)
		}
	}
	// What no tenant's data is.
	for _, path := range []string{"/ledger/partitions", "/ledger/projections"} {
		if got := f.get(t, path, reasonHeader, ""); got.status != http.StatusOK || len(f.looks) > 0 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	for bad, why := range map[string]string{strings.Repeat("x", reasonMax+1): "too long", "a\tb": "a tab"} {
		f.refused(t, http.StatusBadRequest, "invalid_request", reasonHeader, "/tenants/acme", reasonHeader, bad)
		if len(f.looks) > 0 {
			t.Errorf("%s is recorded", why)
		}
	}
	f.get(t, "/tenants/acme", reasonHeader, "K\xfcndigung") // as a browser sends it
	if got := string((<-f.looks).Data); !strings.Contains(got, "Kündigung") {
		t.Errorf("recorded: %s", got)
	}
}

// The command side is away, refuses, or knows of no such tenant: nothing is shown, and it is asked again the next time.
func TestWhatIsNotRecordedIsNotShown(t *testing.T) {
	f := setup(t)
	f.example(t)
	f.nats.Close()
	f.refused(t, http.StatusServiceUnavailable, "read_not_recorded", "", "/tenants/acme")
	f.refused(t, http.StatusServiceUnavailable, "read_not_recorded", "", "/tenants")
	f.refused(t, http.StatusServiceUnavailable, "read_not_recorded", "", "/audit")
	if got := f.get(t, "/ledger/partitions"); got.status != http.StatusOK {
		t.Errorf("/ledger/partitions: %d %s", got.status, got.body)
	}

	nc := natsServer(t)
	status := "503"
	if _, err := nc.Subscribe(access.LooksSubject, func(msg *nats.Msg) {
		msg.RespondMsg(&nats.Msg{Header: nats.Header{access.HeaderStatus: {status}}})
	}); err != nil {
		t.Fatal(err)
	}
	var l looks
	l.nc = nc
	now := time.Date(2026, 3, 1, 9, 59, 0, 0, time.UTC)
	record := func(tenant domain.TenantID, at time.Time) error {
		return l.record(t.Context(), access.Look{Tenant: tenant, Permission: access.TenantRead, Reason: "x"}, at)
	}
	want := func(code string, err error) {
		t.Helper()
		var p *serve.Problem
		if code == "" && err != nil || code != "" && (!errors.As(err, &p) || p.Code != code) {
			t.Errorf("%v, want %q", err, code)
		}
	}
	want("read_not_recorded", record("acme", now))
	status = "404"
	want("tenant_not_found", record("acme", now))
	status = "200"
	want("", record("acme", now))
	status = "503"
	want("", record("acme", now)) // it is known
	want("read_not_recorded", record("globex", now))
	want("read_not_recorded", record("acme", now.Add(time.Minute))) // another hour
}

// What is recorded in an hour is known until the next one begins. Each look has one Idempotency-Key an hour, whichever process asks, whatever
// its clock's zone: by that the command side records it once.
func TestALookIsRecordedOnceAnHour(t *testing.T) {
	t.Parallel()
	nc := natsServer(t)
	var asked []string
	if _, err := nc.Subscribe(access.LooksSubject, func(msg *nats.Msg) {
		asked = append(asked, msg.Header.Get("Idempotency-Key"))
		msg.RespondMsg(&nats.Msg{Header: nats.Header{access.HeaderStatus: {"200"}}})
	}); err != nil {
		t.Fatal(err)
	}
	one, other := &looks{nc: nc}, &looks{nc: nc}
	now := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	acme := access.Look{Tenant: "acme", Permission: access.TenantRead, Reason: "x"}
	globex := access.Look{Tenant: "globex", Permission: access.TenantRead, Reason: "x"}
	key := func(l *looks, look access.Look, at time.Time) string {
		t.Helper()
		asked = nil
		if err := l.record(t.Context(), look, at); err != nil {
			t.Fatal(err)
		}
		return strings.Join(asked, " ")
	}
	first, second, next := key(one, acme, now), key(one, globex, now), key(one, acme, now.Add(time.Hour))
	if first == "" || second == "" || next == "" || first == second || first == next {
		t.Errorf("keys %q, of another look %q, of the next hour %q", first, second, next)
	}
	if again := key(one, acme, now.Add(89*time.Minute)); again != "" {
		t.Errorf("asked again in the next hour: %q", again)
	}
	if got := key(other, acme, now.Add(29*time.Minute).In(time.FixedZone("", 5*60*60))); got != first {
		t.Errorf("another process asks with %q, not %q", got, first)
	}
}

// Many reasons in an hour take no more memory than it says.
func TestSoManyLooksAreKnown(t *testing.T) {
	t.Parallel()
	var l looks
	hour := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	var last access.Look
	for i := range looksKnownMax + 1 {
		last = access.Look{Tenant: "acme", Permission: access.TenantRead, Reason: fmt.Sprint(i)}
		l.remember(last, hour)
	}
	if len(l.known) > looksKnownMax || !l.knows(last, hour) {
		t.Errorf("%d are known, the last: %t", len(l.known), l.knows(last, hour))
	}
}
