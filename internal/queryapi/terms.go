package queryapi

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/internal/timeline"
	"github.com/coditect-ai/license-ledger/projections"
)

// terms reads the parameter q, a query of the timeline with some keys.
func (p *params) terms(keys []timeline.Key) []timeline.Term {
	terms, err := timeline.Parse(p.text("q"), keys)
	var wrong *timeline.Error
	if errors.As(err, &wrong) {
		p.invalid("q", "q, "+wrong.Error())
	}
	return terms
}

// whereTerms adds what terms ask for, to a statement about read.audit_entries e of one tenant. What has to be looked up for
// it is, so that the statement reads an index in its order.
func whereTerms(ctx context.Context, tx pgx.Tx, where *conditions, tenant domain.TenantID, terms []timeline.Term) error {
	return where.combine(terms, timeline.Keys, func(c *conditions, t timeline.Term) error { return whereTerm(ctx, tx, c, tenant, t) })
}

// combine adds the conditions of terms, of which one adds that of each: those of one key are alternatives, those with a minus
// exclude.
func (c *conditions) combine(terms []timeline.Term, keys []timeline.Key, one func(*conditions, timeline.Term) error) error {
	for _, key := range keys {
		of := conditions{args: c.args}
		for _, t := range terms {
			if t.Key != key {
				continue
			}
			if err := one(&of, t); err != nil {
				return err
			}
			if last := len(of.parts) - 1; t.Not {
				c.parts = append(c.parts, "NOT ("+of.parts[last]+")")
				of.parts = of.parts[:last]
			}
		}
		if c.args = of.args; len(of.parts) > 0 {
			c.parts = append(c.parts, "("+strings.Join(of.parts, " OR ")+")")
		}
	}
	return nil
}

// whereTerm adds one condition. Words of partial indexes stand in the text: a plan for any argument could not use them.
func whereTerm(ctx context.Context, tx pgx.Tx, where *conditions, tenant domain.TenantID, t timeline.Term) error {
	switch t.Key {
	case timeline.Type:
		whereType(where, t)
	case timeline.Actor:
		whereActor(where, t)
	case timeline.License:
		where.and(`e.license_id = ? AND e.license_id <> ''`, t.Value)
	case timeline.User:
		return whereAbout(ctx, tx, where, `e."user"`, tenant, eventstore.UserName, t.Value)
	case timeline.Machine:
		return whereAbout(ctx, tx, where, `e.machine`, tenant, eventstore.MachineName, t.Value)
	case timeline.Feature:
		where.and(featureOf, t.Value)
	case timeline.Lease:
		return whereLease(ctx, tx, where, tenant, t.Value)
	case timeline.Before:
		return whereBetween(ctx, tx, where, `e.version`, tenant, time.Time{}, t.Time)
	case timeline.After:
		return whereBetween(ctx, tx, where, `e.version`, tenant, t.Time, time.Time{})
	}
	return nil
}

// featureOf has an index in the order of the versions: so the entries of one feature are read by it, and not looked for among all.
const featureOf = `EXISTS (SELECT FROM read.audit_entries_of_feature f WHERE f.tenant_id = e.tenant_id AND f.feature = ? AND f.version = e.version)`

// whereAbout adds that a column has a pseudonym of a text, where it has any.
func whereAbout(ctx context.Context, tx pgx.Tx, where *conditions, column string, tenant domain.TenantID, kind eventstore.NameKind, text string) error {
	pseudonyms, err := pseudonymsOf(ctx, tx, tenant, kind, text)
	if err == nil {
		where.and(oneOf(column, len(pseudonyms))+` AND `+column+` <> ''`, argOf(pseudonyms)...)
	}
	return err
}

// whereType adds a type, which is one that the program knows, or the begin of some.
func whereType(where *conditions, t timeline.Term) {
	switch {
	case !t.Family:
		where.and(`e.type = '` + t.Value + `'`)
	case t.Value == "ai.coditect.seat.":
		where.and(`e.type LIKE 'ai.coditect.seat.%'`)
	default:
		where.and(`e.type LIKE '` + t.Value + `%' AND NOT e.traffic`)
	}
}

func whereActor(where *conditions, t timeline.Term) {
	switch {
	case t.Family:
		where.and(`starts_with(e.actor, ?)`, t.Value)
	case projections.IsProgram(t.Value):
		where.and(`e.actor = ?`, t.Value)
	default:
		where.and(`e.actor = ? AND NOT e.traffic`, t.Value)
	}
}

const leaseRangeSelect = `
	SELECT license_id, fence, CASE WHEN upper_inf(held) THEN NULL ELSE upper(held) END
	FROM read.leases WHERE tenant_id = $1 AND lease_id = $2`

