package projections

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
)

// tenantKeys keeps read.tenant_keys: one row per key of a tenant's people, also those that ended.
type tenantKeys struct{}

// Name implements Projection.
func (tenantKeys) Name() string { return "tenant_keys" }

const tenantKeysCreate = `
	INSERT INTO read.tenant_keys (tenant_id, key_id, hash, created_at, version, name, role, member)
	SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::timestamptz[], $5::bigint[], $6::text[], $7::text[], $8::text[])`

// A key in place of another has what that one had; of a chain of them in one batch all have what the first had.
const tenantKeysReplace = `
	INSERT INTO read.tenant_keys (tenant_id, key_id, hash, created_at, version, name, role, member)
	SELECT c.tenant_id, c.key_id, c.hash, c.created_at, c.version, k.name, k.role, k.member
	FROM unnest($1::text[], $2::text[], $3::bytea[], $4::timestamptz[], $5::bigint[], $6::text[])
		AS c (tenant_id, key_id, hash, created_at, version, first)
	JOIN read.tenant_keys k ON k.tenant_id = c.tenant_id AND k.key_id = c.first`

// Null means unchanged.
const tenantKeysEnd = `
	UPDATE read.tenant_keys k
	SET until = coalesce(c.until, k.until), revoked_at = coalesce(c.revoked_at, k.revoked_at), hash = CASE WHEN c.revoked_at IS NULL THEN k.hash END
	FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[]) AS c (tenant_id, key_id, until, revoked_at)
	WHERE k.tenant_id = c.tenant_id AND k.key_id = c.key_id`

// Another role, and removal, revoke the keys that the member had by then and that were not revoked before.
const tenantKeysOfMember = `
	UPDATE read.tenant_keys SET revoked_at = $4, hash = NULL
	WHERE tenant_id = $1 AND member = $2 AND version < $3 AND revoked_at IS NULL`

type tenantKey struct {
	tenant domain.TenantID
	key    domain.KeyID
}

type keyEnd struct{ until, revokedAt *time.Time }

// Apply implements Projection.
func (tenantKeys) Apply(b *Batch, q *pgx.Batch) error {
	type columns struct {
		tenants, ids, names, roles, members []string
		hashes                              [][]byte
		createdAt                           []time.Time
		versions                            []uint64
	}
	var created, replaced columns
	var firsts []string // of replaced
	first := map[tenantKey]domain.KeyID{}
	var ends ordered[tenantKey, keyEnd]
	for _, event := range b.Events() {
		add := func(to *columns, k domain.StoredKey) {
			to.tenants, to.ids, to.hashes = append(to.tenants, string(event.Tenant)), append(to.ids, clean(k.ID)), append(to.hashes, k.Hash)
			to.createdAt, to.versions = append(to.createdAt, event.Time), append(to.versions, event.Version)
		}
		end := func(id domain.KeyID) *keyEnd { return ends.at(tenantKey{event.Tenant, id}) }
		switch e := event.Data.(type) {
		case *domain.TenantKeyCreated:
			add(&created, e.Key)
			created.names, created.roles, created.members = append(created.names, clean(e.Name)), append(created.roles, string(e.Role)), append(created.members, clean(e.Member))
		case *domain.TenantKeyRotated:
			was := e.OldKey
			if older, ok := first[tenantKey{event.Tenant, was}]; ok {
				was = older
			}
			first[tenantKey{event.Tenant, e.Key.ID}] = was
			add(&replaced, e.Key)
			firsts = append(firsts, clean(was))
			end(e.OldKey).until = &e.OldUntil
		case *domain.TenantKeyRevoked:
			end(e.Key).revokedAt = &event.Time
		}
	}
	change(q, "keys created", len(created.ids), tenantKeysCreate, created.tenants, created.ids, created.hashes,
		created.createdAt, created.versions, created.names, created.roles, created.members)
	change(q, "keys in place of others", len(replaced.ids), tenantKeysReplace,
		replaced.tenants, replaced.ids, replaced.hashes, replaced.createdAt, replaced.versions, firsts)
	var tenants, ids []string
	var until, revokedAt []*time.Time
	for key, e := range ends.all() {
		tenants, ids = append(tenants, string(key.tenant)), append(ids, clean(key.key))
		until, revokedAt = append(until, e.until), append(revokedAt, e.revokedAt)
	}
	change(q, "keys ended", len(ids), tenantKeysEnd, tenants, ids, until, revokedAt)
	// One by one, in order: a member may be removed and invited again, and removed again. It is rare.
	for _, event := range b.Events() {
		switch e := event.Data.(type) {
		case *domain.MemberRoleChanged:
			q.Queue(tenantKeysOfMember, event.Tenant, clean(e.User), event.Version, event.Time)
		case *domain.MemberRemoved:
			q.Queue(tenantKeysOfMember, event.Tenant, clean(e.User), event.Version, event.Time)
		}
	}
	return nil
}
