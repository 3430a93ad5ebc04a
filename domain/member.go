package domain

// Role is what a person, or a key, is in its tenant. What each may do is not the domain's business.
type Role string

// The roles.
const (
	RoleOwner   Role = "owner"
	RoleAdmin   Role = "admin"
	RoleBilling Role = "billing"
	RoleAuditor Role = "auditor"
	RoleMember  Role = "member"
)

// MemberInvited makes a person one of the tenant's people, for the first time or again.
type MemberInvited struct {
	User Pseudonym `json:"user"`
	Role Role      `json:"role"`
}

// MemberRoleChanged gives a member another role and ends, at the same instant, all its keys: whoever made one for an auditor
// does not hold one of an owner a day later. There is no event per key: the one fact ends them all.
type MemberRoleChanged struct {
	User Pseudonym `json:"user"`
	Role Role      `json:"role"`
	Was  Role      `json:"was"`
}

// MemberRemoved ends a membership and with it, at the same instant, all keys of the member, as MemberRoleChanged does.
type MemberRemoved struct {
	User   Pseudonym `json:"user"`
	Was    Role      `json:"was"`
	Reason string    `json:"reason,omitempty"`
}

func (*MemberInvited) EventType() string     { return "ai.coditect.member.invited.v1" }
func (*MemberRoleChanged) EventType() string { return "ai.coditect.member.role_changed.v1" }
func (*MemberRemoved) EventType() string     { return "ai.coditect.member.removed.v1" }

func (e *MemberInvited) EventSubject() string     { return string(e.User) }
func (e *MemberRoleChanged) EventSubject() string { return string(e.User) }
func (e *MemberRemoved) EventSubject() string     { return string(e.User) }

// Member is one of the tenant's people. It is known by the pseudonym under which it holds seats, too.
type Member struct {
	User Pseudonym
	Role Role
	// Removed: it is none any more. It may be invited again.
	Removed bool
}

// Member returns a member, also one that was removed; false when there never was one.
func (t *Tenant) Member(user Pseudonym) (Member, bool) {
	m := t.members[user]
	if m == nil {
		return Member{}, false
	}
	return *m, true
}

// Members calls f for each member, also those that were removed, in no order.
func (t *Tenant) Members(f func(Member)) {
	for _, m := range t.members {
		f(*m)
	}
}

func (t *Tenant) applyMemberInvited(e *MemberInvited) {
	if m := t.members[e.User]; m != nil && !m.Removed {
		broken("member %s of %s invited twice", e.User, t.ID)
	}
	if t.members == nil {
		t.members = map[Pseudonym]*Member{}
	}
	t.members[e.User] = &Member{User: e.User, Role: e.Role}
}

func (t *Tenant) applyMemberRoleChanged(e *MemberRoleChanged) {
	t.mustMember(e.User).Role = e.Role
	t.revokeKeysOf(e.User)
}

func (t *Tenant) applyMemberRemoved(e *MemberRemoved) {
	t.mustMember(e.User).Removed = true
	t.revokeKeysOf(e.User)
}

func (t *Tenant) revokeKeysOf(user Pseudonym) {
	for _, k := range t.tenantKeys {
		if k.Member == user {
			k.revoke()
		}
	}
}

// mustMember returns a present member that an event names.
func (t *Tenant) mustMember(user Pseudonym) *Member {
	m := t.members[user]
	if m == nil || m.Removed {
		broken("event for the member %s, whom %s does not have", user, t.ID)
	}
	return m
}

// InviteMember makes a person a member; one that is, with that role, stays so.
//
// Refused, the first that applies: tenant_not_found, member_exists.
type InviteMember struct {
	User Pseudonym
	Role Role
}

// Decide implements Command.
func (c InviteMember) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil {
		return nil, err
	}
	switch m := t.members[c.User]; {
	case m == nil || m.Removed:
		return []Event{&MemberInvited{User: c.User, Role: c.Role}}, nil
	case m.Role != c.Role:
		return nil, rejectf(MemberExists, "This user is a member already, with the role %q.", m.Role)
	}
	return nil, nil
}

// Answer implements Command.
func (c InviteMember) Answer(t *Tenant, events []Event) Answer {
	return memberAnswer(t, c.User, len(events) > 0)
}

// ChangeMemberRole gives a member another role, and ends its keys; the present role again leaves nothing.
//
// Refused, the first that applies: tenant_not_found, member_not_found, last_owner_key.
type ChangeMemberRole struct {
	User Pseudonym
	Role Role
}

// Decide implements Command.
func (c ChangeMemberRole) Decide(t *Tenant, _ Moment) ([]Event, error) {
	m, err := t.findMember(c.User)
	if err == nil && m.Removed {
		err = rejectf(MemberNotFound, "This user is no member any more; invite it again.")
	}
	if err != nil || m.Role == c.Role {
		return nil, err
	}
	if err := t.keepOwner(func(k *TenantKey) bool { return k.Member == c.User }); err != nil {
		return nil, err
	}
	return []Event{&MemberRoleChanged{User: c.User, Role: c.Role, Was: m.Role}}, nil
}

// Answer implements Command.
func (c ChangeMemberRole) Answer(t *Tenant, _ []Event) Answer { return memberAnswer(t, c.User, false) }

// RemoveMember ends a membership and the member's keys; one that was removed stays so.
//
// Refused, the first that applies: tenant_not_found, member_not_found, last_owner_key.
type RemoveMember struct {
	User   Pseudonym
	Reason string
}

// Decide implements Command.
func (c RemoveMember) Decide(t *Tenant, _ Moment) ([]Event, error) {
	m, err := t.findMember(c.User)
	if err != nil || m.Removed {
		return nil, err
	}
	if err := t.keepOwner(func(k *TenantKey) bool { return k.Member == c.User }); err != nil {
		return nil, err
	}
	return []Event{&MemberRemoved{User: c.User, Was: m.Role, Reason: c.Reason}}, nil
}

// Answer implements Command.
func (c RemoveMember) Answer(t *Tenant, _ []Event) Answer { return memberAnswer(t, c.User, false) }

func memberAnswer(t *Tenant, user Pseudonym, created bool) Answer {
	m := *t.members[user]
	return Answer{Created: created, Member: &m}
}

// findMember finds a member, also one that was removed.
func (t *Tenant) findMember(user Pseudonym) (*Member, error) {
	if err := t.mustExist(); err != nil {
		return nil, err
	}
	m := t.members[user]
	if m == nil {
		return nil, rejectf(MemberNotFound, "The tenant %q has no member %q.", t.ID, user)
	}
	return m, nil
}
