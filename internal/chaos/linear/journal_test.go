package linear

import (
	"context"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// journal is what a partition holds, in order.
type journal struct {
	Order
	last    eventstore.Checkpoint
	epochs  int
	expired int
	active  map[domain.LeaseID]bool
}

// A rank is the sequence of a commit and the index of an event in it.
func rankOf(seq uint64, index int) int64 { return int64(seq)<<20 | int64(index) }

// readJournal reads a partition, and checks what no answer tells: that no lease ends before its last acknowledged time by
// the ledger's own clock, nor before a heartbeat interval has passed since the last take-over, and that time never runs
// backwards.
func readJournal(ctx context.Context, t testing.TB, store eventstore.Store, p eventstore.Partition, lease time.Duration) *journal {
	t.Helper()
	last, err := store.Journal(p).Last(ctx)
	if err != nil {
		t.Fatal(err)
	}
	directory := eventstore.NewDirectory(store.Directory(p))
	if err := directory.Load(ctx); err != nil {
		t.Fatal(err)
	}
	j := &journal{
		Order:  Order{Acquired: map[string]int64{}, Released: map[string]int64{}, Denied: map[string][]int64{}},
		active: map[domain.LeaseID]bool{},
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
					j.Acquired[string(d.Lease)] = rank
					until[d.Lease], j.active[d.Lease] = d.ExpiresAt, true
				case *domain.SeatHeartbeat:
					for _, id := range d.Leases {
						until[id] = d.ExpiresAt
					}
				case *domain.SeatDenied:
					holder := directory.Text(s.Tenant, d.User)
					j.Denied[holder] = append(j.Denied[holder], rank)
				case *domain.SeatReleased:
					j.Released[string(d.Lease)] = rank
					delete(j.active, d.Lease)
				case *domain.SeatExpired:
					if e.Time.Before(until[d.Lease]) || e.Time.Before(epoch.Add(lease/3)) {
						t.Errorf("commit %d: %s ended at %v; it ran until %v, and a writer took over at %v", at.Seq, d.Lease, e.Time, until[d.Lease], epoch)
					}
					j.expired++
					delete(j.active, d.Lease)
				}
			}
		}
	})
	if err != nil {
		t.Errorf("fold: %v", err)
	}
	return j
}
