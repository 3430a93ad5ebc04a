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
	f.Acquire("acme", "lic_1", "bob")
	f.Commit()
	f.project(t, projections.Options{BatchMax: 1})
	f.Acquire("acme", "lic_1", "cem")
	f.Acquire("acme", "lic_1", "dee") // denied
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1", "lse_3"}})
	f.Do("acme", domain.EvictLease{License: "lic_1", Lease: "lse_2", Reason: "moved"})
	f.Do("acme", domain.RevokeLicense{License: "lic_1", Reason: "fraud"})
	f.Commit()
	f.project(t, projections.Options{})
	const entries = `SELECT string_agg(concat_ws('/', split_part(type, '.', 4), license_id, "user", reason, cause, traffic), ' ' ORDER BY version) FROM read.audit_entries`
	const want = "created/////f issued/lic_1////f acquired/lic_1/u_ada///f acquired/lic_1/u_bob///f acquired/lic_1/u_cem///f " +
		"denied/lic_1/u_dee/no_seat_available//f released/lic_1/u_ada///f released/lic_1/u_cem///f evicted/lic_1/u_bob/moved/operator/f revoked/lic_1//fraud//f"
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

func TestProgramsAndTimeAreTraffic(t *testing.T) {
	t.Parallel()
	for actor, want := range map[string]bool{"operator": false, "key:k1": true, "writer": true, "tenant-key:k1": false, "": false} {
		if got := projections.IsProgram(actor); got != want {
			t.Errorf("%q: %t", actor, got)
		}
	}
}
