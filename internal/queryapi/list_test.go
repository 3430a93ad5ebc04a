package queryapi

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// anyPage is a page of any list.
type anyPage struct {
	Items      []json.RawMessage
	Next       string
	Position   string
	AgeSeconds *float64 `json:"age_seconds"`
}

// anyPage asks for one page.
func (f *fixture) anyPage(t *testing.T, path string) (p anyPage) {
	t.Helper()
	answer := f.get(t, path)
	if err := json.Unmarshal([]byte(answer.body), &p); err != nil || answer.status != http.StatusOK {
		t.Fatalf("%s: %d %s %v", path, answer.status, answer.body, err)
	}
	return p
}

// items returns the items of a list, page by page.
func (f *fixture) items(t *testing.T, path string, limit int) []string {
	t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	var items []string
	for cursor := ""; ; {
		p := f.anyPage(t, fmt.Sprintf("%s%slimit=%d&cursor=%s", path, separator, limit, cursor))
		if len(p.Items) > limit {
			t.Fatalf("%s: %d items of %d", path, len(p.Items), limit)
		}
		for _, item := range p.Items {
			items = append(items, string(item))
		}
		if cursor = p.Next; cursor == "" {
			return items
		}
	}
}

// ids returns the ids of the items of a list, page by page.
func (f *fixture) ids(t *testing.T, path string, limit int) string {
	t.Helper()
	var ids []string
	for _, item := range f.items(t, path, limit) {
		var v struct{ ID string }
		if err := json.Unmarshal([]byte(item), &v); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, v.ID)
	}
	return strings.Join(ids, " ")
}

// variety is tenants, licenses and leases that differ in what lists filter by.
func (f *fixture) variety(t *testing.T) {
	t.Helper()
	f.Name("acme", "u_ada", eventstore.UserName, "Ada L.")
	f.Name("acme", "u_bob", eventstore.UserName, "Bob")
	f.Name("acme", "m_1", eventstore.MachineName, "host-1")
	f.Name("acme", "m_2", eventstore.MachineName, "host-2")
	f.Create("acme", "lic_1", 1)
	f.Do("acme", domain.RenameTenant{Name: "=1+1 Zulu"})
	f.commit(t)
	f.Create("globex", "lic_1", 3)
	f.Do("globex", domain.RenameTenant{Name: "alpha 100%"})
	f.commit(t)
	f.Create("initech", "lic_1", 3)
	f.Do("initech", domain.RenameTenant{Name: "Alpha_2"})
	f.Do("initech", domain.SuspendTenant{})
	f.commit(t)
	issue := func(id domain.LicenseID, product string, policy domain.Policy) {
		policy.LeaseSeconds = 36_000
		f.Do("acme", domain.IssueLicense{License: id, Product: product, Seats: 2, Policy: policy, Key: domain.LicenseKey{ID: domain.KeyID(id)}})
		f.commit(t)
	}
	issue("lic_4", "cam", domain.Policy{ExpiresAt: f.Now.AddDate(1, 0, 0), Trial: true, BorrowDays: 3, Overage: domain.OverageUnlimited})
	issue("lic_3", "cam", domain.Policy{ExpiresAt: f.Now.AddDate(0, 1, 0)})
	issue("lic_2", "bim", domain.Policy{})
	f.Do("acme", domain.SuspendLicense{License: "lic_2"})
	f.Do("acme", domain.RenewLicense{License: "lic_3"}) // without an end
	f.commit(t)

	at := f.Now.Truncate(time.Hour)
	f.Now = at.Add(time.Hour)
	f.Acquire("acme", "lic_4", "ada")     // lse_1 at 1:00:00
	f.Acquire("acme", "lic_4", "bob")     // lse_2
	f.Acquire("acme", "lic_4", "cem@m_2") // lse_3, overage
	f.commit(t)
	f.Now = at.Add(2 * time.Hour)
	f.Do("acme", domain.ReleaseSeats{License: "lic_4", Leases: []domain.LeaseID{"lse_1"}})
	f.commit(t)
	f.Do("acme", domain.AcquireSeat{License: "lic_4", Lease: "lse_9", Holder: domain.Holder{User: "u_ada", Machine: "m_2"},
		BorrowUntil: f.Now.Add(24 * time.Hour)})
	f.commit(t)
}

