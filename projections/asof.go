package projections

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// What was true at a version of a tenant is read with the select lists and the scans of what is true now: only the tables are
// others. They are as of the version that AsOf set; those of all tenants as of the commits that AsOfAll set.
var (
	// TenantTablesAt are tables for TenantColumns.
	TenantTablesAt = at(tenantTablesAt, versionSet)
	// LicenseTablesAt are tables for LicenseColumns.
	LicenseTablesAt = at(licenseTablesAt, versionSet)
	// LeaseTablesAt are tables for LeaseColumns: leases in every state. ActiveLeaseTablesAt has the active ones only, and costs as much as
	// there are of them. What heartbeats change is to be put right by RenewalsAt.
	LeaseTablesAt       = at(leaseTablesAt, versionSet)
	ActiveLeaseTablesAt = at(activeLeaseTablesAt, versionSet)
	// MemberTablesAt are tables for MemberColumns.
	MemberTablesAt = at(memberTablesAt, versionSet)
	// AllTenantTablesAt are tables for TenantColumns of all tenants, with the version of each in t.version. LicenseTablesOfAllAt are those
	// for LicenseColumns, in a LATERAL that names t.tenant_id.
	AllTenantTablesAt    = at(allTenantTablesAt, `v.version`)
	LicenseTablesOfAllAt = at(licenseTablesAt, `t.version`)
)

// versionSet is the version that AsOf set, looked up once per statement.
const versionSet = `(SELECT current_setting('read.version')::bigint)`

// AsOf sets the version of a tenant that the tables At of this transaction are as of. The transaction is about that tenant only.
func AsOf(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, version uint64) error {
	_, err := tx.Exec(ctx, `SELECT set_config('app.tenant', $1, true), set_config('read.version', $2, true)`, tenant, strconv.FormatUint(version, 10))
	return err
}

// AsOfAll sets the commits that the tables of all tenants are as of: one of each partition, in order.
func AsOfAll(ctx context.Context, tx pgx.Tx, seqs []uint64) error {
	_, err := tx.Exec(ctx, `SELECT set_config('read.commits', ($1::bigint[])::text, true)`, seqs)
	return err
}

func at(tables, version string) string { return strings.ReplaceAll(tables, "{at}", version) }

const tenantTablesAt = `(
		SELECT n.tenant_id, h.state ->> 'name' AS name, h.state ->> 'status' AS status, n.created_at, {at} AS version
		FROM read.tenants n JOIN read.history h ON h.tenant_id = n.tenant_id AND h.kind = 'tenant' AND ` + trueAt + `) AS t`

var allTenantTablesAt = `(
		SELECT n.tenant_id, h.state ->> 'name' AS name, h.state ->> 'status' AS status, n.created_at, v.version
		FROM read.tenants n
		CROSS JOIN LATERAL (` + versionOf(`n.tenant_id`, `(current_setting('read.commits')::bigint[])[c.partition + 1]`) + `) AS v (version)
		JOIN read.history h ON h.tenant_id = n.tenant_id AND h.kind = 'tenant' AND ` + trueAt + `) AS t`

const licenseTablesAt = `(
		SELECT h.tenant_id, h.id AS license_id, n.product, n.issued_at, h.state ->> 'status' AS status, jsonb_strip_nulls(h.state) AS policy, h.state AS transfer,
			h.state ->> 'seat_per' AS seat_per, (h.state ->> 'seats')::int AS seats
		FROM read.history h JOIN read.licenses n ON n.tenant_id = h.tenant_id AND n.license_id = h.id
		WHERE h.kind = 'license' AND ` + trueAt + `) AS l
	CROSS JOIN LATERAL (SELECT l.seats, (SELECT count(DISTINCT ` + seatOf + `) FROM ` + heldAt + ` AS e) AS in_use) AS s`

// A lease that was revived had run out before.
const leaseTablesAt = `(
		SELECT e.tenant_id, e.lease_id, e.license_id, e.fence, e.moved_fence, e."user", e.machine, e.process, e.overage, e.borrowed, e.acquired_at, e.expires_at,
			CASE WHEN e.held @> {at} THEN 'active' WHEN upper(e.held) <= {at} THEN e.state ELSE 'expired' END AS state,
			CASE WHEN e.held @> {at} THEN NULL WHEN upper(e.held) <= {at} THEN e.ended_at ELSE (
				SELECT a.time FROM read.audit_entries a
				WHERE a.tenant_id = e.tenant_id AND a.version = upper(e.held * int8multirange(int8range(NULL, {at})))) END AS ended_at
		FROM read.leases e WHERE e.fence <= {at}) AS l` + leaseNames

