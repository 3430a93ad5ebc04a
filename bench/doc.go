// Command bench measures the command side over HTTP, with an fsync before each answer, next to peers that it builds and
// runs on the same machine: the same router and middleware answering a constant (echo), and the same HTTP handler over a
// Lua seat counter in a real Redis. Ratios are what counts: machines differ.
//
// Each server is a process of its own, wired like ledger up but without the read models, so that the load generator's
// garbage is not its own. --against compares two builds on a machine that is not quiet. How far read models and live streams are behind is measured on one that has them.
package main