func TestListsFilter(t *testing.T) {
	f := setup(t)
	f.variety(t)
	hour := func(n int) string {
		return url.QueryEscape(f.Now.Truncate(24 * time.Hour).Add(time.Duration(9+n) * time.Hour).Format(time.RFC3339))
	}
	for path, want := range map[string]string{
		"/tenants?status=suspended":               "initech",
		"/tenants?status=active":                  "acme globex",
		"/tenants?name=ALPHA":                     "globex initech",
		"/tenants?name=alpha%5F":                  "initech", // _ is no wildcard
		"/tenants?name=lpha":                      "",
		"/tenants?q=100%25":                       "globex", // nor is %
		"/tenants?q=ZULU":                         "acme",
		"/tenants?q=ITECH":                        "initech",
		"/tenants?q=alpha&status=active":          "globex",
		"/tenants?sort=name":                      "acme globex initech",
		"/tenants?sort=-created_at":               "initech globex acme",
		"/tenants/acme/licenses":                  "lic_1 lic_2 lic_3 lic_4",
		"/tenants/acme/licenses?status=suspended": "lic_2",
		"/tenants/acme/licenses?product=cam":      "lic_3 lic_4",
		"/tenants/acme/licenses?product=CAM":      "",
		"/tenants/acme/licenses?trial=true":       "lic_4",
		"/tenants/acme/licenses?trial=false":      "lic_1 lic_2 lic_3",
		"/tenants/acme/licenses?expires_before=" + url.QueryEscape(f.Now.AddDate(1, 1, 0).Format(time.RFC3339)): "lic_4",
		"/tenants/acme/licenses?expires_before=2026-01-01T00:00:00Z":                                            "",
		"/tenants/acme/licenses?sort=expires_at":                                                                "lic_4 lic_1 lic_2 lic_3",
		"/tenants/acme/licenses?sort=-expires_at":                                                               "lic_3 lic_2 lic_1 lic_4",
		"/tenants/acme/licenses?sort=-issued_at":                                                                "lic_2 lic_3 lic_4 lic_1",
		"/tenants/acme/licenses?sort=product":                                                                   "lic_2 lic_1 lic_3 lic_4",
		"/tenants/acme/seats":                                                                                   "lse_9 lse_3 lse_2 lse_1",
		"/tenants/acme/seats?sort=acquired_at":                                                                  "lse_1 lse_2 lse_3 lse_9",
		"/tenants/acme/seats?state=active":                                                                      "lse_9 lse_3 lse_2",
		"/tenants/acme/seats?overage=true":                                                                      "lse_9 lse_3",
		"/tenants/acme/seats?overage=false":                                                                     "lse_2 lse_1",
		"/tenants/acme/seats?borrowed=true":                                                                     "lse_9",
		"/tenants/acme/seats?borrowed=false":                                                                    "lse_3 lse_2 lse_1",
		"/tenants/acme/seats?user=Ada+L.":                                                                       "lse_9 lse_1",
		"/tenants/acme/seats?user=u_ada":                                                                        "lse_9 lse_1",
		"/tenants/acme/seats?user=u_cem":                                                                        "lse_3", // nobody knows the name any more
		"/tenants/acme/seats?user=ada":                                                                          "",
		"/tenants/acme/seats?machine=host-2":                                                                    "lse_9 lse_3",
		"/tenants/acme/seats?machine=host-2&user=Bob":                                                           "",
		"/tenants/acme/seats?license=lic_4&user=Bob":                                                            "lse_2",
		"/tenants/acme/seats?from=" + hour(2):                                                                   "lse_9 lse_3 lse_2",
		"/tenants/acme/seats?to=" + hour(2):                                                                     "lse_3 lse_2 lse_1",
		"/tenants/acme/seats?to=" + hour(1):                                                                     "",
		"/tenants/acme/seats?from=" + hour(1) + "&to=" + hour(2) + "&state=released":                            "lse_1",
	} {
		for _, limit := range []int{1, 2, 1000} {
			if got := f.ids(t, path, limit); got != want {
				t.Errorf("%s by %d: %q, not %q", path, limit, got, want)
			}
		}
	}
	for path, field := range map[string]string{
		"/tenants?status=lost":                           "status",
		"/tenants?sort=seats":                            "sort",
		"/tenants?nmae=a":                                "nmae",
		"/tenants?state=active":                          "state",
		"/tenants?name=%00":                              "name",
		"/tenants?q=%ff":                                 "q",
		"/tenants?q=a&q=b":                               "q",
		"/tenants/acme/licenses?trial=yes":               "trial",
		"/tenants/acme/licenses?expires_before=tomorrow": "expires_before",
		"/tenants/acme/licenses?sort=id,product":         "sort",
		"/tenants/acme/seats?from=2026-03-01":            "from",
		"/tenants/acme/seats?to=2026-13-01T00:00:00Z":    "to",
		"/tenants/acme/seats?borrowed=1":                 "borrowed",
		"/tenants/acme/seats?sort=expires_at":            "sort",
	} {
		f.refused(t, http.StatusBadRequest, "invalid_request", field, path)
	}
}