const activeLeaseTablesAt = `(
		SELECT e.* FROM read.licenses l CROSS JOIN LATERAL ` + heldAt + ` AS e) AS l` + leaseNames

// The last that is told of a removed member is that it was.
const memberTablesAt = `(
		SELECT h.tenant_id, h.id AS "user", h.state ->> 'role' AS role, CASE h.state ->> 'status' WHEN 'removed' THEN h.at END AS removed_at
		FROM read.history h WHERE h.kind = 'member' AND ` + trueAt + `) AS m` + memberNames

// trueAt is a condition on read.history h.
const trueAt = `h.version <= {at} AND (h.until_version IS NULL OR h.until_version > {at})`

// heldAt is the leases of the license l that were held. They are looked for by how long they were: see read.leases.
const heldAt = `(
		SELECT e.tenant_id, e.lease_id, e.license_id, e.fence, e.moved_fence, e."user", e.machine, e.process, e.overage, e.borrowed, e.acquired_at, e.expires_at,
			'active' AS state, NULL::timestamptz AS ended_at
		FROM generate_series(0, 62) AS bits, read.leases e
		WHERE e.tenant_id = l.tenant_id AND e.license_id = l.license_id AND e.span = bits
			AND e.fence <= {at} AND e.fence > {at} - (1::bigint << bits) AND e.held @> {at})`

// PlaceAt returns the sequence of the last commit of a partition at or before a time; 0 when there is none. archived is where the
// archive ends: when the rows are further, a later commit may be in time as well.
func PlaceAt(ctx context.Context, tx pgx.Tx, p eventstore.Partition, at time.Time) (seq, archived uint64, err error) {
	err = tx.QueryRow(ctx, `SELECT seq, archived FROM read.commit_at($1, $2)`, p, at).Scan(&seq, &archived)
	return seq, archived, err
}

// versionSelect finds the version of a tenant after the commit {seq}; 0 when it had none. It halves the slices of the tenant until there is
// one left, because sequences grow with versions.
const versionSelect = `
	WITH RECURSIVE search (low, high) AS ( -- the version low is stored by then, the version high is not
		SELECT 0::bigint, coalesce(max(last), 0) + 1 FROM (SELECT last FROM archive.slices WHERE tenant_id = {tenant} ORDER BY first DESC LIMIT 1) AS newest
		UNION ALL
		SELECT CASE WHEN c.seq <= {seq} THEN c.last ELSE s.low END, CASE WHEN c.seq <= {seq} THEN s.high ELSE c.first END
		FROM search s CROSS JOIN LATERAL (
			SELECT first, last, partition, seq FROM archive.slices WHERE tenant_id = {tenant} AND first <= (s.low + s.high) / 2 ORDER BY first DESC LIMIT 1) AS c
		WHERE s.low + 1 < s.high
	)
	SELECT max(low) FROM search`

// VersionAt returns the version that a tenant had after a commit of its partition; 0 when it had none. The archive has to reach as far.
func VersionAt(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, seq uint64) (version uint64, err error) {
	err = tx.QueryRow(ctx, versionOf("$1", "$2"), tenant, seq).Scan(&version)
	return version, err
}

func versionOf(tenant, seq string) string {
	return strings.NewReplacer("{tenant}", tenant, "{seq}", seq).Replace(versionSelect)
}

// TimeOf returns when a tenant got to a version.
func TimeOf(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, version uint64) (at time.Time, err error) {
	err = tx.QueryRow(ctx, `SELECT time FROM read.slices_before($1, $2, 1)`, tenant, version+1).Scan(&at)
	return at.UTC(), err
}

// renewal is what a heartbeat, or what began or prolonged a lease, says of it.
type renewal struct {
	version   uint64
	expiresAt time.Time
	borrowed  bool
}

