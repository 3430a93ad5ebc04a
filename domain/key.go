package domain

import "time"

// StoredKey is what the ledger keeps of a key: its public part and a keyed hash of its secret.
type StoredKey struct {
	ID   KeyID  `json:"id"`
	Hash []byte `json:"hash"` // HMAC-SHA-256, 32 bytes, base64 in JSON
}

// TenantKeyCreated gives the tenant a key with which its people, or their programs, see and manage it.
type TenantKeyCreated struct {
	Key  StoredKey `json:"key"`
	Name string    `json:"name"`
	Role Role      `json:"role"`
	// Member is whose key it is, with that member's role; empty when it is nobody's.
	Member Pseudonym `json:"member,omitempty"`
}

// TenantKeyRotated puts another key in place of one, which goes on until OldUntil. Name, role and member are the same.
type TenantKeyRotated struct {
	Key      StoredKey `json:"key"`
	OldKey   KeyID     `json:"old_key"`
	OldUntil time.Time `json:"old_until"` // UTC, exclusive
}

// TenantKeyRevoked ends a key at once.
type TenantKeyRevoked struct {
	Key    KeyID  `json:"key"`
	Reason string `json:"reason,omitempty"`
}

func (*TenantKeyCreated) EventType() string { return "ai.coditect.key.created.v1" }
func (*TenantKeyRotated) EventType() string { return "ai.coditect.key.rotated.v1" }
func (*TenantKeyRevoked) EventType() string { return "ai.coditect.key.revoked.v1" }

func (e *TenantKeyCreated) EventSubject() string { return string(e.Key.ID) }
func (e *TenantKeyRotated) EventSubject() string { return string(e.OldKey) }
func (e *TenantKeyRevoked) EventSubject() string { return string(e.Key) }

// TenantKey is a key of the tenant's people.
type TenantKey struct {
	StoredKey // without the hash once it was revoked
	Name      string
	Role      Role
	Member    Pseudonym // whose it is; empty when it is nobody's
	CreatedAt time.Time
	// Until is when the key ends because another took its place; zero: it has no end.
	Until   time.Time
	Revoked bool
}

// OpenAt reports whether the key still opens anything.
func (k *TenantKey) OpenAt(at time.Time) bool {
	return !k.Revoked && (k.Until.IsZero() || at.Before(k.Until))
}

func (k *TenantKey) revoke() { k.Revoked, k.Hash = true, nil }

// TenantKey returns a key of the tenant's people, also one that ended; false when it is unknown.
func (t *Tenant) TenantKey(id KeyID) (TenantKey, bool) {
	k := t.tenantKeys[id]
	if k == nil {
		return TenantKey{}, false
	}
	return *k, true
}

// TenantKeys calls f for each key of the tenant's people, also those that ended, in no order.
func (t *Tenant) TenantKeys(f func(TenantKey)) {
	for _, k := range t.tenantKeys {
		f(*k)
	}
}

func (t *Tenant) applyTenantKey(k TenantKey) {
	if t.tenantKeys[k.ID] != nil {
		broken("key %s of %s given out twice", k.ID, t.ID)
	}
	if k.Member != "" {
		t.mustMember(k.Member)
	}
	if t.tenantKeys == nil {
		t.tenantKeys = map[KeyID]*TenantKey{}
	}
	t.tenantKeys[k.ID] = &k
}

func (t *Tenant) applyTenantKeyRotated(at time.Time, e *TenantKeyRotated) {
	old := t.mustTenantKey(e.OldKey)
	t.applyTenantKey(TenantKey{StoredKey: e.Key, Name: old.Name, Role: old.Role, Member: old.Member, CreatedAt: at})
	old.Until = e.OldUntil
}

// mustTenantKey returns a key that an event names.
func (t *Tenant) mustTenantKey(id KeyID) *TenantKey {
	k := t.tenantKeys[id]
	if k == nil {
		broken("event for the key %s, which %s does not have", id, t.ID)
	}
	return k
}

