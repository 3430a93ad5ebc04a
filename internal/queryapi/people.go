package queryapi

import (
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/projections"
)

var membersList = list[api.Member]{
	name:    "members",
	columns: projections.MemberColumns,
	tables:  projections.MemberTables,
	scan:    projections.ScanMember,
	orders:  []order{{"id", []key{{`m."user"`, "text"}}}},
	sort:    "id",
	fields: []field[api.Member]{
		{"id", func(m api.Member) any { return m.Id }},
		{"user", func(m api.Member) any { return m.User }},
		{"role", func(m api.Member) any { return m.Role }},
		{"status", func(m api.Member) any { return m.Status }},
	},
}

func (a *API) listMembers(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	at, members := a.instantOf(p, "as_of"), membersList
	members.tables = at.tables(members.tables, projections.MemberTablesAt)
	var where conditions
	where.and(`m.tenant_id = ?`, tenant)
	switch p.oneOf("status", "member", "removed") {
	case "member":
		where.and(`m.removed_at IS NULL`)
	case "removed":
		where.and(`m.removed_at IS NOT NULL`)
	}
	return serveList(a, w, r, members, p, listing[api.Member]{read: a.ofTenant(w, r, at), where: where})
}

var keysList = list[api.Key]{
	name:    "keys",
	columns: `k.key_id, k.name, k.role, nullif(k.member, ''), k.created_at, k.until, k.revoked_at IS NOT NULL`,
	tables:  `read.tenant_keys k`,
	scan:    scanKey,
	orders:  []order{{"created_at", []key{{"k.version", "bigint"}}}},
	sort:    "-created_at",
	fields: []field[api.Key]{
		{"id", func(k api.Key) any { return k.Id }},
		{"name", func(k api.Key) any { return k.Name }},
		{"role", func(k api.Key) any { return k.Role }},
		{"member", func(k api.Key) any { return k.Member }},
		{"status", func(k api.Key) any { return k.Status }},
		{"created_at", func(k api.Key) any { return k.CreatedAt }},
		{"ends_at", func(k api.Key) any { return k.EndsAt }},
	},
}

func (a *API) listKeys(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	var where conditions
	where.and(`k.tenant_id = ?`, tenant)
	switch p.oneOf("status", "active", "replaced", "revoked") {
	case "active":
		where.and(`k.revoked_at IS NULL AND k.until IS NULL`)
	case "replaced":
		where.and(`k.revoked_at IS NULL AND k.until IS NOT NULL`)
	case "revoked":
		where.and(`k.revoked_at IS NOT NULL`)
	}
	return serveList(a, w, r, keysList, p, listing[api.Key]{read: a.ofTenant(w, r), where: where})
}

func scanKey(row pgx.CollectableRow, more ...any) (api.Key, error) {
	k := api.Key{Status: api.KeyStatusActive}
	var revoked bool
	err := row.Scan(append([]any{&k.Id, &k.Name, &k.Role, &k.Member, &k.CreatedAt, &k.EndsAt, &revoked}, more...)...)
	k.CreatedAt = k.CreatedAt.UTC()
	if k.EndsAt != nil {
		k.Status, *k.EndsAt = api.KeyStatusReplaced, k.EndsAt.UTC()
	}
	if revoked {
		k.Status, k.EndsAt = api.KeyStatusRevoked, nil
	}
	return k, err
}
