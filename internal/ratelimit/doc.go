// Package ratelimit bounds how much one key may ask of this process, so that one customer's runaway program does not become
// everybody's outage.
//
// Guarantees:
//   - Each key has budgets of its own (access.Budget): what one does to its own budget nobody else feels.
//   - Who presents no key that this ledger made is counted by address, before anything is looked up. Whether a key was made here is
//     computed from the key alone, so made-up keys cannot fill the memory.
//   - What is kept is bounded: a budget that is whole again is forgotten.
//   - A request within its limits costs a hash, a look-up and the lock of its own bucket, and allocates nothing.
package ratelimit
