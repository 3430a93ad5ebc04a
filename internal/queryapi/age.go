package queryapi

import (
	"context"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// heads remembers where the journal ended, and when: by that a position has an age. Without it rows of a quiet hour would
// seem an hour old.
type heads struct {
	journal func(eventstore.Partition) eventstore.Log

	looks singleflight.Group
	mu    sync.Mutex
	seen  map[eventstore.Partition][]head // oldest first
}

// head is a look at a partition: at that time no commit after seq was stored.
type head struct {
	seq uint64
	at  time.Time
}

const (
	// headsEvery is the time between two looks at a partition, as long as somebody asks.
	headsEvery = time.Second
	// headsMax is how many looks are remembered. Rows further behind have the age of their last commit.
	headsMax = 120
	// headsWait is how long a query waits for a look. Without one its age only grows.
	headsWait = 250 * time.Millisecond
)

// look makes sure that the partitions were looked at not long ago.
func (h *heads) look(ctx context.Context, partitions []eventstore.Partition) {
	ctx, cancel := context.WithTimeout(ctx, headsWait)
	defer cancel()
	var looks errgroup.Group
	for _, p := range partitions {
		if time.Since(h.latest(p).at) < headsEvery {
			continue
		}
		looks.Go(func() error {
			// The context is that of the first who looks; whoever shares a look that failed goes on with what is known.
			_, err, _ := h.looks.Do(strconv.Itoa(int(p)), func() (any, error) {
				began := time.Now()
				seq, err := h.journal(p).Last(ctx)
				if err == nil {
					h.note(p, head{seq, began})
				}
				return nil, err
			})
			return err
		})
	}
	_ = looks.Wait() // the age says it
}

func (h *heads) latest(p eventstore.Partition) head {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seen := h.seen[p]; len(seen) > 0 {
		return seen[len(seen)-1]
	}
	return head{}
}

func (h *heads) note(p eventstore.Partition, now head) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seen = map[eventstore.Partition][]head{}
	}
	seen := h.seen[p]
	if last := len(seen) - 1; last >= 0 && seen[last].seq == now.seq {
		seen[last] = now // the later the better
		return
	}
	if len(seen) == headsMax {
		seen = seen[1:]
	}
	h.seen[p] = append(seen, now)
}

// upTo returns a time up to which rows that reflect seq are complete: everything that was stored before is in them.
// committed is the time of commit seq.
func (h *heads) upTo(p eventstore.Partition, seq uint64, committed time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	latest := committed
	for _, look := range h.seen[p] {
		if look.seq <= seq && look.at.After(latest) {
			latest = look.at
		}
	}
	return latest
}
