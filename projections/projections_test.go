package projections_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

func TestTenants(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 2)
	f.Do("acme", domain.RenameTenant{Name: "Acme\x00Corp"}) // a name that Postgres can not hold as it is
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "the name", f.value(t, `SELECT name FROM read.tenants WHERE tenant_id = 'acme'`), "Acme\uFFFDCorp")
	mustBe(t, "the version", f.value(t, `SELECT version FROM read.tenants WHERE tenant_id = 'acme'`), "3")

	f.Do("acme", domain.SuspendTenant{Reason: "unpaid"})
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "the status", f.value(t, `SELECT status FROM read.tenants WHERE tenant_id = 'acme'`), "suspended")
	f.Do("acme", domain.ReinstateTenant{})
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "the status", f.value(t, `SELECT status FROM read.tenants WHERE tenant_id = 'acme'`), "active")
	f.checkSame(t)
}

// What staff reads of all tenants at once is in the audit, and makes it no tenant.
func TestStaffIsNoTenant(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 2)
	f.Do(domain.Staff, domain.RecordStaffRead{Permission: "audit.read", Reason: "ticket 4711"})
	f.Commit()
	f.Do(domain.Staff, domain.RecordStaffRead{Permission: "tenant.read", Reason: "ticket 4712"})
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "who are tenants", f.value(t, `SELECT string_agg(tenant_id, ' ') FROM read.tenants`), "acme")
	mustBe(t, "why staff read", f.value(t, `SELECT string_agg(version || ' ' || reason, ', ' ORDER BY version) FROM read.audit_entries WHERE tenant_id = '_staff'`), "1 ticket 4711, 2 ticket 4712")
	f.checkSame(t)
}

func TestLicensesAndSeatCounts(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 2)
	f.Issue("acme", "lic_2", 5)
	f.Acquire("acme", "lic_1", "ada")
	f.Commit()
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Seats: new(1)})
	f.Do("acme", domain.SuspendLicense{License: "lic_2"})
	f.Acquire("acme", "lic_1", "bob") // denied: changes no count
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "lic_1", f.value(t, `SELECT (seats, in_use) FROM read.seat_counts WHERE license_id = 'lic_1'`), "(1,1)")
	mustBe(t, "lic_2", f.value(t, `SELECT status FROM read.licenses WHERE license_id = 'lic_2'`), "suspended")
	f.checkSame(t)
}

func TestLeases(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 3)
	ada, bob := f.Acquire("acme", "lic_1", "ada"), f.Acquire("acme", "lic_1", "bob")
	f.Commit()
	for range 3 {
		f.Do("acme", domain.HeartbeatSeats{License: "lic_1", Leases: []domain.LeaseID{ada, bob}})
		f.Commit()
	}
	cem := f.Acquire("acme", "lic_1", "cem")
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{cem}}) // begins and ends in one commit
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{ada}})
	f.Commit()
	f.Now = f.Now.Add(time.Hour)
	f.Do("acme", domain.ExpireSeats{Max: 10})
	f.Commit()
	f.project(t, projections.Options{})
	states := `SELECT string_agg(lease_id || '=' || state, ' ' ORDER BY fence) FROM read.leases`
	mustBe(t, "leases", f.value(t, states), fmt.Sprintf("%s=released %s=expired %s=released", ada, bob, cem))
	f.checkSame(t)
}

