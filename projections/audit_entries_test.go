package projections_test

import (
	"testing"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/projections"
)

func TestAnEntrySaysWhomItIsAbout(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 3)
	f.Acquire("acme", "lic_1", "ada")
	f.Acquire("acme", "lic_1", "bob@m_2")
	f.Commit()
	f.project(t, projections.Options{BatchMax: 1})
	f.Acquire("acme", "lic_1", "cem")
	f.Acquire("acme", "lic_1", "dee@m_4") // denied
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1", "lse_3"}})
	f.Do("acme", domain.EvictLease{License: "lic_1", Lease: "lse_2", Reason: "moved"})
	f.Do("acme", domain.RevokeLicense{License: "lic_1", Reason: "fraud"})
	f.Commit()
	f.project(t, projections.Options{})
	const entries = `SELECT string_agg(concat_ws('/', split_part(type, '.', 4), license_id, "user", machine, reason, cause, traffic), ' ' ORDER BY version) FROM read.audit_entries`
	const want = "created//////f issued/lic_1/////f acquired/lic_1/u_ada/m_1///f acquired/lic_1/u_bob/m_2///f acquired/lic_1/u_cem/m_1///f " +
		"denied/lic_1/u_dee/m_4/no_seat_available//f released/lic_1/u_ada/m_1///f released/lic_1/u_cem/m_1///f evicted/lic_1/u_bob/m_2/moved/operator/f revoked/lic_1///fraud//f"
	mustBe(t, "what entries say", f.value(t, entries), want)

	// Again from the first commit, with the leases as they are now.
	for _, sql := range []string{`TRUNCATE read.audit_entries`, `UPDATE read.checkpoints SET seq = 0, hash = decode(repeat('00', 32), 'hex'), directory_seq = 0 WHERE projection = 'audit_entries'`} {
		if _, err := f.db.Exec(deadline(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	f.project(t, projections.Options{})
	mustBe(t, "what entries say when they were read again", f.value(t, entries), want)
	mustBe(t, "denials", f.value(t, `SELECT string_agg(concat_ws('/', version, license_id, "user", reason, count, seats, in_use), ' ') FROM read.denials`),
		"6/lic_1/u_dee/no_seat_available/1/3/3")
}

// A feature is what a lease was acquired with, and so is the end of it; what was not entitled to; and what a license got or lost.
func TestAnEntrySaysWhichFeaturesItIsAbout(t *testing.T) {
	f := setup(t)
	acquire := func(lease domain.LeaseID, features ...string) {
		f.Do("acme", domain.AcquireSeat{License: "lic_1", Lease: lease, Holder: domain.Holder{User: "u_ada", Machine: "m_1", Process: domain.Pseudonym(lease)}, Features: features})
	}
	f.Create("acme", "lic_1", 3)                                                                                              // 1, 2
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{Features: new([]string{"sim", "cam"})}})  // 3
	acquire("lse_1", "cam", "sim", "cam")                                                                                     // 4
	acquire("lse_2", "cam")                                                                                                   // 5
	acquire("lse_3")                                                                                                          // 6
	f.Commit()                                                                                                                //
	f.project(t, projections.Options{})                                                                                       //
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1", "lse_3"}})                           // 7, 8
	f.Do("acme", domain.EvictLease{License: "lic_1", Lease: "lse_2"})                                                         // 9
	acquire("lse_4", "x\x00")                                                                                                 // 10 denied
	acquire("lse_5", "sim")                                                                                                   // 11
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_5"}})                                    // 12
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{Features: new([]string{"cam", "weld"})}}) // 13
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "features", f.value(t, `SELECT string_agg(feature || ' ' || versions, ', ' ORDER BY feature) FROM (
			SELECT feature, string_agg(version::text, ' ' ORDER BY version) AS versions FROM read.audit_entries_of_feature GROUP BY feature) AS f`),
		"cam 3 4 5 7 9, sim 3 4 7 11 12 13, weld 13, x\uFFFD 10")
	f.checkSame(t)
}

func TestProgramsAndTimeAreTraffic(t *testing.T) {
	t.Parallel()
	for actor, want := range map[string]bool{"operator": false, "key:k1": true, "writer": true, "tenant-key:k1": false, "": false} {
		if got := projections.IsProgram(actor); got != want {
			t.Errorf("%q: %t", actor, got)
		}
	}
}
