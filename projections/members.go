package projections

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
)

// members keeps read.members: one row per person that is or was a member.
type members struct{}

// Name implements Projection.
func (members) Name() string { return "members" }

const membersInvite = `
	INSERT INTO read.members (tenant_id, "user", role, invited_at, removed_at)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
	ON CONFLICT (tenant_id, "user") DO UPDATE SET role = excluded.role, invited_at = excluded.invited_at, removed_at = excluded.removed_at`

// Null means unchanged.
const membersUpdate = `
	UPDATE read.members m SET role = coalesce(c.role, m.role), removed_at = coalesce(c.removed_at, m.removed_at)
	FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS c (tenant_id, "user", role, removed_at)
	WHERE m.tenant_id = c.tenant_id AND m."user" = c."user"`

type memberKey struct {
	tenant domain.TenantID
	user   domain.Pseudonym
}

type memberChange struct {
	role                 *string
	invitedAt, removedAt *time.Time
}

// Apply implements Projection.
func (members) Apply(b *Batch, q *pgx.Batch) error {
	var changes ordered[memberKey, memberChange]
	for _, event := range b.Events() {
		at := func(user domain.Pseudonym) *memberChange { return changes.at(memberKey{event.Tenant, user}) }
		switch e := event.Data.(type) {
		case *domain.MemberInvited:
			*at(e.User) = memberChange{role: new(string(e.Role)), invitedAt: &event.Time}
		case *domain.MemberRoleChanged:
			at(e.User).role = new(string(e.Role))
		case *domain.MemberRemoved:
			at(e.User).removedAt = &event.Time
		}
	}
	type columns struct {
		tenants, users       []string
		roles                []*string
		invitedAt, removedAt []*time.Time
	}
	var invited, changed columns
	for key, c := range changes.all() {
		into := &changed
		if c.invitedAt != nil {
			into = &invited
		}
		into.tenants, into.users = append(into.tenants, string(key.tenant)), append(into.users, clean(key.user))
		into.roles = append(into.roles, c.role)
		into.invitedAt, into.removedAt = append(into.invitedAt, c.invitedAt), append(into.removedAt, c.removedAt)
	}
	change(q, "members invited", len(invited.users), membersInvite,
		invited.tenants, invited.users, invited.roles, invited.invitedAt, invited.removedAt)
	change(q, "members changed", len(changed.users), membersUpdate,
		changed.tenants, changed.users, changed.roles, changed.removedAt)
	return nil
}
