// Package eventstoretest helps to test what builds on a journal: a ledger in memory that can be told to fail, and the
// suite that every Log must pass.
package eventstoretest
