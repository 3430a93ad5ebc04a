// Package ledgertest is for tests that look at the programs from outside: it builds them, starts and kills real processes,
// speaks the API as a client does, and checks a journal against what clients were told.
package ledgertest
