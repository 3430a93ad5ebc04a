// Command bench measures the command side over HTTP: acquire and heartbeat requests per second with an fsync before each
// answer, next to the same router and middleware answering a constant. Ratios are what counts: machines differ.
//
// The server is a process of its own, wired like ledger up but without the read models, so that the load generator's
// garbage is not its own.
package main
