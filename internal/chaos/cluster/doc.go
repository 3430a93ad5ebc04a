// Package cluster holds the ledger to its promises on three nats-servers that are killed, stopped and restarted: one of
// them, the leader, two at once.
package cluster
