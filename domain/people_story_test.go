package domain_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/coditect-ai/license-ledger/domain"
)

// people plays a command about members and keys; false when it is none.
func (s *stage) people(name string, w *words) ([]string, bool) {
	s.t.Helper()
	stored := func(id string) domain.StoredKey { return domain.StoredKey{ID: domain.KeyID(id), Hash: []byte("hash")} }
	var c domain.Command
	switch name {
	case "InviteMember":
		c = domain.InviteMember{User: domain.Pseudonym(w.next()), Role: domain.Role(w.value("role"))}
	case "ChangeMemberRole":
		c = domain.ChangeMemberRole{User: domain.Pseudonym(w.next()), Role: domain.Role(w.value("role"))}
	case "RemoveMember":
		c = domain.RemoveMember{User: domain.Pseudonym(w.next()), Reason: w.value("reason")}
	case "CreateTenantKey":
		c = domain.CreateTenantKey{
			Key: stored(w.next()), Name: "k", Role: domain.Role(w.value("role")), Member: domain.Pseudonym(w.value("member")),
		}
	case "RotateTenantKey":
		c = domain.RotateTenantKey{OldKey: domain.KeyID(w.next()), Key: stored(w.value("key")), Overlap: s.length(w.value("overlap"))}
	case "RevokeTenantKey":
		c = domain.RevokeTenantKey{Key: domain.KeyID(w.next()), Reason: w.value("reason")}
	case "RecordStaffRead":
		c = domain.RecordStaffRead{Permission: w.next(), Reason: w.value("reason")}
	default:
		return nil, false
	}
	return s.execute(c), true
}

func peopleText(event domain.Event) (string, bool) {
	switch e := event.(type) {
	case *domain.MemberInvited:
		return fmt.Sprintf("MemberInvited %s role=%s", e.User, e.Role), true
	case *domain.MemberRoleChanged:
		return fmt.Sprintf("MemberRoleChanged %s role=%s was=%s", e.User, e.Role, e.Was), true
	case *domain.MemberRemoved:
		return fmt.Sprintf("MemberRemoved %s was=%s%s", e.User, e.Was, optional(" reason=", e.Reason)), true
	case *domain.TenantKeyCreated:
		return fmt.Sprintf("TenantKeyCreated %s%s%s", e.Key.ID, optional(" role=", string(e.Role)), optional(" member=", string(e.Member))), true
	case *domain.TenantKeyRotated:
		return fmt.Sprintf("TenantKeyRotated %s key=%s until %s", e.OldKey, e.Key.ID, clockText(e.OldUntil)), true
	case *domain.TenantKeyRevoked:
		return fmt.Sprintf("TenantKeyRevoked %s%s", e.Key, optional(" reason=", e.Reason)), true
	case *domain.StaffRead:
		return fmt.Sprintf("StaffRead %s reason=%s", e.Permission, e.Reason), true
	}
	return "", false
}

// keysText says how many keys open something now, which, and as what.
func (s *stage) keysText() string {
	var texts []string
	s.tenant.TenantKeys(func(k domain.TenantKey) {
		if k.OpenAt(s.now.At) {
			texts = append(texts, fmt.Sprintf("%s:%s", k.ID, k.Role))
		}
		if k.Revoked != (k.Hash == nil) {
			s.fatalf("  key %s: revoked=%v with hash %q", k.ID, k.Revoked, k.Hash)
		}
	})
	slices.Sort(texts)
	return fmt.Sprint(len(texts), " ", strings.Join(texts, " "))
}
