package projections

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
)

// TenantColumns is a select list for ScanTenant, of read.tenants t.
const TenantColumns = `t.tenant_id, t.name, t.status, t.created_at`

// ScanTenant reads a row of TenantColumns, and what follows them into more. Times are UTC, here and below.
func ScanTenant(row pgx.CollectableRow, more ...any) (api.Tenant, error) {
	var t api.Tenant
	err := row.Scan(append([]any{&t.Id, &t.Name, &t.Status, &t.CreatedAt}, more...)...)
	t.CreatedAt = t.CreatedAt.UTC()
	return t, err
}

// LicenseColumns and LicenseTables are a select list and its tables for ScanLicense; the license is l, its counts are s.
const (
	LicenseColumns = `l.license_id, l.tenant_id, l.product, s.seats, s.in_use, l.status, l.policy, l.transfer, l.issued_at,
		(SELECT jsonb_object_agg(d.pseudonym, d.text) FROM read.directory d
		WHERE d.tenant_id = l.tenant_id AND d.pseudonym IN (
			SELECT jsonb_array_elements_text(r -> 'users') FROM jsonb_array_elements(l.policy -> 'reservations') r))`
	LicenseTables = `read.licenses l JOIN read.seat_counts s ON s.tenant_id = l.tenant_id AND s.license_id = l.license_id`
)

// ScanLicense reads a row of LicenseColumns, and what follows them into more.
func ScanLicense(row pgx.CollectableRow, more ...any) (api.License, error) {
	var l api.License
	var policy, transfer []byte
	var names map[domain.Pseudonym]string // of the users in reservations
	err := row.Scan(append([]any{&l.Id, &l.Tenant, &l.Product, &l.Seats, &l.InUse, &l.Status, &policy, &transfer, &l.IssuedAt, &names}, more...)...)
	if err != nil {
		return l, err
	}
	var p domain.Policy
	if err := json.Unmarshal(policy, &p); err != nil {
		return l, fmt.Errorf("policy of %s: %w", l.Id, err)
	}
	ShowPolicy(&l, p, func(p domain.Pseudonym) string { return names[p] })
	l.IssuedAt = l.IssuedAt.UTC()
	if err := showTransferRow(&l, transfer); err != nil {
		return l, fmt.Errorf("transfer of %s: %w", l.Id, err)
	}
	return l, nil
}

// ShowPolicy sets what the API shows of a policy: all of it, with every default. text returns what a pseudonym stands for; empty
// when it was forgotten.
func ShowPolicy(l *api.License, p domain.Policy, text func(domain.Pseudonym) string) {
	l.LeaseSeconds, l.HeartbeatSeconds, l.ReviveSeconds = p.LeaseSeconds, p.SuggestedHeartbeat(), p.ReviveSeconds
	l.SeatPer, l.OnShrink = api.SeatPer(orElse(p.SeatPer, "process")), api.OnShrink(orElse(p.OnShrink, "drain"))
	l.Overage, l.OveragePercent = api.Overage(orElse(p.Overage, "none")), nil
	if p.Overage == domain.OveragePercent {
		l.OveragePercent = &p.OveragePercent
	}
	l.MaxPerUser, l.MaxPerMachine = p.MaxPerUser, p.MaxPerMachine
	l.Reservations = []api.Reservation{}
	for _, r := range p.Reservations {
		shown := api.Reservation{Name: r.Name, Users: []string{}, Seats: r.Seats, Priority: &r.Priority}
		for _, user := range r.Users {
			if name := text(user); name != "" {
				shown.Users = append(shown.Users, name)
			}
		}
		if forgotten := len(r.Users) - len(shown.Users); forgotten > 0 {
			shown.Forgotten = &forgotten
		}
		slices.Sort(shown.Users)
		l.Reservations = append(l.Reservations, shown)
	}
	l.BorrowDays, l.BorrowMax, l.BorrowLowWater = p.BorrowDays, p.BorrowMax, p.BorrowLowWater
	l.Features = append([]string{}, p.Features...)
	l.StartsAt, l.ExpiresAt, l.GraceDays = present(p.StartsAt), present(p.ExpiresAt), p.GraceDays
	l.Trial = p.Trial
}

// MemberColumns and MemberTables are a select list and its tables for ScanMember; the member is m.
const (
	MemberColumns = `m."user", coalesce(d.text, ''), m.role, CASE WHEN m.removed_at IS NULL THEN 'member' ELSE 'removed' END`
	MemberTables  = `read.members m` + memberNames
	memberNames   = ` LEFT JOIN read.directory d ON d.tenant_id = m.tenant_id AND d.pseudonym = m."user"`
)

