package domain

import "slices"

// TenantID names a customer, for example "acme". Chosen by the operator; see ValidTenantID.
type TenantID string

// LicenseID names one license of a tenant: "lic_…".
type LicenseID string

// LeaseID names one holder's hold on one seat: "lse_…". A new acquire is a new lease.
type LeaseID string

// KeyID is the public part of a key: of a license, or of a tenant's people.
type KeyID string

// Pseudonym stands for a piece of clear text (a user, a machine, a process) that events must not hold. The directory
// maps it back, as long as the person was not forgotten.
type Pseudonym string

// Pseudonyms returns those that an event holds; one may come twice.
func Pseudonyms(event Event) []Pseudonym {
	var found []Pseudonym
	switch e := event.(type) {
	case *SeatAcquired:
		found = []Pseudonym{e.User, e.Machine, e.Process}
	case *SeatDenied:
		found = []Pseudonym{e.User, e.Machine, e.Process}
	case *SeatQueued:
		found = []Pseudonym{e.User, e.Machine, e.Process}
	case *SeatDequeued:
		found = []Pseudonym{e.User, e.Machine, e.Process}
	case *LicenseIssued:
		found = e.Policy.users()
	case *TenantKeyCreated:
		found = []Pseudonym{e.Member}
	case *MemberInvited:
		found = []Pseudonym{e.User}
	case *MemberRoleChanged:
		found = []Pseudonym{e.User}
	case *MemberRemoved:
		found = []Pseudonym{e.User}
	case *PolicyChanged:
		found = slices.Concat(e.Policy.users(), e.Was.users())
	case *PersonForgotten:
		found = []Pseudonym{e.Pseudonym}
	}
	return slices.DeleteFunc(found, func(p Pseudonym) bool { return p == "" })
}

// tenantIDMax is the longest tenant id, in bytes. It has to fit in a DNS label.
const tenantIDMax = 63

// ValidTenantID reports whether id is 1 to 63 lower-case letters, digits and inner hyphens. No underscore: a license
// key "lk_<tenant>_…" must split in one way only.
func ValidTenantID(id string) bool {
	if len(id) == 0 || len(id) > tenantIDMax || id[0] == '-' || id[len(id)-1] == '-' {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Staff stands in place of a tenant where the vendor's staff reads of all tenants at once: what it read is recorded in a chain of events
// like a tenant's, that is exported and verified like one. There is no such tenant, and none can have this id.
const Staff TenantID = "_staff"

// HasChain reports whether events can be of id: of a tenant, or of Staff.
func HasChain(id TenantID) bool { return id == Staff || ValidTenantID(string(id)) }
