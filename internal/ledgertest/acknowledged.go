package ledgertest

import (
	"context"
	"sync"
	"testing"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// Acknowledged is what clients were told was done. It is safe for concurrent use.
type Acknowledged struct {
	mu                 sync.Mutex
	acquired, released map[string]bool // by lease
}

// Acquired notes that a client was told that it has the lease.
func (a *Acknowledged) Acquired(lease string) { a.note(&a.acquired, lease) }

// Released notes that a client was told that the lease is given back.
func (a *Acknowledged) Released(lease string) { a.note(&a.released, lease) }

func (a *Acknowledged) note(where *map[string]bool, lease string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if *where == nil {
		*where = map[string]bool{}
	}
	(*where)[lease] = true
}

// Counts returns how many acquires and releases were acknowledged.
func (a *Acknowledged) Counts() (acquired, released int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.acquired), len(a.released)
}

// VerifyJournal folds a partition whose tenants have one license of that many seats at most, and reports whatever was
// acknowledged and is not there exactly once, every broken chain, and a seat that was sold twice.
func VerifyJournal(ctx context.Context, t testing.TB, store eventstore.Store, p eventstore.Partition, acked *Acknowledged, seats int) {
	t.Helper()
	last, err := store.Journal(p).Last(ctx)
	if err != nil {
		t.Fatal(err)
	}
	acquired, released := map[string]int{}, map[string]int{}
	active, versions := map[domain.LeaseID]bool{}, map[domain.TenantID]uint64{}
	// The fold itself checks the chain of the partition and that of the tenant, and that no seat is sold twice.
	err = eventstore.NewState().FoldUpTo(ctx, store.Journal(p), last, func(at eventstore.Checkpoint, c eventstore.Commit) {
		slices, err := c.Decode()
		if err != nil {
			t.Errorf("commit %d: %v", at.Seq, err)
		}
		for _, s := range slices {
			for _, e := range s.Events {
				if e.Tenant != "" && e.Version != versions[e.Tenant]+1 {
					t.Errorf("version %d of %s follows %d", e.Version, e.Tenant, versions[e.Tenant])
				}
				versions[e.Tenant] = e.Version
				switch e := e.Data.(type) {
				case *domain.SeatAcquired:
					acquired[string(e.Lease)]++
					active[e.Lease] = true
				case *domain.SeatReleased:
					released[string(e.Lease)]++
					delete(active, e.Lease)
				case *domain.SeatExpired:
					delete(active, e.Lease)
				}
				if len(active) > seats {
					t.Errorf("%d leases active at commit %d, %d seats", len(active), at.Seq, seats)
				}
			}
		}
	})
	if err != nil {
		t.Errorf("fold: %v", err)
	}
	check := func(what string, told map[string]bool, stored map[string]int) {
		for lease := range told {
			if stored[lease] != 1 {
				t.Errorf("the %s of %s was acknowledged and is in the journal %d times", what, lease, stored[lease])
			}
		}
		for lease, n := range stored {
			if n != 1 {
				t.Errorf("the %s of %s is in the journal %d times", what, lease, n)
			}
		}
	}
	acked.mu.Lock()
	defer acked.mu.Unlock()
	check("acquire", acked.acquired, acquired)
	check("release", acked.released, released)
}
