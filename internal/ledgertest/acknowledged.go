package ledgertest

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// Acknowledged is what clients were told was done. It is safe for concurrent use.
type Acknowledged struct {
	mu                 sync.Mutex
	acquired, released map[string]bool // by lease
	until              map[until]bool
}

// until is how long a lease was said to run. In milliseconds, as the ledger counts.
type until struct {
	lease  string
	millis int64
}

// Acquired notes that a client was told that it has the lease.
func (a *Acknowledged) Acquired(lease string) { a.note(&a.acquired, lease) }

// Released notes that a client was told that the lease is given back.
func (a *Acknowledged) Released(lease string) { a.note(&a.released, lease) }

// Heartbeat notes that a client was told that the lease runs until then.
func (a *Acknowledged) Heartbeat(lease string, expires time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until == nil {
		a.until = map[until]bool{}
	}
	a.until[until{lease, expires.UnixMilli()}] = true
}

func (a *Acknowledged) note(where *map[string]bool, lease string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if *where == nil {
		*where = map[string]bool{}
	}
	(*where)[lease] = true
}

// Copy returns what was noted so far.
func (a *Acknowledged) Copy() *Acknowledged {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &Acknowledged{acquired: maps.Clone(a.acquired), released: maps.Clone(a.released), until: maps.Clone(a.until)}
}

// Heartbeats returns how many heartbeats were acknowledged.
func (a *Acknowledged) Heartbeats() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.until)
}

// Counts returns how many acquires and releases were acknowledged.
func (a *Acknowledged) Counts() (acquired, released int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.acquired), len(a.released)
}

// VerifyJournal reports what CheckJournal finds as errors of the test.
func VerifyJournal(ctx context.Context, t testing.TB, store eventstore.Store, p eventstore.Partition, acked *Acknowledged, seats int) {
	t.Helper()
	for _, broken := range CheckJournal(ctx, store, p, acked, seats) {
		t.Error(broken)
	}
}

// CheckJournal folds a partition whose tenants have that many seats in all, and returns whatever was acknowledged and is
// not there exactly once, every broken chain, a seat that was sold twice, and a holder whom the directory does not know.
func CheckJournal(ctx context.Context, store eventstore.Store, p eventstore.Partition, acked *Acknowledged, seats int) (broken []error) {
	found := func(format string, args ...any) { broken = append(broken, fmt.Errorf(format, args...)) }
	last, err := store.Journal(p).Last(ctx)
	if err != nil {
		found("last: %w", err)
		return broken
	}
	acquired, released, runs := map[string]int{}, map[string]int{}, map[until]bool{}
	holders := map[domain.TenantID][]domain.Pseudonym{}
	active, versions := map[domain.LeaseID]bool{}, map[domain.TenantID]uint64{}
	// The fold itself checks the chain of the partition and that of the tenant, and that no seat is sold twice.
	err = eventstore.NewState().FoldUpTo(ctx, store.Journal(p), last, func(at eventstore.Checkpoint, c eventstore.Commit) {
		slices, err := c.Decode()
		if err != nil {
			found("commit %d: %w", at.Seq, err)
		}
		for _, s := range slices {
			for _, e := range s.Events {
				if e.Tenant != "" && e.Version != versions[e.Tenant]+1 {
					found("version %d of %s follows %d", e.Version, e.Tenant, versions[e.Tenant])
				}
				versions[e.Tenant] = e.Version
				switch e := e.Data.(type) {
				case *domain.SeatAcquired:
					acquired[string(e.Lease)]++
					holders[s.Tenant] = append(holders[s.Tenant], e.User, e.Machine)
					active[e.Lease] = true
					runs[until{string(e.Lease), e.ExpiresAt.UnixMilli()}] = true
				case *domain.SeatHeartbeat:
					for _, lease := range e.Leases {
						runs[until{string(lease), e.ExpiresAt.UnixMilli()}] = true
					}
				case *domain.SeatReleased:
					released[string(e.Lease)]++
					delete(active, e.Lease)
				case *domain.SeatExpired:
					delete(active, e.Lease)
				}
				if len(active) > seats {
					found("%d leases active at commit %d, %d seats", len(active), at.Seq, seats)
				}
			}
		}
	})
	if err != nil {
		found("fold: %w", err)
	}
	directory := eventstore.NewDirectory(store.Directory(p))
	if err := directory.Load(ctx); err != nil {
		found("load the directory: %w", err)
		return broken
	}
	for tenant, pseudonyms := range holders {
		for _, p := range pseudonyms {
			if directory.Text(tenant, p) == "" {
				found("%s has %s in the journal, and the directory has no name for it", tenant, p)
			}
		}
	}
	check := func(what string, told map[string]bool, stored map[string]int) {
		for lease := range told {
			if stored[lease] != 1 {
				found("the %s of %s was acknowledged and is in the journal %d times", what, lease, stored[lease])
			}
		}
		for lease, n := range stored {
			if n != 1 {
				found("the %s of %s is in the journal %d times", what, lease, n)
			}
		}
	}
	acked.mu.Lock()
	defer acked.mu.Unlock()
	check("acquire", acked.acquired, acquired)
	check("release", acked.released, released)
	for told := range acked.until {
		if !runs[told] {
			found("the heartbeat of %s until %v was acknowledged and is not in the journal", told.lease, time.UnixMilli(told.millis).UTC())
		}
	}
	return broken
}
