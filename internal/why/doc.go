// Package why says what would have let a refused acquire through.
//
// Guarantees:
//   - Every way it names was tried: the domain itself decided the same acquire again, on the same state with those changes, and
//     granted the seat.
//   - The decision is first made again without a change. What the domain does not refuse again for the recorded reason is not
//     explained.
package why
