// Package projections turns the journal into rows: the read models that queries are answered from, in the schema "read"
// of Postgres. Everything in it can be dropped and is rebuilt from the journal.
//
// Guarantees:
//   - The rows of a batch of commits and the checkpoint after it commit in one transaction, the checkpoint first, as
//     compare-and-swap on ledger, sequence and hash. A crash loses both or neither, and of two projectors on one
//     partition exactly one applies each commit.
//   - Commits are applied in order, none left out and none skipped: a commit that can not be applied stops the projector
//     with its position.
//   - A journal that is not the one the checkpoint was taken from (rolled back, swapped, another ledger's) is refused
//     with eventstore.ErrChainBroken and changes no row.
//   - The clear-text names that a commit needs become visible together with it.
//
// Beside them the Archiver keeps the archive, in the schema "archive": a copy of the journal itself, which nothing here drops.
//
// Each read model is one file: which events it reads, its SQL and its rows.
package projections
