// Package identity knows the keys of the ledger: the operator's, and those of licenses.
//
// Guarantees: the ledger holds keyed hashes of license keys only; a mistyped key is told from a wrong one without any
// look-up; comparisons take the same time whatever differs.
package identity
