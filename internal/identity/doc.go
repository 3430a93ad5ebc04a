// Package identity knows the keys of the ledger: the operator's, those of tenants' people, and those of licenses.
//
// Guarantees: the ledger holds keyed hashes of keys only; a mistyped key is told from a wrong one without any
// look-up; comparisons take the same time whatever differs.
package identity
