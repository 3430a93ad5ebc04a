// Package linear checks that the ledger is linearizable under faults: that every history of acquires, heartbeats and
// releases which clients recorded, while processes were killed, paused and cut off and clocks jumped, can be explained by one
// license that does one thing after the other, each at some instant between the request and its answer.
//
// Model is that license; it is written from the API's promises, not from the ledger's code. The search for the
// explanation is porcupine's. What was asked and never answered may have been done at any later time, or never.
package linear