// whereLease adds what happened to a lease: among the events of its license while it lasted, those that name it, and the
// one that ended it, which may have ended others as well without naming any.
func whereLease(ctx context.Context, tx pgx.Tx, where *conditions, tenant domain.TenantID, id string) error {
	var license string
	var fence int64
	var ended *int64
	err := tx.QueryRow(ctx, leaseRangeSelect, tenant, id).Scan(&license, &fence, &ended)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		where.and(`false`)
		return nil
	case err != nil:
		return err
	}
	const named = `e.license_id = ? AND e.license_id <> '' AND e.version >= ? AND `
	if ended == nil {
		where.and(named+`strpos(e.event, ?) > 0`, license, fence, `"`+id+`"`)
	} else {
		where.and(named+`e.version <= ? AND (e.version = ? OR strpos(e.event, ?) > 0)`, license, fence, *ended, *ended, `"`+id+`"`)
	}
	return nil
}

// versionBefore returns the version of a tenant up to which its events are before an instant.
func versionBefore(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, at time.Time) (version int64, err error) {
	err = tx.QueryRow(ctx, `SELECT read.version_before($1, $2)`, tenant, at).Scan(&version)
	return version, err
}

// whereBetween adds that a column with versions of a tenant is of events from an instant up to before another; zero is open.
func whereBetween(ctx context.Context, tx pgx.Tx, where *conditions, column string, tenant domain.TenantID, from, to time.Time) error {
	for _, end := range []struct {
		at        time.Time
		condition string
	}{{from, column + ` > ?`}, {to, column + ` <= ?`}} {
		if end.at.IsZero() {
			continue
		}
		version, err := versionBefore(ctx, tx, tenant, end.at)
		if err != nil {
			return err
		}
		where.and(end.condition, version)
	}
	return nil
}

const pseudonymsSelect = `SELECT pseudonym FROM read.directory WHERE tenant_id = $1 AND kind = $2 AND text = $3`

// pseudonymsOf returns the pseudonyms of a text, and the text itself when it may be one: of somebody who was forgotten.
func pseudonymsOf(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, kind eventstore.NameKind, text string) ([]string, error) {
	rows, err := tx.Query(ctx, pseudonymsSelect, tenant, kind, text)
	if err != nil {
		return nil, err
	}
	pseudonyms, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if strings.HasPrefix(text, "u_") || strings.HasPrefix(text, "m_") {
		pseudonyms = append(pseudonyms, text)
	}
	return pseudonyms, err
}

// oneOf returns that a column is one of n values, the argument of which argOf returns. An index gives the rows of one value
// in order.
func oneOf(column string, n int) string {
	switch n {
	case 0:
		return `false`
	case 1:
		return column + ` = ?`
	}
	return column + ` = ANY(?)`
}

func argOf(values []string) []any {
	switch len(values) {
	case 0:
		return nil
	case 1:
		return []any{values[0]}
	}
	return []any{values}
}

// oneTenant returns the tenant that terms of the audit are about; empty when they are about several.
//
// Errors: 400 naming q, for a term that has a meaning within one tenant only.
func oneTenant(terms []timeline.Term) (domain.TenantID, error) {
	var tenants []domain.TenantID
	for _, t := range terms {
		if t.Key == timeline.Tenant && !t.Not {
			tenants = append(tenants, domain.TenantID(t.Value))
		}
	}
	if len(tenants) == 1 {
		return tenants[0], nil
	}
	for _, t := range terms {
		switch t.Key {
		case timeline.License, timeline.Lease, timeline.User, timeline.Machine, timeline.Feature:
			wrong := timeline.Error{At: t.At, Detail: string(t.Key) + ": has a meaning within one tenant; add one, as in tenant:acme."}
			return "", serve.Invalid("q", "q, "+wrong.Error())
		}
	}
	return "", nil
}

// whereAllTerms adds what terms ask for, to a statement about read.audit_entries e of several tenants.
func whereAllTerms(where *conditions, terms []timeline.Term) {
	_ = where.combine(terms, timeline.AuditKeys, func(c *conditions, t timeline.Term) error {
		switch t.Key {
		case timeline.Type:
			whereType(c, t)
		case timeline.Actor:
			whereActor(c, t)
		case timeline.Before:
			c.and(`e.time < ?`, t.Time)
		case timeline.After:
			c.and(`e.time >= ?`, t.Time)
		case timeline.Tenant:
			c.and(`e.tenant_id = ?`, t.Value)
		}
		return nil
	})
}
