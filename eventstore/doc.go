// Package eventstore keeps the journal: the one record of what happened, from which everything else is rebuilt.
//
// A ledger has P partitions, fixed when it is created. All of a tenant lives in one of them. A partition is one Log (a
// JetStream stream) of commits; a Commit is one message of 1 or more events that are stored together or not at all.
//
// Guarantees:
//   - Commits of a partition are numbered 1, 2, 3, … and each names the hash of the one before (ReadCommits checks both):
//     a gap, a rollback or a swapped stream is found at once. Events of a tenant are numbered likewise (version) and form
//     a chain of their own (prev), which can be checked without seeing another tenant.
//   - The Writer is the single writer of its partition: it answers a command only after the commit with its events is
//     stored, and two Writers on one partition are safe, because every append names the commit it follows.
//   - Events hold no personal data but pseudonyms; the Directory maps them to clear text and can forget it.
package eventstore
