package access

import "slices"

// Permission is what a call needs, as in "x-permission" of api/openapi.yaml.
type Permission string

// The permissions of people. What each opens says the table.
const (
	TenantRead    Permission = "tenant.read"
	TenantManage  Permission = "tenant.manage"
	LicenseRead   Permission = "license.read"
	LicenseManage Permission = "license.manage"
	LicenseRotate Permission = "license.rotate"
	SeatOwn       Permission = "seat.own"
	SeatRead      Permission = "seat.read"
	SeatEvict     Permission = "seat.evict"
	UsageRead     Permission = "usage.read"
	TimelineRead  Permission = "timeline.read"
	StateRead     Permission = "state.read"
	ExportRead    Permission = "export.read"
	AuditRead     Permission = "audit.read"
	MemberRead    Permission = "member.read"
	MemberManage  Permission = "member.manage"
	PersonForget  Permission = "person.forget"
	KeyRead       Permission = "key.read"
	KeyManage     Permission = "key.manage"
	BillingRead   Permission = "billing.read"
	BillingManage Permission = "billing.manage"
	LedgerRead    Permission = "ledger.read"
	LedgerManage  Permission = "ledger.manage"
)

// What opens a call that is not for people. Its handler checks it.
const (
	// LicenseKey: a license key that opens the license in question.
	LicenseKey Permission = "license-key"
	// Signature: the sender's signature on the body.
	Signature Permission = "signature"
)

// Budget is which of its key's rate limits a call counts against, as in "x-budget" of api/openapi.yaml.
type Budget string

// The budgets.
const (
	Seats    Budget = "seats"    // acquire, heartbeat, release
	Commands Budget = "commands" // what else changes something
	Reads    Budget = "reads"
	Exports  Budget = "exports" // reads that cost much
	Streams  Budget = "streams" // live streams, as long as they are open
)

// Role is what a caller is: the operator, or a role in one tenant.
type Role string

// The roles.
const (
	Operator Role = "operator" // staff of the vendor; all tenants
	Owner    Role = "owner"
	Admin    Role = "admin"
	Billing  Role = "billing"
	Auditor  Role = "auditor"
	Member   Role = "member" // sees its own leases only
)

// Roles are the roles, the widest first.
var Roles = []Role{Operator, Owner, Admin, Billing, Auditor, Member}

// Row is a line of the table.
type Row struct {
	Permission Permission
	Opens      string
	// Roles that have the permission beside the operator, who has all.
	Roles []Role
}

// Table is who may do what.
var Table = []Row{
	{TenantRead, "name and status of the tenant", []Role{Owner, Admin, Billing, Auditor, Member}},
	{TenantManage, "create, rename, suspend, reinstate a tenant", nil},
	{LicenseRead, "licenses, their policies and seats in use", []Role{Owner, Admin, Billing, Auditor}},
	{LicenseManage, "issue, change, renew, convert, suspend, reinstate, revoke a license", nil},
	{LicenseRotate, "give a license another key", []Role{Owner, Admin}},
	{SeatOwn, "the list of leases; a member's: its own", []Role{Owner, Admin, Billing, Auditor, Member}},
	{SeatRead, "every lease", []Role{Owner, Admin, Billing, Auditor}},
	{SeatEvict, "take seats back", []Role{Owner, Admin}},
	{UsageRead, "usage, peaks, denials, forecasts", []Role{Owner, Admin, Billing, Auditor}},
	{TimelineRead, "events and live changes", []Role{Owner, Admin, Auditor}},
	{StateRead, "the state as of an instant, and differences", []Role{Owner, Admin, Auditor}},
	{ExportRead, "the events with their proofs, to take away", []Role{Owner, Admin, Auditor}},
	{AuditRead, "who did what, with before and after", []Role{Owner, Admin, Auditor}},
	{MemberRead, "the people of the tenant", []Role{Owner, Admin, Auditor}},
	{MemberManage, "invite, change, remove people", []Role{Owner, Admin}},
	{PersonForget, "delete a person's name for good", []Role{Owner}},
	{KeyRead, "the tenant's keys, without their secrets", []Role{Owner, Admin, Auditor}},
	{KeyManage, "create, rotate, revoke keys", []Role{Owner, Admin}},
	{BillingRead, "subscriptions and invoices", []Role{Owner, Admin, Billing, Auditor}},
	{BillingManage, "change what is paid for", []Role{Owner, Billing}},
	{LedgerRead, "partitions, projections, lag; all tenants", nil},
	{LedgerManage, "configuration, prices, rebuilds", nil},
}

// Known reports whether there is such a permission.
func (p Permission) Known() bool {
	return p == LicenseKey || p == Signature || slices.ContainsFunc(Table, func(row Row) bool { return row.Permission == p })
}

// MayGrant reports whether a role may give another to somebody, or take it: when it can do all that the other one can.
func (r Role) MayGrant(other Role) bool {
	return other != Operator && slices.Contains(Roles, other) && !slices.ContainsFunc(Table, func(row Row) bool {
		return other.May(row.Permission) && !r.May(row.Permission)
	})
}

// May reports whether a role has a permission.
func (r Role) May(p Permission) bool {
	return slices.ContainsFunc(Table, func(row Row) bool {
		return row.Permission == p && (r == Operator || slices.Contains(row.Roles, r))
	})
}
