package eventstore

import (
	"hash/fnv"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
)

// LedgerInfo is fixed when a ledger is created, and stored in it.
type LedgerInfo struct {
	ID         string    `json:"id"`         // UUIDv7
	Partitions int       `json:"partitions"` // 1 … PartitionsMax
	CreatedAt  time.Time `json:"created_at"`
}

// PartitionsMax is the largest number of partitions of a ledger; names of streams have two digits.
const PartitionsMax = 100

// PartitionOf returns where all of a tenant lives. Never change it: the journal could not be read any more.
func (l LedgerInfo) PartitionOf(tenant domain.TenantID) Partition {
	h := fnv.New64a()
	h.Write([]byte(tenant))
	return Partition(h.Sum64() % uint64(l.Partitions))
}

// All calls f for each partition in order and returns its first error.
func (l LedgerInfo) All(f func(Partition) error) error {
	for p := range l.Partitions {
		if err := f(Partition(p)); err != nil {
			return err
		}
	}
	return nil
}

// source is the CloudEvents source of the ledger's events: short, because every event carries it.
func (l LedgerInfo) source() string { return "/ledgers/" + l.ID[len(l.ID)-12:] }
