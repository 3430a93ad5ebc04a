package projections

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// history keeps read.history: what was true of each tenant, license and member, and from which version of the tenant to which. A
// change ends one row and begins the next. Leases are not here: their own rows say when they were held.
type history struct{}

// Name implements Projection.
func (history) Name() string { return "history" }

// Kinds of things in read.history.
const (
	historyOfTenant  = "tenant" // its id is empty
	historyOfLicense = "license"
	historyOfMember  = "member" // its id is the pseudonym: who is forgotten has no name here either
)

// historyInsert merges each change into what was true before it: in this batch, or in the row that is still true.
const historyInsert = `
	WITH changes AS (
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::jsonb[])
			AS c (tenant_id, kind, id, version, at, state)
	), before AS (
		UPDATE read.history h
		SET until_version = c.version, until_at = c.at
		FROM (SELECT DISTINCT ON (tenant_id, kind, id) * FROM changes ORDER BY tenant_id, kind, id, version) AS c
		WHERE h.tenant_id = c.tenant_id AND h.kind = c.kind AND h.id = c.id AND h.until_version IS NULL
		RETURNING h.tenant_id, h.kind, h.id, h.version, h.at, h.state
	), merged AS (
		SELECT tenant_id, kind, id, version, at, lead(version) OVER one AS until_version, lead(at) OVER one AS until_at,
			read.merged(state) OVER one AS state
		FROM (SELECT * FROM before UNION ALL SELECT * FROM changes) AS c
		WINDOW one AS (PARTITION BY tenant_id, kind, id ORDER BY version)
	)
	INSERT INTO read.history (tenant_id, kind, id, version, at, until_version, until_at, state)
	SELECT m.* FROM merged m JOIN changes c USING (tenant_id, kind, id, version)`

// Apply implements Projection.
func (history) Apply(b *Batch, q *pgx.Batch) error {
	var tenants, kinds, ids []string
	var versions []uint64
	var times []time.Time
	var states [][]byte
	for _, e := range b.Events() {
		kind, id, changed, err := historyOf(e)
		if err != nil {
			return err
		}
		if kind == "" {
			continue
		}
		state, err := json.Marshal(changed)
		if err != nil {
			return err
		}
		tenants, kinds, ids = append(tenants, string(e.Tenant)), append(kinds, kind), append(ids, id)
		versions, times, states = append(versions, e.Version), append(times, e.Time), append(states, state)
	}
	change(q, "history", len(states), historyInsert, tenants, kinds, ids, versions, times, states)
	return nil
}

// historyOf returns what an event changes: of what, and the fields that are different from it on. The kind is empty when the
// event is in no history.
func historyOf(event *eventstore.Event) (kind, id string, changed fields, err error) {
	switch e := event.Data.(type) {
	case *domain.TenantCreated:
		return historyOfTenant, "", fields{"name": clean(e.Name), "status": domain.TenantActive}, nil
	case *domain.TenantRenamed:
		return historyOfTenant, "", fields{"name": clean(e.Name)}, nil
	case *domain.TenantSuspended:
		return historyOfTenant, "", fields{"status": domain.TenantOnSuspense}, nil
	case *domain.TenantReinstated:
		return historyOfTenant, "", fields{"status": domain.TenantActive}, nil
	case *domain.LicenseIssued:
		changed, err := licenseState(clean(e.Product), domain.LicenseActive, e.Seats, e.Policy)
		maps.Copy(changed, transferOf(event))
		return historyOfLicense, string(e.License), changed, err
	case *domain.PolicyChanged:
		changed, err := policyState(e.Policy)
		return historyOfLicense, string(e.License), changed, err
	case *domain.LicenseResized:
		return historyOfLicense, string(e.License), fields{"seats": e.Seats}, nil
	case *domain.LicenseRenewed:
		return historyOfLicense, string(e.License), fields{"expires_at": present(e.ExpiresAt)}, nil
	case *domain.TrialConverted:
		return historyOfLicense, string(e.License), fields{"trial": nil}, nil
	case *domain.LicenseSuspended:
		return historyOfLicense, string(e.License), fields{"status": domain.LicenseOnSuspense}, nil
	case *domain.LicenseReinstated:
		return historyOfLicense, string(e.License), fields{"status": domain.LicenseActive}, nil
	case *domain.LicenseRevoked:
		changed := fields{"status": domain.LicenseOver}
		maps.Copy(changed, transferOf(event))
		return historyOfLicense, string(e.License), changed, nil
	case *domain.LicenseTransferStarted:
		return historyOfLicense, string(e.License), transferOf(event), nil
	case *domain.LicenseTransferCancelled:
		return historyOfLicense, string(e.License), transferOf(event), nil
	case *domain.LicenseTransferCompleted:
		return historyOfLicense, string(e.License), transferOf(event), nil
	case *domain.MemberInvited:
		return historyOfMember, clean(e.User), memberState(e.Role, false), nil
	case *domain.MemberRoleChanged:
		return historyOfMember, clean(e.User), fields{"role": e.Role}, nil
	case *domain.MemberRemoved:
		return historyOfMember, clean(e.User), fields{"status": api.MemberStatusRemoved}, nil
	}
	return "", "", nil, nil
}

// licenseState is all that is true of a license.
func licenseState(product string, status domain.LicenseStatus, seats int, p domain.Policy) (fields, error) {
	all, err := policyState(p)
	if err == nil {
		all["product"], all["status"], all["seats"] = product, status, seats
	}
	return all, err
}

// memberState is all that is true of a member.
func memberState(role domain.Role, removed bool) fields {
	status := api.MemberStatusMember
	if removed {
		status = api.MemberStatusRemoved
	}
	return fields{"role": role, "status": status}
}

// policyState is every field of a policy by its name in events; nil where it has the default.
func policyState(p domain.Policy) (fields, error) {
	text, err := policyJSON(p)
	all := fields{}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	for _, name := range policyNames {
		if _, said := all[name]; !said {
			all[name] = nil
		}
	}
	return all, err
}

var policyNames = func() (names []string) {
	for i := range reflect.TypeFor[domain.Policy]().NumField() {
		name, _, _ := strings.Cut(reflect.TypeFor[domain.Policy]().Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}()