// renewedSelect finds the leases whose row tells of a later renewal, and what began or borrowed them last before: unless a heartbeat came
// after that, it is what counts.
const renewedSelect = `
	SELECT e.lease_id, b.version, (b.event::json #>> '{data,expires_at}')::timestamptz,
		b.type = 'ai.coditect.seat.borrowed.v1' OR coalesce((b.event::json #>> '{data,borrowed}')::boolean, false)
	FROM read.leases e
	JOIN read.audit_entries b ON b.tenant_id = $1 AND b.version = greatest(
		(SELECT max(lower(span)) FROM unnest(e.held) AS span WHERE lower(span) <= $3),
		(SELECT max(a.version) FROM read.audit_entries a
		WHERE a.tenant_id = $1 AND a.subject = e.lease_id AND a.type = 'ai.coditect.seat.borrowed.v1' AND a.version <= $3))
	WHERE e.tenant_id = $1 AND ($2::text[] IS NULL OR e.lease_id = ANY($2)) AND e.fence <= $3 AND e.renewed > $3`

const longestLeaseSelect = `
	SELECT coalesce(max((state ->> 'lease_seconds')::int), 0) FROM read.history WHERE tenant_id = $1 AND kind = 'license'`

const slicesBackSelect = `SELECT first, time, stored FROM read.slices_before($1, $2, $3)`

// How many slices of a tenant one statement reads: more each time.
const (
	slicesMin = 16
	slicesMax = 512
)

// Renewals is, of leases as of a version of a tenant, what later heartbeats changed: expires_at and borrowed.
type Renewals map[string]*renewal

// RenewalsAt returns the Renewals of leases; nil means all of the tenant. Heartbeats are in no rows: it reads them back from that
// version on until each lease is found, which is as far as the longest of them ran.
func RenewalsAt(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, version uint64, leases []string) (Renewals, error) {
	rows, err := tx.Query(ctx, renewedSelect, tenant, leases, version)
	if err != nil {
		return nil, err
	}
	found, open := Renewals{}, Renewals{}
	var id string
	var r renewal
	_, err = pgx.ForEachRow(rows, []any{&id, &r.version, &r.expiresAt, &r.borrowed}, func() error {
		found[id] = new(r)
		open[id] = found[id]
		return nil
	})
	if err == nil && len(open) > 0 {
		err = readBack(ctx, tx, tenant, version, open)
	}
	return found, err
}

// Correct puts a lease right that was read as of that version.
func (r Renewals) Correct(l *api.Lease) {
	last := r[l.Id]
	if last == nil {
		return
	}
	l.ExpiresAt, l.Borrowed = last.expiresAt.UTC(), nil
	if last.borrowed {
		l.Borrowed = new(true)
	}
}

// readBack looks for the last heartbeat of each open lease up to a version.
func readBack(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, version uint64, open Renewals) error {
	var seconds int
	if err := tx.QueryRow(ctx, longestLeaseSelect, tenant).Scan(&seconds); err != nil {
		return err
	}
	longest := time.Duration(seconds) * time.Second
	before := version + 1
	for limit := slicesMin; len(open) > 0; limit = min(2*limit, slicesMax) {
		rows, err := tx.Query(ctx, slicesBackSelect, tenant, before, limit)
		if err != nil {
			return err
		}
		var time time.Time
		var stored []byte
		read, err := pgx.ForEachRow(rows, []any{&before, &time, &stored}, func() error { return heartbeatsIn(stored, version, open) })
		if err != nil {
			return err
		}
		if read.RowsAffected() == 0 {
			return nil
		}
		for id, r := range open {
			// A heartbeat of a borrowed lease counts only when it moves its end.
			if r.version >= before || r.borrowed && time.Add(longest).Before(r.expiresAt) {
				delete(open, id)
			}
		}
	}
	return nil
}

// heartbeatsIn closes the leases that a slice renews, by an event up to a version.
func heartbeatsIn(stored []byte, version uint64, open Renewals) error {
	slice, err := TenantSlice{Stored: stored}.Decode()
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(slice.Events) {
		beat, ok := e.Data.(*domain.SeatHeartbeat)
		if !ok || e.Version > version {
			continue
		}
		for _, id := range beat.Leases {
			if r := open[string(id)]; r != nil && r.version < e.Version {
				*r = renewal{version: e.Version, expiresAt: beat.ExpiresAt}
				delete(open, string(id))
			}
		}
	}
	return nil
}
