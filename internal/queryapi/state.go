package queryapi

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/internal/timeline"
	"github.com/coditect-ai/license-ledger/projections"
)

// stateLeasesMax and diffLeasesMax are the contract of State and Diff.
const (
	stateLeasesMax = 10_000
	diffLeasesMax  = 1_000
)

func (a *API) getState(w http.ResponseWriter, r *http.Request) error {
	p := paramsOf(r)
	at := a.instantOf(p, "as_of")
	if err := p.done(); err != nil {
		return err
	}
	reply := api.State{}
	now, err := a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) (err error) {
		var version uint64
		if reply.Tenant, version, err = selectTenant(ctx, tx, tenant, at); err != nil {
			return err
		}
		reply.Version = int64(version)
		if reply.Licenses, err = selectLicenses(ctx, tx, tenant, at); err != nil {
			return err
		}
		reply.Leases, err = selectActiveLeases(ctx, tx, tenant, stateLeasesMax+1, at)
		if len(reply.Leases) > stateLeasesMax {
			reply.Leases, reply.LeasesMore = reply.Leases[:stateLeasesMax], true
		}
		return err
	}, at)
	if err != nil {
		return err
	}
	reply.Position, reply.AgeSeconds = now.Position, now.AgeSeconds
	return serve.Reply(w, http.StatusOK, reply)
}

// side is one of the two states of a difference.
type side struct {
	at       api.Instant
	tenant   api.Tenant
	licenses []api.License
	held     map[string]int64 // fences of the active leases, by id
}

func (a *API) getDiff(w http.ResponseWriter, r *http.Request) error {
	p := paramsOf(r)
	from, to := a.instantOf(p, "a"), a.instantOf(p, "b")
	if from == nil {
		p.invalid("a", "a must be given: a time or a position.")
	}
	if to == nil {
		to = &instant{parameter: "b", time: time.Now()}
	}
	if err := p.done(); err != nil {
		return err
	}
	var reply api.Diff
	now, err := a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) error {
		if from.version > to.version {
			return serve.Invalid("b", "b must not be before a.")
		}
		before, err := a.sideOf(ctx, tx, tenant, from)
		if err != nil {
			return err
		}
		after, err := a.sideOf(ctx, tx, tenant, to)
		if err != nil {
			return err
		}
		reply.A, reply.B = before.at, after.at
		if reply.Tenant, err = fieldsThatDiffer(before.tenant, after.tenant); err != nil {
			return err
		}
		if reply.Licenses, err = licensesThatDiffer(before.licenses, after.licenses); err != nil {
			return err
		}
		// Times are whole milliseconds, and the timeline leaves out the instant that it goes up to.
		reply.Timeline = timeline.Link(tenant, "after", before.at.Time.Add(time.Millisecond).Format(time.RFC3339Nano),
			"before", after.at.Time.Add(time.Millisecond).Format(time.RFC3339Nano))
		if reply.Taken, err = leasesThatDiffer(ctx, tx, tenant, after.held, before.held, to); err != nil {
			return err
		}
		reply.GivenBack, err = leasesThatDiffer(ctx, tx, tenant, before.held, after.held, from)
		return err
	}, from, to)
	if err != nil {
		return err
	}
	reply.Position, reply.AgeSeconds = now.Position, now.AgeSeconds
	return serve.Reply(w, http.StatusOK, reply)
}

const heldSelect = `SELECT l.lease_id, l.fence FROM `

func (a *API) sideOf(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, at *instant) (s side, err error) {
	if err := projections.AsOf(ctx, tx, tenant, at.version); err != nil {
		return s, err
	}
	s.at = api.Instant{Version: int64(at.version), Position: a.tokens.Token(at.places...)}
	if s.at.Time, err = projections.TimeOf(ctx, tx, tenant, at.version); err != nil {
		return s, err
	}
	if s.tenant, _, err = selectTenant(ctx, tx, tenant, at); err != nil {
		return s, err
	}
	if s.licenses, err = selectLicenses(ctx, tx, tenant, at); err != nil {
		return s, err
	}
	rows, err := tx.Query(ctx, heldSelect+projections.ActiveLeaseTablesAt+` WHERE l.tenant_id = $1`, tenant)
	if err != nil {
		return s, err
	}
	s.held = map[string]int64{}
	var id string
	var fence int64
	_, err = pgx.ForEachRow(rows, []any{&id, &fence}, func() error { s.held[id] = fence; return nil })
	return s, err
}

// fieldsThatDiffer compares two objects as they are shown, field by field; nil is an object without fields.
func fieldsThatDiffer(a, b any) ([]api.FieldDiff, error) {
	var fields [2]map[string]any
	for i, v := range []any{a, b} {
		text, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(text, &fields[i])
		}
		if err != nil {
			return nil, err
		}
	}
	all := maps.Clone(fields[1])
	maps.Copy(all, fields[0])
	diffs := []api.FieldDiff{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		x, y := orNil(fields[0][name]), orNil(fields[1][name])
		if !reflect.DeepEqual(x, y) {
			diffs = append(diffs, api.FieldDiff{Field: name, A: x, B: y})
		}
	}
	return diffs, nil
}

// orNil returns nil for an empty list: it is shown as absent.
func orNil(v any) any {
	if list, ok := v.([]any); ok && len(list) == 0 {
		return nil
	}
	return v
}

// licensesThatDiffer compares the licenses of two instants. None ever goes.
func licensesThatDiffer(a, b []api.License) ([]api.LicenseDiff, error) {
	before := map[string]any{}
	for _, l := range a {
		before[l.Id] = l
	}
	diffs := []api.LicenseDiff{}
	for _, l := range b {
		was, known := before[l.Id]
		fields, err := fieldsThatDiffer(was, l)
		if err != nil {
			return nil, err
		}
		if len(fields) > 0 {
			diffs = append(diffs, api.LicenseDiff{License: l.Id, Issued: !known, Fields: fields})
		}
	}
	return diffs, nil
}

// leasesThatDiffer returns the leases of some that are not among others, as they were at the instant of some.
func leasesThatDiffer(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, some, others map[string]int64, at *instant) (d api.LeasesDiff, err error) {
	d.Items = []api.Lease{}
	var ids []string
	for id := range some {
		if _, also := others[id]; !also {
			ids = append(ids, id)
		}
	}
	if d.Count = len(ids); d.Count == 0 {
		return d, nil
	}
	slices.SortFunc(ids, func(x, y string) int { return int(some[y] - some[x]) })
	if err := projections.AsOf(ctx, tx, tenant, at.version); err != nil {
		return d, err
	}
	rows, err := tx.Query(ctx, `SELECT `+projections.LeaseColumns+` FROM `+projections.LeaseTablesAt+`
		WHERE l.tenant_id = $1 AND l.lease_id = ANY($2) ORDER BY l.fence DESC`, tenant, ids[:min(len(ids), diffLeasesMax)])
	if err != nil {
		return d, err
	}
	if d.Items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.Lease, error) { return projections.ScanLease(row) }); err != nil {
		return d, err
	}
	return d, correct(ctx, tx, tenant, d.Items, at)
}