func TestACursorIsGoodForItsListOnly(t *testing.T) {
	f := setup(t)
	f.variety(t)
	next := func(path string) string { return url.QueryEscape(f.anyPage(t, path).Next) }
	licenses := next("/tenants/acme/licenses?limit=1&status=active&sort=-id")
	if got := f.get(t, "/tenants/acme/licenses?limit=2&cursor="+licenses+"&sort=-id&status=active"); got.status != http.StatusOK {
		t.Fatalf("another limit and order of parameters: %s", got.body)
	}
	if got := f.get(t, "/tenants/acme/seats?sort=-acquired_at&cursor="+next("/tenants/acme/seats?limit=1")); got.status != http.StatusOK {
		t.Fatalf("the default by its name: %s", got.body)
	}
	for _, path := range []string{
		"/tenants/acme/licenses?sort=-id",                  // another filter
		"/tenants/acme/licenses?sort=-id&status=suspended", //
		"/tenants/acme/licenses?sort=id&status=active",     // another order
		"/tenants/globex/licenses?sort=-id&status=active",  // another tenant
		"/tenants?sort=-id&status=active",                  // another list
		"/tenants/acme/seats",                              //
		"/tenants/acme/licenses?sort=-id&status=active&q=", // it has no q; named first
	} {
		separator := "&"
		if !strings.Contains(path, "?") {
			separator = "?"
		}
		want := "cursor"
		if strings.Contains(path, "q=") {
			want = "q"
		}
		f.refused(t, http.StatusBadRequest, "invalid_request", want, path+separator+"cursor="+licenses)
	}
	path := "/tenants/acme/licenses?sort=-id&status=active&cursor="
	for i := range len(licenses) {
		edited := []byte(licenses)
		if edited[i]++; edited[i] > 'z' {
			edited[i] = 'A'
		}
		f.refused(t, http.StatusBadRequest, "invalid_request", "cursor", path+url.QueryEscape(string(edited)))
	}
	f.refused(t, http.StatusBadRequest, "invalid_request", "cursor", path+licenses[:len(licenses)-1])
	f.refused(t, http.StatusBadRequest, "invalid_request", "cursor", path+licenses+"A")
}

