package domain_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
)

// TestPropertiesOfPeople plays random commands about members and keys on a tenant and checks, after each, what must hold
// whatever happened.
func TestPropertiesOfPeople(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := domain.Moment{At: day}
		tenant := domain.NewTenant("acme")
		tenant.Apply(now.At, &domain.TenantCreated{Tenant: "acme", Name: "Acme"})
		var history []dated
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			now.At = now.At.Add(rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, time.Hour}).Draw(t, "pause"))
			owners := ownersOf(tenant)
			c := peopleCommand(t, i)
			before := peopleOf(tenant)
			events, err := c.Decide(tenant, now)
			if !reflect.DeepEqual(peopleOf(tenant), before) {
				t.Fatalf("%T%+v: Decide changed the tenant", c, c)
			}
			var refused *domain.Rejection
			if err != nil && !errors.As(err, &refused) {
				t.Fatalf("%T%+v: %v", c, c, err)
			}
			if refused != nil && len(events) > 0 {
				t.Fatalf("%T%+v: refused, with %s", c, c, texts(events))
			}
			for _, e := range events {
				tenant.Apply(now.At, e)
				history = append(history, dated{now.At, e})
			}
			if len(owners) > 0 && len(ownersOf(tenant)) == 0 {
				t.Fatalf("%T%+v: took the last owner key", c, c)
			}
			tenant.TenantKeys(func(k domain.TenantKey) {
				if m, ok := tenant.Member(k.Member); k.Member != "" && !k.Revoked && (!ok || m.Removed || k.Role != m.Role) {
					t.Fatalf("%T%+v: key %+v of %+v", c, c, k, m)
				}
				if k.Revoked && (k.OpenAt(day) || k.Hash != nil) {
					t.Fatalf("%T%+v: revoked, and open: %+v", c, c, k)
				}
			})
			checkPeopleRepeat(t, tenant, now, c, events, refused)
		}
		replayed := domain.NewTenant("acme")
		replayed.Apply(day, &domain.TenantCreated{Tenant: "acme", Name: "Acme"})
		for _, e := range history {
			replayed.Apply(e.at, e.event)
		}
		bytes, _ := tenant.AppendBinary(nil)
		again := domain.NewTenant("acme")
		if err := again.UnmarshalBinary(bytes); err != nil {
			t.Fatal(err)
		}
		for _, other := range []*domain.Tenant{replayed, again} {
			if got, want := peopleOf(other), peopleOf(tenant); !reflect.DeepEqual(got, want) {
				t.Fatalf("came back as\n%+v\nwant\n%+v", got, want)
			}
		}
		if cut := rapid.IntRange(0, len(bytes)-1).Draw(t, "cut"); domain.NewTenant("acme").UnmarshalBinary(bytes[:cut]) == nil {
			t.Fatalf("the first %d of %d bytes are taken for a tenant", cut, len(bytes))
		}
	})
}

// checkPeopleRepeat checks that a command repeated at once adds nothing, unless it gives a key out, and that its answer can
// be recalled.
func checkPeopleRepeat(t *rapid.T, tenant *domain.Tenant, now domain.Moment, c domain.Command, events []domain.Event, refused *domain.Rejection) {
	if len(events) > 0 {
		if got, _, known := domain.Recall(tenant, events); !known || !reflect.DeepEqual(got, c.Answer(tenant, events)) {
			t.Fatalf("%T%+v: recalled %+v", c, c, got)
		}
	}
	switch c.(type) {
	case domain.CreateTenantKey, domain.RotateTenantKey:
		return
	}
	events, err := c.Decide(tenant, now)
	var again *domain.Rejection
	errors.As(err, &again)
	if len(events) > 0 || (again == nil) != (refused == nil) || again != nil && again.Code != refused.Code {
		t.Fatalf("%T%+v: repeat gave %s %v after %v", c, c, texts(events), err, refused)
	}
}

func peopleCommand(t *rapid.T, i int) domain.Command {
	user := rapid.SampledFrom([]domain.Pseudonym{"ada", "bob"}).Draw(t, "user")
	role := rapid.SampledFrom([]domain.Role{domain.RoleOwner, domain.RoleOwner, domain.RoleAdmin, domain.RoleMember}).Draw(t, "role")
	key := domain.KeyID(fmt.Sprint("k", rapid.IntRange(0, max(i, 1)).Draw(t, "key")))
	fresh := domain.StoredKey{ID: domain.KeyID(fmt.Sprint("k", i)), Hash: []byte{1}}
	switch rapid.IntRange(0, 6).Draw(t, "command") {
	case 0:
		return domain.InviteMember{User: user, Role: role}
	case 1:
		return domain.ChangeMemberRole{User: user, Role: role}
	case 2:
		return domain.RemoveMember{User: user, Reason: "r"}
	case 3:
		return domain.CreateTenantKey{Key: fresh, Name: "k", Member: user}
	case 4:
		return domain.CreateTenantKey{Key: fresh, Name: "k", Role: role}
	case 5:
		return domain.RotateTenantKey{OldKey: key, Key: fresh, Overlap: time.Duration(i%2) * time.Minute}
	}
	return domain.RevokeTenantKey{Key: key, Reason: "r"}
}

// people is all that can be seen of a tenant's members and keys.
type people struct {
	members map[domain.Pseudonym]domain.Member
	keys    map[domain.KeyID]domain.TenantKey
}

func peopleOf(t *domain.Tenant) people {
	p := people{map[domain.Pseudonym]domain.Member{}, map[domain.KeyID]domain.TenantKey{}}
	t.Members(func(m domain.Member) { p.members[m.User] = m })
	t.TenantKeys(func(k domain.TenantKey) { p.keys[k.ID] = k })
	return p
}

// ownersOf returns the keys with the role owner that have no end.
func ownersOf(t *domain.Tenant) []domain.KeyID {
	var found []domain.KeyID
	t.TenantKeys(func(k domain.TenantKey) {
		if !k.Revoked && k.Until.IsZero() && k.Role == domain.RoleOwner {
			found = append(found, k.ID)
		}
	})
	return found
}
