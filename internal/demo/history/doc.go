// Package history makes up a year of a ledger's use: some hundred tenants in their time zones, with working days, holidays,
// growth, incidents and a few whales. Benchmarks, the demo and the tests of the forecast share it.
//
// Guarantees:
//   - The same options give the same history, event by event.
//   - Everything is decided by the domain and written by eventstore.Backfill: what comes out is an ordinary ledger.
//   - Nothing is written to a ledger that has commits.
package history