func TestAListIsAFileByAccept(t *testing.T) {
	f := setup(t)
	f.variety(t)
	for path, name := range map[string]string{
		"/tenants?sort=name":                     "tenants",
		"/tenants/acme/licenses?sort=-issued_at": "acme-licenses",
		"/tenants/acme/seats?license=lic_4":      "acme-seats",
		"/tenants/acme/seats?user=nobody":        "acme-seats",
	} {
		items := f.items(t, path, 2)

		lines := f.file(t, path, "application/jsonl", name+"-[0-9]{8}T[0-9]{6}Z.jsonl")
		if lines.body != strings.Join(append(items, ""), "\n") {
			t.Errorf("%s as JSON Lines: %s\nnot %v", path, lines.body, items)
		}
		if other := f.file(t, path, "application/x-ndjson", name+"-[0-9]{8}T[0-9]{6}Z.ndjson"); other.body != lines.body {
			t.Errorf("%s as NDJSON: %s", path, other.body)
		}

		table := f.file(t, path, "text/csv", name+"-[0-9]{8}T[0-9]{6}Z.csv")
		rows, err := csv.NewReader(strings.NewReader(table.body)).ReadAll()
		if err != nil || len(rows) != len(items)+1 || !strings.HasSuffix(rows[0][0], "id") {
			t.Fatalf("%s as CSV: %v %q", path, err, table.body)
		}
		for i, item := range items {
			var fields map[string]any
			if err := json.Unmarshal([]byte(item), &fields); err != nil {
				t.Fatal(err)
			}
			for column, header := range rows[0] {
				if got, want := rows[i+1][column], cellWanted(fields[header]); got != want && !(want == "" && got == "false") {
					t.Errorf("%s: %s of row %d is %q, not %q", path, header, i, got, want)
				}
			}
		}
	}
	if body := f.file(t, "/tenants", "text/csv", ".*").body; !strings.Contains(body, "\r\nacme,'=1+1 Zulu,active,") {
		t.Errorf("a formula: %q", body)
	}
	if body := f.file(t, "/tenants?limit=1", "application/jsonl", ".*").body; strings.Count(body, "\n") != 1 {
		t.Errorf("limit=1: %q", body)
	}
	for accept, want := range map[string]string{
		"":                                       "application/json",
		"*/*":                                    "application/json",
		"text/html, image/*":                     "application/json",
		"text/csv;q=0.5, application/json;q=0.9": "application/json",
		"text/csv, application/json;q=0.9":       "text/csv; charset=utf-8; header=present",
		"TEXT/CSV; charset=utf-8":                "text/csv; charset=utf-8; header=present",
		"text/csv;q=0":                           "application/json",
	} {
		if got := f.get(t, "/tenants", "Accept", accept); got.header.Get("Content-Type") != want || got.header.Get("Vary") != "Accept" {
			t.Errorf("%q gets %s, Vary %s", accept, got.header.Get("Content-Type"), got.header.Get("Vary"))
		}
	}
	f.refused(t, http.StatusNotFound, "tenant_not_found", "", "/tenants/nobody/seats", "Accept", "text/csv")
	f.refused(t, http.StatusNotFound, "license_not_found", "", "/tenants/acme/seats?license=lic_9", "Accept", "text/csv")
	f.refused(t, http.StatusBadRequest, "invalid_request", "state", "/tenants/acme/seats?state=x", "Accept", "application/jsonl")
}

// file asks for a list as a file.
func (f *fixture) file(t *testing.T, path, media, name string) reply {
	t.Helper()
	answer := f.get(t, path, "Accept", media)
	disposition := answer.header.Get("Content-Disposition")
	if answer.status != http.StatusOK || !strings.HasPrefix(answer.header.Get("Content-Type"), media+"; charset=utf-8") ||
		!regexp.MustCompile(`^attachment; filename="`+name+`"$`).MatchString(disposition) ||
		answer.header.Get("Ledger-Position") == "" || answer.header.Get("Ledger-Age") == "" {
		t.Errorf("%s as %s: %d %v", path, media, answer.status, answer.header)
	}
	return answer
}

// cellWanted returns what of JSON stands in a CSV.
func cellWanted(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		if strings.HasPrefix(v, "=") {
			return "'" + v
		}
		return v
	case []any:
		return strings.Trim(fmt.Sprint(v), "[]")
	}
	return fmt.Sprint(value)
}

func TestCellsAreNoFormulas(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "ada": "ada", "a=1": "a=1", "=1": "'=1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1",
		"＝1": "'＝1", "\xff=": "\xff=", "'=1": "'=1",
	} {
		if got := cellOf(text); got != want {
			t.Errorf("%q is %q, not %q", text, got, want)
		}
	}
	for want, value := range map[string]any{"-1": -1, "true": true, "0": 0, "": (*string)(nil)} {
		if got := cellOf(value); got != want {
			t.Errorf("%v is %q", value, got)
		}
	}
}

