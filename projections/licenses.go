package projections

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
)

// licenses keeps read.licenses: one row per license with its policy. How many seats it has and uses is in
// read.seat_counts.
type licenses struct{}

// Name implements Projection.
func (licenses) Name() string { return "licenses" }

const licensesInsert = `
	INSERT INTO read.licenses (tenant_id, license_id, product, status, lease_seconds, seat_per, policy, transfer, issued_at)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::jsonb[], $8::jsonb[], $9::timestamptz[])`

// Null means unchanged. A patch changes single fields of the policy.
const licensesUpdate = `
	UPDATE read.licenses l
	SET status = coalesce(c.status, l.status), lease_seconds = coalesce(c.lease_seconds, l.lease_seconds),
		seat_per = coalesce(c.seat_per, l.seat_per), policy = coalesce(c.policy, l.policy) || coalesce(c.patch, '{}'),
		transfer = l.transfer || c.transfer
	FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::jsonb[], $7::jsonb[], $8::jsonb[])
		AS c (tenant_id, license_id, status, lease_seconds, seat_per, policy, patch, transfer)
	WHERE l.tenant_id = c.tenant_id AND l.license_id = c.license_id`

type licenseChange struct {
	issued   *domain.LicenseIssued
	issuedAt time.Time
	status   *string
	policy   *domain.Policy // all of it
	patch    fields         // of the policy that is there
	transfer fields         // of what is there
}

// Apply implements Projection.
func (licenses) Apply(b *Batch, q *pgx.Batch) error {
	var changes ordered[licenseKey, licenseChange]
	// patch changes one field: of the policy of this batch, or of the one that is there.
	patch := func(c *licenseChange, field string, value any, in func(*domain.Policy)) {
		if c.policy != nil {
			policy := *c.policy
			in(&policy)
			c.policy = &policy
			return
		}
		if c.patch == nil {
			c.patch = fields{}
		}
		c.patch[field] = value
	}
	for _, event := range b.Events() {
		at := func(id domain.LicenseID) *licenseChange { return changes.at(licenseKey{event.Tenant, id}) }
		if moved := transferOf(event); moved != nil {
			c := at(domain.LicenseID(event.Data.EventSubject()))
			if c.transfer == nil {
				c.transfer = fields{}
			}
			maps.Copy(c.transfer, moved)
		}
		status := func(id domain.LicenseID, status domain.LicenseStatus) { at(id).status = new(string(status)) }
		switch e := event.Data.(type) {
		case *domain.LicenseIssued:
			status(e.License, domain.LicenseActive)
			c := at(e.License)
			c.issued, c.issuedAt, c.policy = e, event.Time, &e.Policy
		case *domain.PolicyChanged:
			c := at(e.License)
			c.policy, c.patch = &e.Policy, nil
		case *domain.LicenseRenewed:
			patch(at(e.License), "expires_at", e.ExpiresAt, func(p *domain.Policy) { p.ExpiresAt = e.ExpiresAt })
		case *domain.TrialConverted:
			patch(at(e.License), "trial", false, func(p *domain.Policy) { p.Trial = false })
		case *domain.LicenseSuspended:
			status(e.License, domain.LicenseOnSuspense)
		case *domain.LicenseReinstated:
			status(e.License, domain.LicenseActive)
		case *domain.LicenseRevoked:
			status(e.License, domain.LicenseOver)
		}
	}
	type columns struct {
		tenants, ids, products []string
		status, seatPer        []*string
		leaseSeconds           []*int
		policies, patches      [][]byte
		transfers              [][]byte
		issuedAt               []time.Time
	}
	var issued, changed columns
	for key, c := range changes.all() {
		into := &changed
		if c.issued != nil {
			into = &issued
			into.products, into.issuedAt = append(into.products, clean(c.issued.Product)), append(into.issuedAt, c.issuedAt)
		}
		var policy, patch []byte
		var err error
		var seatPer *string
		var leaseSeconds *int
		if c.policy != nil {
			seatPer, leaseSeconds = new(string(c.policy.SeatPer)), &c.policy.LeaseSeconds
			if policy, err = policyJSON(*c.policy); err != nil {
				return err
			}
		}
		if c.patch != nil {
			if patch, err = json.Marshal(c.patch); err != nil {
				return err
			}
		}
		transfer := []byte("{}")
		if c.transfer != nil {
			if transfer, err = json.Marshal(c.transfer); err != nil {
				return err
			}
		}
		into.transfers = append(into.transfers, transfer)
		into.tenants, into.ids = append(into.tenants, string(key.tenant)), append(into.ids, string(key.license))
		into.status, into.seatPer, into.leaseSeconds = append(into.status, c.status), append(into.seatPer, seatPer), append(into.leaseSeconds, leaseSeconds)
		into.policies, into.patches = append(into.policies, policy), append(into.patches, patch)
	}
	change(q, "licenses issued", len(issued.ids), licensesInsert,
		issued.tenants, issued.ids, issued.products, issued.status, issued.leaseSeconds, issued.seatPer, issued.policies, issued.transfers, issued.issuedAt)
	change(q, "licenses changed", len(changed.ids), licensesUpdate,
		changed.tenants, changed.ids, changed.status, changed.leaseSeconds, changed.seatPer, changed.policies, changed.patches, changed.transfers)
	return nil
}

// policyJSON returns a policy as a database can store it.
func policyJSON(p domain.Policy) ([]byte, error) {
	features := make([]string, len(p.Features))
	for i, f := range p.Features {
		features[i] = clean(f)
	}
	if p.Features = nil; len(features) > 0 {
		p.Features = features
	}
	if len(p.Reservations) > 0 {
		p.Reservations = shownReservations(p.Reservations)
	}
	return json.Marshal(p)
}