// keepOwner refuses what would end the last key with the role owner that has no end yet: nobody of the tenant could undo
// it. A tenant without such a key has nothing to keep.
func (t *Tenant) keepOwner(ends func(*TenantKey) bool) error {
	before, after := 0, 0
	for _, k := range t.tenantKeys {
		if k.Revoked || !k.Until.IsZero() || k.Role != RoleOwner {
			continue
		}
		before++
		if !ends(k) {
			after++
		}
	}
	if before > 0 && after == 0 {
		return rejectf(LastOwnerKey, "This would end the last owner key of %q. Create another one first, or rotate it.", t.ID)
	}
	return nil
}

// CreateTenantKey gives the tenant a key.
//
// Refused, the first that applies: tenant_not_found, member_not_found.
type CreateTenantKey struct {
	Key    StoredKey // new
	Name   string
	Role   Role      // of no matter when Member is given: then it is that of the member
	Member Pseudonym // whose it is; empty: nobody's
}

// Decide implements Command.
func (c CreateTenantKey) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil {
		return nil, err
	}
	role := c.Role
	if c.Member != "" {
		m := t.members[c.Member]
		if m == nil || m.Removed {
			return nil, rejectf(MemberNotFound, "A key can belong to a member only, and this user is none.")
		}
		role = m.Role
	}
	return []Event{&TenantKeyCreated{Key: c.Key, Name: c.Name, Role: role, Member: c.Member}}, nil
}

// Answer implements Command.
func (c CreateTenantKey) Answer(t *Tenant, _ []Event) Answer { return keyAnswer(t, c.Key.ID, true) }

// RotateTenantKey puts another key in place of one, which opens for Overlap longer.
//
// Refused, the first that applies: tenant_not_found, key_not_found, key_over (it was revoked, or replaced before).
type RotateTenantKey struct {
	OldKey  KeyID
	Key     StoredKey // new
	Overlap time.Duration
}

// Decide implements Command.
func (c RotateTenantKey) Decide(t *Tenant, now Moment) ([]Event, error) {
	k, err := t.findTenantKey(c.OldKey)
	if err != nil {
		return nil, err
	}
	if k.Revoked || !k.Until.IsZero() {
		return nil, rejectf(KeyIsOver, "The key %q was revoked or replaced; create a new one.", c.OldKey)
	}
	return []Event{&TenantKeyRotated{Key: c.Key, OldKey: c.OldKey, OldUntil: now.At.Add(c.Overlap)}}, nil
}

// Answer implements Command.
func (c RotateTenantKey) Answer(t *Tenant, _ []Event) Answer { return keyAnswer(t, c.Key.ID, true) }

// RevokeTenantKey ends a key at once; a revoked one stays so.
//
// Refused, the first that applies: tenant_not_found, key_not_found, last_owner_key.
type RevokeTenantKey struct {
	Key    KeyID
	Reason string
}

// Decide implements Command.
func (c RevokeTenantKey) Decide(t *Tenant, _ Moment) ([]Event, error) {
	k, err := t.findTenantKey(c.Key)
	if err != nil || k.Revoked {
		return nil, err
	}
	if err := t.keepOwner(func(other *TenantKey) bool { return other == k }); err != nil {
		return nil, err
	}
	return []Event{&TenantKeyRevoked{Key: c.Key, Reason: c.Reason}}, nil
}

// Answer implements Command.
func (c RevokeTenantKey) Answer(t *Tenant, _ []Event) Answer { return keyAnswer(t, c.Key, false) }

func keyAnswer(t *Tenant, id KeyID, created bool) Answer {
	k := *t.tenantKeys[id]
	return Answer{Created: created, Key: &k}
}

func (t *Tenant) findTenantKey(id KeyID) (*TenantKey, error) {
	if err := t.mustExist(); err != nil {
		return nil, err
	}
	k := t.tenantKeys[id]
	if k == nil {
		return nil, rejectf(KeyNotFound, "The tenant %q has no key %q.", t.ID, id)
	}
	return k, nil
}
