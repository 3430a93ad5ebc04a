package projections_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

// changed projects what is new and returns what live readers of acme are told, by batch.
func (f fixture) changed(t *testing.T) []projections.Change {
	t.Helper()
	var all []projections.Change
	f.project(t, projections.Options{Publish: func(tenant domain.TenantID, payload []byte) error {
		var c projections.Change
		if err := json.Unmarshal(payload, &c); err != nil {
			return err
		}
		if tenant == "acme" {
			all = append(all, c)
		}
		return nil
	}})
	return all
}

// one returns the one change that came.
func one(t *testing.T, all []projections.Change) projections.Change {
	t.Helper()
	if len(all) != 1 {
		t.Fatalf("%d changes, not 1", len(all))
	}
	return all[0]
}

func states(leases []api.Lease) (text string) {
	for _, l := range leases {
		text += fmt.Sprintf("%s %s=%s ", l.Id, l.User, l.State)
	}
	return text
}

func TestAChangeIsWhatTheBatchChanged(t *testing.T) {
	f := setup(t)
	f.Name("acme", "u_ada", eventstore.UserName, "ada")
	f.Create("acme", "lic_1", 2)
	f.Issue("acme", "lic_2", 2)
	f.Acquire("acme", "lic_1", "ada")
	f.Commit()
	c := one(t, f.changed(t))
	if c.Tenant == nil || c.Tenant.Name != "The acme" || len(c.Licenses) != 2 || c.LeasesMore ||
		c.PrevVersion != 0 || c.Version != 4 || c.Seq != 1 || c.Names["u_ada"] != "ada" || len(c.Events) != 4 {
		t.Errorf("%+v", c)
	}
	mustBe(t, "leases", states(c.Leases), "lse_1 ada=active ")

	// A batch that is about another tenant leaves no gap.
	f.Create("other", "lic_1", 1)
	f.Commit()
	if all := f.changed(t); len(all) != 0 {
		t.Errorf("told of another tenant: %+v", all)
	}

	f.Do("acme", domain.HeartbeatSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1"}})
	f.Commit()
	c = one(t, f.changed(t))
	if c.Tenant != nil || len(c.Licenses) != 0 || len(c.Leases) != 1 || len(c.Events) != 0 || c.PrevVersion != 4 || c.Version != 5 || c.Seq != 3 {
		t.Errorf("after a heartbeat: %+v", c)
	}

	f.Do("acme", domain.RevokeLicense{License: "lic_1"})
	f.Commit()
	c = one(t, f.changed(t))
	if len(c.Licenses) != 1 || c.Licenses[0].Status != api.LicenseStatusRevoked || c.Licenses[0].InUse != 0 || c.Licenses[0].HeartbeatSeconds != 100 {
		t.Errorf("after a revocation: %+v", c.Licenses)
	}
	mustBe(t, "leases", states(c.Leases), "lse_1 ada=revoked ")
}

// The row of the license is as before: that it is listed tells its readers to ask for the queue again.
func TestALicenseChangesWithItsQueue(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 1)
	f.Issue("acme", "lic_2", 1)
	f.Acquire("acme", "lic_1", "ada")
	f.Commit()
	before := one(t, f.changed(t)).Licenses[0]
	f.Wait("acme", "lic_1", "bob")
	f.Commit()
	came := one(t, f.changed(t))
	f.Do("acme", domain.LeaveQueue{License: "lic_1", Holder: domain.Holder{User: "u_bob", Machine: "m_1"}, Cause: domain.DequeuedByCaller})
	f.Commit()
	for what, c := range map[string]projections.Change{"came": came, "left": one(t, f.changed(t))} {
		if len(c.Licenses) != 1 || !reflect.DeepEqual(c.Licenses[0], before) {
			t.Errorf("when bob %s: %+v", what, c.Licenses)
		}
	}
}

func TestAChangeIsCut(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 1000)
	for i := range 300 {
		f.Acquire("acme", "lic_1", fmt.Sprint(i))
	}
	f.Commit()
	c := one(t, f.changed(t))
	if len(c.Leases) != projections.ChangeLeasesMax || !c.LeasesMore || len(c.Events) != projections.ChangeEventsMax {
		t.Errorf("%d leases, more %v, %d events", len(c.Leases), c.LeasesMore, len(c.Events))
	}
	record, err := f.store.Journal(0).Get(deadline(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	if last := string(c.Events[len(c.Events)-1]) + "]"; string(record.Body[len(record.Body)-len(last):]) != last {
		t.Errorf("the newest event is not the last one: %s", last)
	}
	f.Do("acme", domain.RevokeLicense{License: "lic_1"})
	f.Commit()
	if c := one(t, f.changed(t)); len(c.Leases) != projections.ChangeLeasesMax || !c.LeasesMore {
		t.Errorf("%d leases, more %v", len(c.Leases), c.LeasesMore)
	}
}
