package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

func tenantID(i int) string { return fmt.Sprintf("t%04d", i) }

// table is how the rows of a table are made up. Columns that are not named get what is nothing of their type.
type table struct {
	name    string
	columns map[string]string // expressions
	from    string            // {tenants} and {leases}, those of a tenant, are put in
}

const ofTenant = `'t' || lpad(t::text, 4, '0')`

// Time of the rows: the last commit was a moment ago.
const lastCommit = `date_trunc('minute', now())`

var bucketColumns = map[string]string{
	"tenant_id": ofTenant, "license_id": `CASE l WHEN 0 THEN '' ELSE 'lic_' || l END`, "start": `s`, "at": `s + interval '1 second'`,
	"seats_min": `1`, "seats_max": `3 + (t + l) % 20`, "seats_last": `2`, "seat_ms": `1000`, "seats": `25`, "acquires": `3`,
	"denials": `CASE WHEN t % 7 = 0 THEN '{"no_seat_available": 2}'::jsonb END`,
}

const bucketsFrom = `generate_series(0, {tenants} - 1) t, generate_series(0, 10) l, `

var tables = []table{
	{"read.tenants", map[string]string{"tenant_id": ofTenant, "name": `'Tenant ' || t`, "status": `'active'`}, `generate_series(0, {tenants} - 1) t`},
	{
		"read.licenses",
		map[string]string{"tenant_id": ofTenant, "license_id": `'lic_' || l`, "product": `'cad'`, "status": `'active'`, "lease_seconds": `300`, "policy": `'{"lease_seconds": 300}'`},
		`generate_series(0, {tenants} - 1) t, generate_series(1, 10) l`,
	},
	{"read.seat_counts", map[string]string{"tenant_id": ofTenant, "license_id": `'lic_' || l`, "seats": `25`, "in_use": `2`}, `generate_series(0, {tenants} - 1) t, generate_series(1, 10) l`},
	{"read.usage_licenses", map[string]string{"tenant_id": ofTenant, "license_id": `'lic_' || l`}, `generate_series(0, {tenants} - 1) t, generate_series(1, 10) l`},
	{
		"read.directory",
		map[string]string{"tenant_id": ofTenant, "pseudonym": `k || '_' || u`, "kind": `CASE k WHEN 'u' THEN 'user' ELSE 'machine' END`, "text": `k || ' of ' || u`},
		`generate_series(0, {tenants} - 1) t, generate_series(0, 199) u, unnest('{u,m}'::text[]) k`,
	},
	{
		"read.leases",
		map[string]string{
			"tenant_id": ofTenant, "lease_id": `'lse_' || lpad(i::text, 8, '0')`, "license_id": `'lic_' || 1 + i % 10`, "fence": `i`, `"user"`: `'u_' || i % 200`,
			"machine": `'m_' || i % 200`, "state": `CASE WHEN i > {leases} - 50 THEN 'active' WHEN i % 40 = 0 THEN 'expired' ELSE 'released' END`,
			"acquired_at": lastCommit + ` - ({leases} - i) * interval '1 minute'`, "expires_at": lastCommit + ` - ({leases} - i - 5) * interval '1 minute'`,
			"ended_at": `CASE WHEN i <= {leases} - 50 THEN ` + lastCommit + ` - ({leases} - i - 4) * interval '1 minute' END`,
			"held":     `int8multirange(int8range(i, CASE WHEN i <= {leases} - 50 THEN i + 5 END))`, "renewed": `i`,
		},
		`generate_series(0, {tenants} - 1) t, generate_series(1, {leases}) i`,
	},
	{
		"read.usage_leases",
		map[string]string{"tenant_id": ofTenant, "license_id": `'lic_' || 1 + i % 10`, "lease_id": `'lse_' || lpad(i::text, 8, '0')`, `"user"`: `'u_' || i % 200`, "machine": `'m_' || i % 200`},
		`generate_series(0, {tenants} - 1) t, generate_series({leases} - 49, {leases}) i`,
	},
	{
		"read.audit_entries",
		map[string]string{
			"tenant_id": ofTenant, "version": `i`, "seq": `i`, "type": `'ai.coditect.seat.acquired.v1'`, "time": lastCommit + ` - ({leases} - i) * interval '1 minute'`,
			"subject": `'lse_' || i`, "actor": `'key:1'`, "command": `'c'`, "license_id": `'lic_' || 1 + i % 10`,
			"event": `'{"specversion":"1.0","id":"' || i || '","type":"ai.coditect.seat.acquired.v1","tenant":"","version":"' || i || '","data":{"license":"lic_1","lease":"lse_' || i || '","user":"u_1","machine":"m_1","expires_at":"2026-01-01T00:00:00Z"}}'`,
		},
		`generate_series(0, {tenants} - 1) t, generate_series(1, {leases} / 5) i`,
	},
	{"read.usage_days", bucketColumns, bucketsFrom + `generate_series(date_trunc('day', now(), 'UTC') - interval '365 days', ` + lastCommit + `, interval '24 hours') s`},
	{"read.usage_hours", bucketColumns, bucketsFrom + `generate_series(date_trunc('hour', now()) - interval '30 days', ` + lastCommit + `, interval '2 hours') s`},
	{"read.usage_minutes", bucketColumns, bucketsFrom + `generate_series(` + lastCommit + ` - interval '300 minutes', ` + lastCommit + `, interval '2 minutes') s`},
	{
		"read.usage_holders",
		map[string]string{
			"tenant_id": ofTenant, "by": `b`, "license_id": `'lic_' || l`, "key": `left(b, 1) || '_' || (l * 20 + u) % 200`, "start": `s + h`, "at": `s + h + interval '30 minutes'`,
			"seats_max": `2`, "seat_ms": `300000 * u`, "acquires": `2`, "denials": `CASE WHEN u = 3 THEN '{"no_seat_available": 2}'::jsonb END`,
		},
		`generate_series(0, {tenants} - 1) t, unnest('{user,machine}'::text[]) b, generate_series(1, 4) l, generate_series(1, 5) u, unnest('{8:00,9:00,13:00}'::interval[]) h,
			generate_series(date_trunc('day', now(), 'UTC') - interval '90 days', ` + lastCommit + `, interval '24 hours') s`,
	},
}

