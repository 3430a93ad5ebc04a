// Package demo brings a ledger to life: a tenant with two licenses, and a small fleet of simulated programs that acquire
// seats, heartbeat, release, crash and are denied. It is a client like any other, over HTTP.
//
// Guarantees: it changes nothing but its own tenant, and ends with its context.
package demo
