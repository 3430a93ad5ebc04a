package queryapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

func TestLicenseHistory(t *testing.T) {
	f, explain := spied(t)
	f.Name("acme", "u_ada", eventstore.UserName, "Ada")
	f.Create("acme", "lic_1", 2) // 2
	f.Issue("acme", "lic_2", 9)
	f.Commit()
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Seats: new(5), Policy: domain.PolicyChange{
		Reservations: new([]domain.Reservation{{Name: "render", Users: []domain.Pseudonym{"u_ada"}, Seats: 1}}),
	}}) // 4 and 5
	f.Commit()
	f.Acquire("acme", "lic_1", "ada") // 6, which changes no license
	f.Do("acme", domain.RotateKey{License: "lic_1", Key: domain.LicenseKey{ID: "k2"}})
	f.Do("acme", domain.SuspendLicense{License: "lic_1", Reason: "unpaid"}) // 8
	f.commit(t)
	f.Do("acme", domain.RevokeLicense{License: "lic_1", Reason: "fraud"})    // 9
	f.Do("acme", domain.InviteMember{User: "lic_1", Role: domain.RoleOwner}) // 10, of which nothing is in the history of the license
	f.commit(t)
	const path = "/tenants/acme/licenses/lic_1/history"
	var got []string
	for i, item := range f.items(t, path, 2) {
		var v api.LicenseVersion
		if err := json.Unmarshal([]byte(item), &v); err != nil {
			t.Fatal(err)
		}
		text := func(of *map[string]any) string {
			if of == nil {
				return "nothing"
			}
			raw, _ := json.Marshal(*of)
			return string(raw)
		}
		until := "now"
		if v.Until != nil {
			until = v.Until.Format("05")
		}
		got = append(got, fmt.Sprintf("%d %s-%s %s by %s for %q: %s, then %s", v.Version, v.From.Format("05"), until,
			strings.Split(v.Type, ".")[3], v.Actor, value(v.Reason), text(v.Before), text(v.After)))
		events := ok[api.Timeline](t, f, strings.TrimPrefix(v.Timeline, "/api/v1")).Items
		if len(events) != 1 || events[0].Event.Version != fmt.Sprint(v.Version) {
			t.Errorf("item %d: %s leads to %+v", i, v.Timeline, events)
		}
	}
	want := []string{
		`9 03-now revoked by operator for "fraud": {"status":"suspended"}, then {"status":"revoked"}`,
		`8 02-03 suspended by operator for "unpaid": {"status":"active"}, then {"status":"suspended"}`,
		`5 01-02 resized by operator for "": {"seats":2}, then {"seats":5}`,
		`4 01-01 policy_changed by operator for "": {"reservations":[]}, then {"reservations":[{"name":"render","seats":1,"users":["u_ada"]}]}`,
		`2 00-01 issued by operator for "": nothing, then {"heartbeat_seconds":100,"lease_seconds":300,"product":"cad","seats":2,"status":"active"}`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	whole := ok[api.LicenseHistory](t, f, path+"?sort=time")
	if len(whole.Items) != len(want) || whole.Items[0].Version != 2 || whole.Names["u_ada"] != "Ada" || len(whole.Forgotten) != 0 {
		t.Errorf("%+v", whole)
	}
	if lines := strings.Count(f.file(t, path, "text/csv", "acme-license-history-.*").body, "\n"); lines != len(want)+1 {
		t.Errorf("%d lines", lines)
	}
	f.refused(t, http.StatusNotFound, "license_not_found", "", "/tenants/acme/licenses/lic_9/history")
	f.refused(t, http.StatusNotFound, "license_not_found", "", "/tenants/acme/licenses/%00/history")
	f.refused(t, http.StatusNotFound, "tenant_not_found", "", "/tenants/nobody/licenses/lic_1/history")
	checkPlans(t, explain, map[string]string{path: "history_pkey", path + "?sort=time": "history_pkey"})
}