// A lease that is revived has not ended; its seat is taken again, and what the license allows is to be read.
func TestPolicies(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 1)
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{
		SeatPer: new(domain.SeatPerMachine), ReviveSeconds: new(3600), Features: new([]string{"sim", "cam"}), Overage: new(domain.OverageUnlimited),
	}})
	ada, bob := f.Acquire("acme", "lic_1", "ada"), f.Acquire("acme", "lic_1", "bob")
	far := f.Acquire("acme", "lic_1", "ada@m_2")
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "two machines", f.value(t, `SELECT (seats, in_use) FROM read.seat_counts`), "(1,2)")
	mustBe(t, "beyond the seats", f.value(t, `SELECT string_agg(lease_id, ' ') FROM read.leases WHERE overage`), string(far))
	mustBe(t, "the change", f.value(t, `SELECT before || after FROM read.audit_entries WHERE version = 3`),
		`{"overage": "unlimited", "features": ["cam", "sim"], "seat_per": "machine", "revive_seconds": 3600}`)

	f.Now = f.Now.Add(10 * time.Minute)
	f.Do("acme", domain.ExpireSeats{Max: 10})
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "nobody left", f.value(t, `SELECT (seats, in_use) FROM read.seat_counts`), "(1,0)")

	f.Do("acme", domain.HeartbeatSeats{License: "lic_1", Leases: []domain.LeaseID{ada, bob}})
	f.Do("acme", domain.EvictLease{License: "lic_1", Lease: bob})
	f.Do("acme", domain.RenewLicense{License: "lic_1", ExpiresAt: f.Now.Add(time.Hour)})
	f.Commit()
	f.project(t, projections.Options{})
	states := `SELECT string_agg(lease_id || '=' || state || CASE WHEN ended_at IS NULL THEN '' ELSE ' ended' END, ', ' ORDER BY fence) FROM read.leases`
	mustBe(t, "leases", f.value(t, states), fmt.Sprintf("%s=active, %s=evicted ended, %s=expired ended", ada, bob, far))
	mustBe(t, "one seat again", f.value(t, `SELECT (seats, in_use) FROM read.seat_counts`), "(1,1)")

	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{SeatPer: new(domain.SeatPerProcess)}})
	f.Do("acme", domain.RenewLicense{License: "lic_1"})
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "the policy", f.value(t, `SELECT policy FROM read.licenses`),
		`{"overage": "unlimited", "features": ["cam", "sim"], "lease_seconds": 300, "revive_seconds": 3600}`)
	f.checkSame(t)
}

func TestRevokingALicenseEndsAllItsLeases(t *testing.T) {
	for _, batchMax := range []int{1, 1000} {
		t.Run(fmt.Sprint(batchMax), func(t *testing.T) {
			f := setup(t)
			f.Create("acme", "lic_1", 1000)
			f.Create("other", "lic_1", 1)
			f.Acquire("other", "lic_1", "ada")
			for i := range 600 {
				f.Acquire("acme", "lic_1", fmt.Sprint("user", i))
			}
			f.Commit()
			for i := range 300 {
				f.Acquire("acme", "lic_1", fmt.Sprint("late", i))
			}
			f.Do("acme", domain.RevokeLicense{License: "lic_1"})
			f.Commit()
			f.project(t, projections.Options{BatchMax: batchMax})
			mustBe(t, "revoked", f.value(t, `SELECT count(*) FROM read.leases WHERE tenant_id = 'acme' AND state = 'revoked'`), "900")
			mustBe(t, "others", f.value(t, `SELECT count(*) FROM read.leases WHERE state = 'active'`), "1")
			f.checkSame(t)
		})
	}
}

func TestAuditEntries(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 1)
	f.Do("acme", domain.SuspendLicense{License: "lic_1", Reason: `"<unpaid>"`})
	f.Commit()
	f.Do("acme", domain.RevokeLicense{License: "lic_1"})
	f.Do("acme", domain.RenameTenant{Name: "Acme"})
	f.Issue("acme", "lic_2", 1)
	lease := f.Acquire("acme", "lic_2", "ada")
	f.Acquire("acme", "lic_2", "bob")
	f.Commit()
	f.Do("acme", domain.HeartbeatSeats{License: "lic_2", Leases: []domain.LeaseID{lease}})
	f.Commit()
	f.project(t, projections.Options{})

	mustBe(t, "entries", f.value(t, `SELECT string_agg(version || ' ' || type, ', ' ORDER BY version) FROM read.audit_entries`),
		"1 ai.coditect.tenant.created.v1, 2 ai.coditect.license.issued.v1, 3 ai.coditect.license.suspended.v1, "+
			"4 ai.coditect.license.revoked.v1, 5 ai.coditect.tenant.renamed.v1, 6 ai.coditect.license.issued.v1, "+
			"7 ai.coditect.seat.acquired.v1, 8 ai.coditect.seat.denied.v1")
	change := `SELECT before::text || ' ' || after FROM read.audit_entries WHERE version = $1`
	mustBe(t, "the revocation", f.value(t, change, 4), `{"status": "suspended"} {"status": "revoked"}`)
	mustBe(t, "the new name", f.value(t, change, 5), `{"name": "The acme"} {"name": "Acme"}`)
	mustBe(t, "the denial", f.value(t, `SELECT coalesce(before, after) FROM read.audit_entries WHERE version = 8`), "null")

	record, err := f.store.Journal(0).Get(deadline(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	stored := f.value(t, `SELECT '[' || string_agg(event, ',' ORDER BY version) || ']' FROM read.audit_entries WHERE seq = 1`)
	mustBe(t, "what is stored of commit 1", stored, string(record.Body))
}

func TestNamesAreThereWithTheirCommit(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 5)
	f.Commit()
	f.project(t, projections.Options{})
	f.Name("acme", "u_ada", eventstore.UserName, "ada")
	f.Acquire("acme", "lic_1", "ada")
	f.Commit()
	f.Name("acme", "u_ada", eventstore.UserName, "Ada") // a later word on the same pseudonym counts
	f.Name("acme", "u_bob", eventstore.UserName, "b\x00b")
	f.Acquire("acme", "lic_1", "bob")
	f.Commit()
	f.Name("acme", "u_eve", eventstore.UserName, "eve") // no commit needs her yet

	f.project(t, projections.Options{})
	mustBe(t, "names", f.value(t, `SELECT string_agg(kind || ' ' || pseudonym || '=' || text, ' ' ORDER BY pseudonym) FROM read.directory`),
		"user u_ada=Ada user u_bob=b\uFFFDb")
	mustBe(t, "the directory's place", f.value(t, `SELECT min(directory_seq) FROM read.checkpoints`), "3")
}

