// Package clients tests what customers run, the Go SDK and the command line, against real ledgers.
package clients
