package linear

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// journal is what a partition holds, in order.
type journal struct {
	acquired, released map[string]int64 // ranks, by lease
	last               eventstore.Checkpoint
	epochs             int
	expired            int
	active             map[domain.LeaseID]domain.LicenseID
	seats              int // of each license
	inUse              map[domain.LicenseID]int
	full               map[domain.LicenseID][]Span
}

// order is what the journal says of one license.
func (j *journal) order(license string) Order {
	return Order{Acquired: j.acquired, Released: j.released, Full: j.full[domain.LicenseID(license)]}
}

// take notes that a lease began.
func (j *journal) take(license domain.LicenseID, lease domain.LeaseID, rank int64) {
	j.active[lease] = license
	if j.inUse[license]++; j.inUse[license] == j.seats {
		j.full[license] = append(j.full[license], Span{From: rank + 1, To: math.MaxInt64})
	}
}

// free notes that a lease ended.
func (j *journal) free(lease domain.LeaseID, rank int64) {
	license := j.active[lease]
	delete(j.active, lease)
	if spans := j.full[license]; j.inUse[license] == j.seats {
		spans[len(spans)-1].To = rank - 1
	}
	j.inUse[license]--
}

// A rank is the sequence of a commit and the index of an event in it, from 1 up.
func rankOf(seq uint64, index int) int64 { return (int64(seq)<<20 | int64(index)) * 2 }

// rankAt is just after everything up to a commit.
func rankAt(seq uint64) int64 { return rankOf(seq+1, 0) + 1 }

// readJournal reads a partition, and checks what no answer tells: that no lease ends before its last acknowledged time by
// the ledger's own clock, nor before a heartbeat interval has passed since the last take-over, and that time never runs
// backwards.
func readJournal(ctx context.Context, t testing.TB, store eventstore.Store, p eventstore.Partition, seats int, lease time.Duration) *journal {
	t.Helper()
	last, err := store.Journal(p).Last(ctx)
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{
		acquired: map[string]int64{}, released: map[string]int64{}, active: map[domain.LeaseID]domain.LicenseID{},
		seats: seats, inUse: map[domain.LicenseID]int{}, full: map[domain.LicenseID][]Span{},
	}
	until := map[domain.LeaseID]time.Time{}
	var epoch, now time.Time
	err = eventstore.NewState().FoldUpTo(ctx, store.Journal(p), last, func(at eventstore.Checkpoint, c eventstore.Commit) {
		j.last = at
		slices, err := c.Decode()
		if err != nil {
			t.Errorf("commit %d: %v", at.Seq, err)
		}
		index := 0
		for _, s := range slices {
			for _, e := range s.Events {
				if e.Time.Before(now) {
					t.Errorf("commit %d is of %v, after one of %v", at.Seq, e.Time, now)
				}
				now = e.Time
				index++
				rank := rankOf(at.Seq, index)
				switch d := e.Data.(type) {
				case *eventstore.WriterEpochStarted:
					epoch = e.Time
					j.epochs++
				case *domain.SeatAcquired:
					j.acquired[string(d.Lease)] = rank
					until[d.Lease] = d.ExpiresAt
					j.take(d.License, d.Lease, rank)
				case *domain.SeatHeartbeat:
					for _, id := range d.Leases {
						until[id] = d.ExpiresAt
					}
				case *domain.SeatReleased:
					j.released[string(d.Lease)] = rank
					j.free(d.Lease, rank)
				case *domain.SeatExpired:
					if e.Time.Before(until[d.Lease]) || e.Time.Before(epoch.Add(lease/3)) {
						t.Errorf("commit %d: %s ended at %v; it ran until %v, and a writer took over at %v", at.Seq, d.Lease, e.Time, until[d.Lease], epoch)
					}
					j.expired++
					j.free(d.Lease, rank)
				}
			}
		}
	})
	if err != nil {
		t.Errorf("fold: %v", err)
	}
	return j
}