// fill makes up the rows, unless they are there from the last time: without the indexes that are not needed for it, which it makes then.
func fill(ctx context.Context, db *pgxpool.Pool, cfg config, info eventstore.LedgerInfo, out io.Writer) error {
	var filled bool
	if err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM read.checkpoints)`).Scan(&filled); err != nil || filled {
		return err
	}
	put := strings.NewReplacer("{tenants}", fmt.Sprint(cfg.Tenants), "{leases}", fmt.Sprint(cfg.Leases/cfg.Tenants))
	for _, t := range tables {
		began := time.Now()
		indexes, err := dropIndexes(ctx, db, t.name)
		if err != nil {
			return err
		}
		columns, err := t.all(ctx, db)
		if err != nil {
			return err
		}
		names := slices.Sorted(maps.Keys(columns))
		values := make([]string, len(names))
		for i, name := range names {
			values[i] = columns[name]
		}
		tag, err := db.Exec(ctx, put.Replace(fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s", t.name, strings.Join(names, ", "), strings.Join(values, ", "), t.from)))
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		for _, sql := range append(indexes, "VACUUM (ANALYZE) "+t.name) {
			if _, err := db.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		fmt.Fprintf(out, "%-20s %9d rows in %s\n", t.name, tag.RowsAffected(), time.Since(began).Round(time.Second))
	}
	for _, p := range projections.All() {
		_, err := db.Exec(ctx, `INSERT INTO read.checkpoints (projection, partition, ledger_id, seq, hash, directory_seq, commit_time, updated_at)
			VALUES ($1, 0, $2, 1, '', 0, `+lastCommit+`, now())`, p.Name(), info.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

// dropIndexes drops those that hold no promise, and returns how to make them again.
func dropIndexes(ctx context.Context, db *pgxpool.Pool, table string) ([]string, error) {
	rows, err := db.Query(ctx, `
		SELECT pg_get_indexdef(indexrelid), indexrelid::regclass::text FROM pg_index WHERE indrelid = $1::regclass AND NOT indisprimary`, table)
	if err != nil {
		return nil, err
	}
	var definition, name string
	var definitions, names []string
	if _, err := pgx.ForEachRow(rows, []any{&definition, &name}, func() error {
		definitions, names = append(definitions, definition), append(names, name)
		return nil
	}); err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, err := db.Exec(ctx, "DROP INDEX "+name); err != nil {
			return nil, err
		}
	}
	return definitions, nil
}

// all returns an expression for each column that needs one.
func (t table) all(ctx context.Context, db *pgxpool.Pool) (map[string]string, error) {
	rows, err := db.Query(ctx, `
		SELECT quote_ident(attname), format_type(atttypid, NULL), attnotnull AND NOT atthasdef AND attidentity = ''
		FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`, t.name)
	if err != nil {
		return nil, err
	}
	columns := map[string]string{}
	var name, kind string
	var needed bool
	_, err = pgx.ForEachRow(rows, []any{&name, &kind, &needed}, func() error {
		switch given, ok := t.columns[name]; {
		case ok:
			columns[name] = given
		case strings.HasPrefix(kind, "timestamp") && needed:
			columns[name] = "now()"
		case strings.HasSuffix(kind, "[]") && needed:
			columns[name] = "'{}'"
		case kind == "text" && needed:
			columns[name] = "''"
		case kind == "boolean" && needed:
			columns[name] = "false"
		case kind == "jsonb" && needed:
			columns[name] = "'{}'"
		case needed:
			columns[name] = "0"
		}
		return nil
	})
	return columns, err
}
