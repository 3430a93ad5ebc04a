package queryapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

func TestTenants(t *testing.T) {
	f := setup(t)
	if none := ok[api.TenantList](t, f, "/tenants"); len(none.Items) != 0 || none.Items == nil || none.Next != "" {
		t.Errorf("without tenants: %+v", none)
	}
	f.example(t)
	if f.store.Info().PartitionOf("acme") == f.store.Info().PartitionOf("globex") {
		t.Fatal("the example needs tenants of two partitions")
	}
	list := ok[api.TenantList](t, f, "/tenants?limit=1")
	if len(list.Items) != 1 || list.Next == "" {
		t.Fatalf("the first page: %+v", list)
	}
	if s := list.Items[0]; s.Id != "acme" || s.Name != "The acme" || s.Status != "active" || s.Licenses != 2 || s.Seats != 7 || s.InUse != 2 {
		t.Errorf("acme: %+v", s)
	}
	rest := ok[api.TenantList](t, f, "/tenants?limit=1&cursor="+list.Next)
	if len(rest.Items) != 1 || rest.Next != "" || rest.Items[0].Id != "globex" {
		t.Errorf("the second page: %+v", rest)
	}
	positions, err := f.tokens.Parse(list.Position)
	if err != nil || len(positions) != 2 {
		t.Errorf("position of all partitions: %v, %v", positions, err)
	}
	one := ok[api.TenantResponse](t, f, "/tenants/acme")
	if one.Tenant.Id != "acme" || !one.Tenant.CreatedAt.Equal(f.Tenant("acme").CreatedAt) {
		t.Errorf("acme: %+v", one)
	}
}

func TestLicenses(t *testing.T) {
	f := setup(t)
	f.example(t)
	first := ok[api.LicenseList](t, f, "/tenants/acme/licenses?limit=1")
	rest := ok[api.LicenseList](t, f, "/tenants/acme/licenses?limit=1&cursor="+first.Next)
	if len(first.Items) != 1 || len(rest.Items) != 1 || rest.Next != "" || rest.Items[0].Id != "lic_2" {
		t.Errorf("pages: %+v %+v", first, rest)
	}
	one := ok[api.LicenseResponse](t, f, "/tenants/acme/licenses/lic_1").License
	if !reflect.DeepEqual(one, first.Items[0]) || one.Tenant != "acme" || one.Product != "cad" || one.Seats != 2 || one.InUse != 1 ||
		one.LeaseSeconds != 300 || one.HeartbeatSeconds != 100 || one.Status != "active" {
		t.Errorf("lic_1: %+v, %+v", one, first.Items[0])
	}
}

func TestSeats(t *testing.T) {
	f := setup(t)
	f.example(t)
	for path, want := range map[string]string{
		"":                              "lse_5 lse_3 lse_1 2/7",
		"?state=active":                 "lse_5 lse_1 2/7",
		"?state=released":               "lse_3 2/7",
		"?state=expired":                " 2/7",
		"?state=revoked":                " 2/7",
		"?license=lic_1":                "lse_3 lse_1 1/2",
		"?license=lic_1&state=active":   "lse_1 1/2",
		"?license=lic_2&state=released": " 1/5",
	} {
		var ids []string
		var list api.SeatList
		// Page by page gives the same as at once.
		for next := ""; ; {
			separator := "?"
			if path != "" {
				separator = "&"
			}
			list = ok[api.SeatList](t, f, "/tenants/acme/seats"+path+separator+"limit=1&cursor="+next)
			for _, l := range list.Items {
				ids = append(ids, l.Id)
			}
			if next = list.Next; next == "" {
				break
			}
		}
		if got := fmt.Sprintf("%s %d/%d", strings.Join(ids, " "), list.InUse, list.Seats); got != want {
			t.Errorf("%s: %s, not %s", path, got, want)
		}
	}
	list := ok[api.SeatList](t, f, "/tenants/acme/seats")
	ada, ended := list.Items[2], list.Items[1]
	if ada.User != "ada" || ada.Machine != "host-1" || ada.Process != nil || ada.State != "active" || ada.EndedAt != nil || ada.Fence != 4 {
		t.Errorf("ada: %+v", ada)
	}
	if ended.User != "" || ended.EndedAt == nil {
		t.Errorf("one whose name is not known: %+v", ended)
	}
}