// ScanMember reads a row of MemberColumns, and what follows them into more.
func ScanMember(row pgx.CollectableRow, more ...any) (api.Member, error) {
	var m api.Member
	return m, row.Scan(append([]any{&m.Id, &m.User, &m.Role, &m.Status}, more...)...)
}

// present returns a time, or nil for none.
func present(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

// LeaseColumns and LeaseTables are a select list and its tables for ScanLease; the lease is l. The names of
// a commit are read before its events, so one that is not there was forgotten.
const (
	LeaseColumns = `l.lease_id, coalesce(l.moved_fence, l.fence), l.license_id, coalesce(u.text, ''), coalesce(m.text, ''), p.text,
		u.text IS NULL, m.text IS NULL, p.text IS NULL AND l.process <> '',
		l.state, l.overage, l.borrowed, l.acquired_at, l.expires_at, l.ended_at`
	LeaseTables = `read.leases l` + leaseNames
	leaseNames  = `
		LEFT JOIN read.directory u ON u.tenant_id = l.tenant_id AND u.pseudonym = l."user"
		LEFT JOIN read.directory m ON m.tenant_id = l.tenant_id AND m.pseudonym = l.machine
		LEFT JOIN read.directory p ON p.tenant_id = l.tenant_id AND p.pseudonym = l.process`
)

// forgottenNames says in a lease which of its names were forgotten; nil: none.
func forgottenNames(user, machine, process bool) *[]api.NameKind {
	var kinds []api.NameKind
	if user {
		kinds = append(kinds, api.NameOfUser)
	}
	if machine {
		kinds = append(kinds, api.NameOfMachine)
	}
	if process {
		kinds = append(kinds, api.NameOfProcess)
	}
	if kinds == nil {
		return nil
	}
	return &kinds
}

// ShowLease is what the API shows of a lease. text returns what a pseudonym stands for; empty when it was forgotten.
func ShowLease(l domain.Lease, text func(domain.Pseudonym) string) api.Lease {
	shown := api.Lease{
		Id: string(l.ID), Fence: int64(l.Fence), License: string(l.License), State: api.LeaseState(l.State),
		User: text(l.Holder.User), Machine: text(l.Holder.Machine), AcquiredAt: l.AcquiredAt, ExpiresAt: l.ExpiresAt, EndedAt: present(l.EndedAt),
	}
	process := text(l.Holder.Process)
	if process != "" {
		shown.Process = &process
	}
	shown.Forgotten = forgottenNames(shown.User == "", shown.Machine == "", process == "" && l.Holder.Process != "")
	if l.Overage {
		shown.Overage = &l.Overage
	}
	if l.Borrowed {
		shown.Borrowed = &l.Borrowed
	}
	return shown
}

// ScanLease reads a row of LeaseColumns, and what follows them into more.
func ScanLease(row pgx.CollectableRow, more ...any) (api.Lease, error) {
	var l api.Lease
	var overage, borrowed bool
	var forgotten [3]bool
	err := row.Scan(append([]any{
		&l.Id, &l.Fence, &l.License, &l.User, &l.Machine, &l.Process, &forgotten[0], &forgotten[1], &forgotten[2], &l.State, &overage, &borrowed, &l.AcquiredAt, &l.ExpiresAt, &l.EndedAt,
	}, more...)...)
	l.Forgotten = forgottenNames(forgotten[0], forgotten[1], forgotten[2])
	if overage {
		l.Overage = &overage
	}
	if borrowed {
		l.Borrowed = &borrowed
	}
	l.AcquiredAt, l.ExpiresAt = l.AcquiredAt.UTC(), l.ExpiresAt.UTC()
	if l.EndedAt != nil {
		*l.EndedAt = l.EndedAt.UTC()
	}
	return l, err
}

// Pseudonyms returns those that events hold, without repetitions. Events are as stored.
func Pseudonyms[E ~[]byte](events []E) ([]domain.Pseudonym, error) {
	var found ordered[domain.Pseudonym, struct{}]
	for _, raw := range events {
		var event struct {
			Type string
			Data json.RawMessage
		}
		if err := json.Unmarshal(raw, &event); err != nil {
			return nil, err
		}
		data := domain.NewEvent(event.Type)
		if data == nil {
			continue
		}
		if err := json.Unmarshal(event.Data, data); err != nil {
			return nil, err
		}
		for _, p := range domain.Pseudonyms(data) {
			found.at(p)
		}
	}
	return found.keys, nil
}