// manyLicenses adds rows to acme behind the projector's back: n of them, and broken ones that cannot be read.
func (f *fixture) manyLicenses(t *testing.T, n int, broken ...int) {
	t.Helper()
	for _, sql := range []string{
		`INSERT INTO read.licenses (tenant_id, license_id, product, status, lease_seconds, issued_at, policy, seat_per)
			SELECT 'acme', 'lic_' || to_char(i, 'FM000000'), 'cad', 'active', 300, now(), CASE WHEN i = ANY($2) THEN '{"lease_seconds": "x"}' ELSE '{}' END::jsonb, ''
			FROM generate_series(1, $1) AS i`,
		`INSERT INTO read.seat_counts (tenant_id, license_id, seats, in_use)
			SELECT 'acme', 'lic_' || to_char(i, 'FM000000'), cardinality($2::int[]), 0 FROM generate_series(1, $1) AS i`,
	} {
		if _, err := f.db.Exec(deadline(t), sql, n, append([]int{}, broken...)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnExportSendsEverything(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic", 1)
	f.commit(t)
	f.manyLicenses(t, 5000)
	if got := strings.Count(f.file(t, "/tenants/acme/licenses", "application/jsonl", ".*").body, "\n"); got != 5001 {
		t.Errorf("%d lines of 5001", got)
	}
	if got := strings.Count(f.file(t, "/tenants/acme/licenses", "text/csv", ".*").body, "\r\n"); got != 5002 {
		t.Errorf("%d lines of 5002", got)
	}
}

func TestAPartOfAnExportNeverLooksLikeTheWhole(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic", 1)
	f.commit(t)
	f.manyLicenses(t, 1510, 1500)
	for _, media := range []string{"text/csv", "application/jsonl"} {
		r, err := http.NewRequestWithContext(deadline(t), http.MethodGet, f.server.URL+"/api/v1/tenants/acme/licenses", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+operatorKey)
		r.Header.Set(reasonHeader, "test")
		r.Header.Set("Accept", media)
		response, err := f.server.Client().Do(r)
		if err != nil {
			continue // cut before its headers were out
		}
		if body, err := io.ReadAll(response.Body); err == nil || len(body) == 0 {
			t.Errorf("%s: it ends as if it were whole, after %d bytes", media, len(body))
		}
		response.Body.Close()
	}
	// Before anything was sent an error is an answer.
	f.refused(t, http.StatusInternalServerError, "internal", "", "/tenants/acme/licenses?sort=-id", "Accept", "text/csv")
}

func TestExportsLeaveConnectionsForOthers(t *testing.T) {
	f := setup(t)
	f.example(t)
	for range cap(f.api.exports) {
		f.api.exports <- struct{}{}
	}
	answer := f.refused(t, http.StatusServiceUnavailable, "overloaded", "", "/tenants", "Accept", "text/csv")
	if answer.header.Get("Retry-After") != "5" {
		t.Errorf("%v", answer.header)
	}
	ok[api.TenantList](t, f, "/tenants")
	<-f.api.exports
	f.file(t, "/tenants", "text/csv", ".*")
	if len(f.api.exports) != cap(f.api.exports)-1 {
		t.Error("an export that ended keeps its place")
	}
}

func TestEveryAnswerSaysHowOldItIs(t *testing.T) {
	f := setup(t)
	f.Now = time.Now().UTC().Add(-time.Hour).Truncate(time.Millisecond)
	f.example(t)
	paths := []string{
		"/tenants", "/tenants/acme", "/tenants/acme/licenses", "/tenants/acme/licenses/lic_1", "/tenants/acme/seats", "/tenants/acme/timeline",
	}
	age := func(path string) float64 {
		answer := f.get(t, path)
		age, err := strconv.ParseFloat(answer.header.Get("Ledger-Age"), 64)
		var p anyPage
		if err != nil || json.Unmarshal([]byte(answer.body), &p) != nil || (p.Position != "") != (p.AgeSeconds != nil) ||
			p.AgeSeconds != nil && *p.AgeSeconds != age {
			t.Errorf("%s: age %q in %s", path, answer.header.Get("Ledger-Age"), answer.body)
		}
		return age
	}
	// The last commit is an hour old, and nothing came after it.
	for _, path := range paths {
		if age := age(path); age > 60 {
			t.Errorf("%s, which is complete, is %v s old", path, age)
		}
	}
	// Now something did. Until the rows have it they are as old as when the journal was last seen to end where they stand.
	f.api.heads.mu.Lock()
	for p := range f.api.heads.seen {
		f.api.heads.seen[p] = []head{{seq: f.api.heads.seen[p][0].seq, at: time.Now().Add(-10 * time.Minute)}}
	}
	f.api.heads.mu.Unlock()
	f.Now = time.Now().UTC().Add(-5 * time.Minute).Truncate(time.Millisecond)
	f.Do("acme", domain.RenameTenant{Name: "new"})
	f.Commit()
	for _, path := range paths {
		if age := age(path); age < 600 || age > 660 {
			t.Errorf("%s, which was complete ten minutes ago, is %v s old", path, age)
		}
	}
	f.project(t)
	for _, path := range paths {
		if age := age(path); age > 60 {
			t.Errorf("%s, which is complete again, is %v s old", path, age)
		}
	}
}

// spy notes the statements of lists.
type spy struct {
	mu         sync.Mutex
	statements []pgx.TraceQueryStartData
}

// TraceQueryStart implements pgx.QueryTracer.
func (s *spy) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, "ORDER BY") {
		s.mu.Lock()
		s.statements = append(s.statements, data)
		s.mu.Unlock()
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (s *spy) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// spied returns a fixture whose statements are noted, and a function that explains the list statements of one request.
func spied(t *testing.T) (*fixture, func(path string) []string) {
	t.Helper()
	noted := &spy{}
	f := setupWith(t, 1, func(o *Options) {
		config := o.DB.Config()
		config.ConnConfig.Tracer = noted
		db, err := pgxpool.NewWithConfig(context.Background(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		o.DB = db
	})
	return f, func(path string) (plans []string) {
		t.Helper()
		noted.statements = nil
		if answer := f.get(t, path); answer.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, answer.status, answer.body)
		}
		for _, statement := range noted.statements {
			var lines []string
			// As the API asks: row-level security is part of the plan.
			err := pgx.BeginTxFunc(deadline(t), f.api.db, snapshotOf(tenantIn(path)), func(tx pgx.Tx) error {
				// On the few rows of a test it is as good to read all of them, or to sort. What counts is that nobody has to.
				for _, way := range []string{"seqscan", "bitmapscan", "sort"} {
					if _, err := tx.Exec(deadline(t), `SET LOCAL enable_`+way+` = off`); err != nil {
						return err
					}
				}
				rows, err := tx.Query(deadline(t), "EXPLAIN "+statement.SQL, statement.Args...)
				if err != nil {
					return err
				}
				lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			plans = append(plans, strings.Join(lines, "\n"))
		}
		if len(plans) == 0 {
			t.Fatalf("%s: no statement of a list", path)
		}
		return plans
	}
}

// checkPlans checks that requests read their rows from an index, in its order.
func checkPlans(t *testing.T, explain func(path string) []string, index map[string]string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(index)) {
		for _, plan := range explain(path) {
			if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Sort Key") || !strings.Contains(plan, index[path]+" on ") {
				t.Errorf("%s does not read %s in order:\n%s", path, index[path], plan)
			}
		}
	}
}

func TestListsReadIndexes(t *testing.T) {
	f, explain := spied(t)
	f.Name("t0", "u_1", eventstore.UserName, "ada")
	f.Name("t0", "m_1", eventstore.MachineName, "host-1")
	f.Create("t0", "lic", 1)
	f.commit(t)
	for _, sql := range []string{
		`INSERT INTO read.tenants (tenant_id, name, status, created_at, version)
			SELECT 't' || i, 'Name ' || i, 'active', now() - i * interval '1 minute', 1 FROM generate_series(1, 20000) AS i`,
		`INSERT INTO read.licenses (tenant_id, license_id, product, status, lease_seconds, issued_at, policy)
			SELECT 't' || i % 20, 'lic_' || i, 'p' || i % 50, 'active', 300, now(), '{}' FROM generate_series(1, 20000) AS i`,
		`INSERT INTO read.seat_counts (tenant_id, license_id, seats, in_use) SELECT tenant_id, license_id, 5, 0 FROM read.licenses WHERE license_id <> 'lic'`,
		`INSERT INTO read.leases (tenant_id, lease_id, license_id, fence, "user", machine, process, state, acquired_at, expires_at, ended_at, overage, borrowed, held, renewed, renewed_at, heartbeats)
			SELECT 't' || i % 20, 'lse_' || i, 'lic_' || i % 200, i, 'u_' || i % 300, 'm_' || i % 300, '',
				CASE i % 50 WHEN 0 THEN 'active' WHEN 1 THEN 'revoked' WHEN 2 THEN 'evicted' WHEN 3 THEN 'expired' ELSE 'released' END,
				now(), now(), now(), i % 100 = 0, i % 100 = 1, int8multirange(int8range(i, i + 5)), i, now(), 0
			FROM generate_series(1, 60000) AS i`,
		`INSERT INTO read.directory (tenant_id, pseudonym, kind, text)
			SELECT 't' || i % 20, k || i, CASE k WHEN 'u_' THEN 'user' ELSE 'machine' END, 'name ' || i FROM generate_series(2, 300) AS i, (VALUES ('u_'), ('m_')) AS k (k)`,
		`ANALYZE`,
	} {
		if _, err := f.db.Exec(deadline(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	checkPlans(t, explain, map[string]string{
		"/tenants":                                         "tenants_pkey",
		"/tenants?sort=-id":                                "tenants_pkey",
		"/tenants?sort=name":                               "tenants_by_name",
		"/tenants?sort=-name":                              "tenants_by_name",
		"/tenants?sort=name&name=name+7":                   "tenants_by_name",
		"/tenants?sort=created_at":                         "tenants_by_created_at",
		"/tenants?sort=-created_at&status=active&q=7":      "tenants_by_created_at",
		"/tenants/t0/licenses":                             "licenses_pkey",
		"/tenants/t0/licenses?sort=product":                "licenses_by_product",
		"/tenants/t0/licenses?sort=product&product=p20":    "licenses_by_product",
		"/tenants/t0/licenses?sort=-issued_at&trial=false": "licenses_by_issued_at",
		"/tenants/t0/licenses?sort=expires_at":             "licenses_by_expires_at",
		"/tenants/t0/licenses?sort=expires_at&expires_before=2026-01-01T00:00:00Z": "licenses_by_expires_at",
		"/tenants/t0/seats":                  "leases_newest",
		"/tenants/t0/seats?sort=acquired_at": "leases_newest",
		"/tenants/t0/seats?state=active":     "leases_of_state",
		"/tenants/t0/seats?state=revoked":    "leases_of_state",
		"/tenants/t0/seats?license=lic_20":   "leases_of_license",
		"/tenants/t0/seats?user=ada":         "leases_of_user",
		"/tenants/t0/seats?machine=host-1":   "leases_of_machine",
		"/tenants/t0/seats?overage=true":     "leases_overage",
		"/tenants/t0/seats?borrowed=true":    "leases_borrowed",
	})
	// A page behind a cursor begins in the index, too.
	for _, path := range []string{"/tenants?sort=name", "/tenants/t0/licenses?sort=expires_at", "/tenants/t0/seats?state=released"} {
		cursor := f.anyPage(t, path+"&limit=5").Next
		for _, plan := range explain(path + "&cursor=" + cursor) {
			if condition := regexp.MustCompile(`Index Cond: .*ROW\(|Index Cond: .*fence <`); !condition.MatchString(plan) || strings.Contains(plan, "Sort Key") {
				t.Errorf("%s, a later page:\n%s", path, plan)
			}
		}
	}
}

// tenantIn returns the tenant of a path.
func tenantIn(path string) domain.TenantID {
	_, rest, _ := strings.Cut(path, "/tenants/")
	tenant, _, _ := strings.Cut(rest, "/")
	return domain.TenantID(tenant)
}