func TestTimelineIsWhatIsStored(t *testing.T) {
	f := setup(t)
	f.example(t)
	f.Do("acme", domain.RenameTenant{Name: `<b>"\` + "\u2028é</b>"})
	f.commit(t)
	var stored strings.Builder
	journal := f.store.Journal(f.store.Info().PartitionOf("acme"))
	last, err := journal.Last(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for seq := range last {
		record, err := journal.Get(deadline(t), seq+1)
		if err != nil {
			t.Fatal(err)
		}
		stored.Write(record.Body)
	}
	versions := 0
	for next := ""; ; {
		page := ok[struct {
			Items []struct {
				Event                                                json.RawMessage
				License, User, Machine, Reason, Cause, Before, After json.RawMessage
			}
			Next, Position string
			Names          map[string]string
			Forgotten      []string
			Age            float64 `json:"age_seconds"`
		}](t, f, "/tenants/acme/timeline?limit=3&cursor="+next)
		for _, entry := range page.Items {
			raw := entry.Event
			if !strings.Contains(stored.String(), string(raw)) {
				t.Errorf("not as stored: %s", raw)
			}
			var e api.Event
			if err := json.Unmarshal(raw, &e); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprint(f.Tenant("acme").Version - uint64(versions)); e.Version != want {
				t.Errorf("version %s, not %s", e.Version, want)
			}
			versions++
			if strings.Contains(string(raw), `"u_ada"`) && (page.Names["u_ada"] != "ada" || page.Names["m_1"] != "host-1") {
				t.Errorf("names: %v", page.Names)
			}
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if versions != int(f.Tenant("acme").Version) {
		t.Errorf("%d events of %d", versions, f.Tenant("acme").Version)
	}
}

func TestRefusals(t *testing.T) {
	f := setup(t)
	f.example(t)
	for _, path := range []string{"", "/licenses", "/licenses/lic_1", "/seats", "/leases/lse_1", "/denials", "/timeline", "/live"} {
		f.refused(t, http.StatusNotFound, "tenant_not_found", "", "/tenants/nobody"+path)
		f.refused(t, http.StatusNotFound, "tenant_not_found", "", "/tenants/No_Body"+path)
		f.refused(t, http.StatusUnauthorized, "unauthorized", "", "/tenants/acme"+path, "Authorization", "Bearer "+operatorKey+"x")
		f.refused(t, http.StatusUnauthorized, "unauthorized", "", "/tenants/acme"+path, "Authorization", "Basic eDp5")
	}
	f.refused(t, http.StatusUnauthorized, "unauthorized", "", "/tenants", "Authorization", "")
	for _, license := range []string{"lic_9", "%00", "%ff"} {
		f.refused(t, http.StatusNotFound, "license_not_found", "", "/tenants/acme/licenses/"+license)
	}
	f.refused(t, http.StatusNotFound, "license_not_found", "", "/tenants/acme/seats?license=lic_9")
	f.refused(t, http.StatusBadRequest, "invalid_request", "license", "/tenants/acme/seats?license=%00")
	for _, list := range []string{"/tenants", "/tenants/acme/licenses", "/tenants/acme/seats", "/tenants/acme/timeline", "/tenants/acme/denials", "/audit"} {
		for _, limit := range []string{"0", "-1", "1001", "x", "1.5", ""} {
			f.refused(t, http.StatusBadRequest, "invalid_request", "limit", list+"?limit="+limit)
		}
		for _, bad := range []string{"x", "e30", "bnVsbA", "eyJ0ZW5hbnQiOiJcdTAwMDAifQ", strings.Repeat("A", 44)} {
			f.refused(t, http.StatusBadRequest, "invalid_request", "cursor", list+"?cursor="+bad)
		}
		f.refused(t, http.StatusBadRequest, "invalid_request", "", list+"?limit=%zz")
	}
	f.refused(t, http.StatusBadRequest, "invalid_request", "state", "/tenants/acme/seats?state=lost")
	for _, token := range []string{"x", "AAAAAAAAAAAAAAAAAAAAAA", f.tokens.Token(eventstore.Position{Partition: 2, Seq: 1})} {
		f.refused(t, http.StatusBadRequest, "invalid_request", "Ledger-Min-Position", "/tenants/acme", "Ledger-Min-Position", token)
	}
}

func TestAQueryWaitsForItsPosition(t *testing.T) {
	f := setup(t)
	f.example(t)
	f.Do("acme", domain.RenameTenant{Name: "new"})
	after := f.tokens.Token(f.Commit()...)

	// Several wait at once; the rows come while they do.
	names := make(chan string)
	for range 5 {
		go func() {
			names <- f.get(t, "/tenants/acme", "Ledger-Min-Position", after).body
		}()
	}
	awaitWaiters(t, f.api, 5)
	f.project(t)
	for range 5 {
		if body := <-names; !strings.Contains(body, `"name":"new"`) {
			t.Errorf("the answer is from before: %s", body)
		}
	}
	// What is there already is answered at once, also by all partitions; another tenant's partition is not waited for.
	list := ok[api.TenantList](t, f, "/tenants", "Ledger-Min-Position", after)
	if list.Items[0].Name != "new" {
		t.Errorf("the list is from before: %+v", list)
	}
	far := f.tokens.Token(eventstore.Position{Partition: f.store.Info().PartitionOf("acme"), Seq: 1000})
	ok[api.TenantResponse](t, f, "/tenants/globex", "Ledger-Min-Position", far)
}

// awaitWaiters returns when n queries wait.
func awaitWaiters(t *testing.T, a *API, n int) {
	t.Helper()
	for ctx := deadline(t); ; {
		if ctx.Err() != nil {
			t.Fatal("they do not wait")
		}
		a.waiting.mu.Lock()
		waiting := len(a.waiting.waiters)
		a.waiting.mu.Unlock()
		if waiting == n {
			return
		}
	}
}

func TestAQueryDoesNotWaitForEver(t *testing.T) {
	f := setup(t)
	f.example(t)
	far := f.tokens.Token(eventstore.Position{Partition: f.store.Info().PartitionOf("acme"), Seq: 1002})
	answer := f.refused(t, http.StatusServiceUnavailable, "projection_behind", "", "/tenants/acme/seats", "Ledger-Min-Position", far)
	if answer.header.Get("Retry-After") != "1" || !strings.Contains(answer.body, `"lag_events":1000`) {
		t.Errorf("%v %s", answer.header, answer.body)
	}
	// So can who only waits for rows, and looks at none: no reason is asked for.
	f.refused(t, http.StatusServiceUnavailable, "projection_behind", "", "/ledger/partitions", "Ledger-Min-Position", far, reasonHeader, "")
}
