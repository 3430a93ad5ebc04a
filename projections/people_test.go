package projections_test

import (
	"testing"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/projections"
)

// All in one batch: a key that is replaced twice, and a member who is removed, and comes back to a new key.
func TestMembersAndKeys(t *testing.T) {
	f := setup(t)
	key := func(id string) domain.StoredKey { return domain.StoredKey{ID: domain.KeyID(id), Hash: []byte{1}} }
	f.Create("acme", "lic_1", 1)
	for _, c := range []domain.Command{
		domain.CreateTenantKey{Key: key("k1"), Name: "root", Role: domain.RoleOwner},
		domain.RotateTenantKey{OldKey: "k1", Key: key("k2")},
		domain.RotateTenantKey{OldKey: "k2", Key: key("k3")},
		domain.InviteMember{User: "u_ada", Role: domain.RoleMember},
		domain.CreateTenantKey{Key: key("k4"), Name: "ada's", Member: "u_ada"},
		domain.RemoveMember{User: "u_ada"},
		domain.InviteMember{User: "u_ada", Role: domain.RoleAdmin},
		domain.CreateTenantKey{Key: key("k5"), Name: "ada's", Member: "u_ada"},
	} {
		if f.Do("acme", c) != 1 {
			t.Fatalf("%T%+v left nothing", c, c)
		}
	}
	f.Commit()
	f.project(t, projections.Options{})
	f.checkSame(t)
	mustBe(t, "keys", f.value(t, `SELECT string_agg(concat_ws(' ', key_id, name, role, member, until IS NULL, revoked_at IS NULL, hash IS NULL), ', ' ORDER BY key_id)
		FROM read.tenant_keys`), "k1 root owner  f t f, k2 root owner  f t f, k3 root owner  t t f, k4 ada's member u_ada t f t, k5 ada's admin u_ada t t f")
	mustBe(t, "members", f.value(t, `SELECT string_agg(concat_ws(' ', "user", role, removed_at IS NULL), ', ') FROM read.members`), "u_ada admin t")
}
