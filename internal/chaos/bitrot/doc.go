// Package bitrot damages what a ledger stored, and checks that no damaged journal is ever taken for the truth.
package bitrot