// What was true of a tenant and its licenses, and until when.
func TestHistory(t *testing.T) {
	for _, batchMax := range []int{1, 1000} {
		t.Run(fmt.Sprint(batchMax), func(t *testing.T) {
			f := setup(t)
			f.Create("acme", "lic_1", 2)
			f.Commit()
			f.Do("acme", domain.ChangeLicense{License: "lic_1", Seats: new(5), Policy: domain.PolicyChange{MaxPerUser: new(3)}})
			f.Do("acme", domain.RenewLicense{License: "lic_1", ExpiresAt: f.Now.Add(time.Hour)})
			f.Commit()
			f.Do("acme", domain.RenameTenant{Name: "Acme"})
			f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{MaxPerUser: new(0)}})
			f.Do("acme", domain.SuspendLicense{License: "lic_1"})
			f.Commit()
			f.project(t, projections.Options{BatchMax: batchMax})
			mustBe(t, "the names", f.value(t, `SELECT string_agg(format('%s to %s: %s', version, until_version, state ->> 'name'), ', ' ORDER BY version)
				FROM read.history WHERE kind = 'tenant'`), "1 to 6: The acme, 6 to : Acme")
			mustBe(t, "the license", f.value(t, `SELECT string_agg(format('%s to %s: %s seats, %s per user, %s, %s', version, until_version, state ->> 'seats',
					state ->> 'max_per_user', state ->> 'expires_at' IS NOT NULL, state ->> 'status'), ', ' ORDER BY version)
				FROM read.history WHERE kind = 'license'`),
				"2 to 3: 2 seats,  per user, f, active, 3 to 4: 2 seats, 3 per user, f, active, 4 to 5: 5 seats, 3 per user, f, active, "+
					"5 to 7: 5 seats, 3 per user, t, active, 7 to 8: 5 seats,  per user, t, active, 8 to : 5 seats,  per user, t, suspended")
			f.checkSame(t)
		})
	}
}

func TestALeaseSaysWhenItWasHeld(t *testing.T) {
	for _, batchMax := range []int{1, 1000} {
		t.Run(fmt.Sprint(batchMax), func(t *testing.T) {
			f := setup(t)
			f.Create("acme", "lic_1", 3)
			f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{ReviveSeconds: new(3600)}}) // version 3
			ada, bob := f.Acquire("acme", "lic_1", "ada"), f.Acquire("acme", "lic_1", "bob")                            // 4, 5
			f.Commit()
			for range 2 { // 6, 7
				f.Do("acme", domain.HeartbeatSeats{License: "lic_1", Leases: []domain.LeaseID{ada, bob}})
				f.Commit()
			}
			f.Now = f.Now.Add(10 * time.Minute)
			f.Do("acme", domain.ExpireSeats{Max: 10}) // bob 8, ada 9
			f.Commit()
			f.Do("acme", domain.HeartbeatSeats{License: "lic_1", Leases: []domain.LeaseID{ada}}) // 10
			f.Commit()
			cem := f.Acquire("acme", "lic_1", "cem")                                           // 11
			f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{cem}}) // 12
			f.Commit()
			f.Do("acme", domain.RevokeLicense{License: "lic_1"}) // 13
			f.Commit()
			f.project(t, projections.Options{BatchMax: batchMax})
			mustBe(t, "leases", f.value(t, `SELECT string_agg(format('%s %s %s after %s', lease_id, held, span, heartbeats), ', ' ORDER BY fence) FROM read.leases`),
				fmt.Sprintf("%s {[4,9),[10,13)} 4 after 2, %s {[5,8)} 2 after 2, %s {[11,12)} 1 after 0", ada, bob, cem))
			f.checkSame(t)
		})
	}
}
