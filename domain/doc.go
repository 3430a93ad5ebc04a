// Package domain holds the rules of floating seats: what a tenant, its licenses and their leases are, which commands
// exist, when each is refused and which events it leaves.
//
// It is pure. It does no I/O, reads no clock, draws no random numbers and imports only the standard library, so that
// folding the same events always gives the same state, on any machine, years later.
//
// Guarantees:
//   - A command decides on a Tenant and a Moment only, and does not change the Tenant; Apply does.
//   - Apply never refuses: an event is a fact. It panics when the fact breaks an invariant, above all that a seat is
//     acquired only while one is free, because then the journal itself is wrong.
//   - A command repeated at once adds no events. Exceptions: each refused acquire is a fact of its own, IssueLicense issues
//     whatever new license it is given, and ExpireSeats goes on where its limit stopped it.
//   - A lease ends only by an event. Time passing changes nothing by itself.
//
// The rules as stories are in testdata/*.txt.
package domain
