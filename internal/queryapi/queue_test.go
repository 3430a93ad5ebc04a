package queryapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

func TestQueue(t *testing.T) {
	f := setup(t)
	queue := func(license string) (api.LicenseQueue, string) {
		t.Helper()
		q := ok[api.LicenseQueue](t, f, "/tenants/acme/licenses/"+license+"/queue")
		var all []string
		for _, w := range q.Items {
			all = append(all, fmt.Sprint(w.Position, " ", w.User, "@", w.Machine))
		}
		return q, strings.Join(all, ", ")
	}
	f.Now = time.Now().UTC().Truncate(time.Second).Add(-10 * time.Minute)
	for _, user := range []string{"ada", "bob", "cem", "fay"} {
		f.Name("acme", domain.Pseudonym("u_"+user), eventstore.UserName, user)
	}
	f.Name("acme", "m_1", eventstore.MachineName, "ws")
	f.Create("acme", "lic_1", 1)
	f.Create("globex", "lic_1", 0)
	f.Wait("globex", "lic_1", "eve")
	f.commit(t)
	if q, who := queue("lic_1"); who != "" || q.Items == nil || q.Waiting != 0 || q.Seats != 1 || q.InUse != 0 {
		t.Errorf("nobody waits, and it has %+v", q)
	}

	held := f.Acquire("acme", "lic_1", "ada")
	f.Wait("acme", "lic_1", "bob")
	f.commit(t)
	f.Wait("acme", "lic_1", "cem")
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{
		Reservations: &[]domain.Reservation{{Name: "vip", Users: []domain.Pseudonym{"u_fay"}, Priority: 5}},
	}})
	f.Wait("acme", "lic_1", "fay")
	f.commit(t)
	q, who := queue("lic_1")
	if who != "1 fay@ws, 2 bob@ws, 3 cem@ws" || q.Waiting != 3 || q.InUse != 1 {
		t.Errorf("%s in %+v", who, q)
	}
	if first := q.Items[0]; first.Priority != 5 || first.EstimateSeconds != nil || first.Process != nil || !first.Since.Equal(f.Now.Add(-time.Second)) {
		t.Errorf("the first is %+v", first)
	}

	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{held}})
	f.Acquire("acme", "lic_1", "fay")
	f.Do("acme", domain.LeaveQueue{License: "lic_1", Holder: domain.Holder{User: "u_bob", Machine: "m_1"}, Cause: domain.DequeuedByCaller})
	f.commit(t)
	q, who = queue("lic_1")
	if who != "1 cem@ws" {
		t.Errorf("%s in %+v", who, q)
	}
	// A seat was given back about ten minutes ago, and none since.
	if e := q.Items[0].EstimateSeconds; e == nil || *e < 500 || *e > 700 {
		t.Errorf("the estimate is %v", e)
	}

	f.refused(t, http.StatusNotFound, "license_not_found", "", "/tenants/acme/licenses/none/queue")
	f.refused(t, http.StatusNotFound, "tenant_not_found", "", "/tenants/none/licenses/lic_1/queue")
}
