// Package queryapi answers the queries of api/openapi.yaml from the read models, and streams what changes.
//
// Guarantees:
//   - The position of an answer is read in the same snapshot as its rows: everything up to it is in the rows, and nothing
//     after it of the same partition.
//   - With Ledger-Min-Position a query answers from that position on, or refuses with projection_behind; never from before.
//   - Every answer says which position it reflects, and how old that is.
//   - A list is filtered, sorted, read page by page and exported by one mechanism (serveList); an index has each of its orders.
//   - A live reader misses nothing: whenever a change may be lost, late or out of order it gets a new snapshot.
//   - Every statement about a tenant names it (tenant_id = $1).
package queryapi
