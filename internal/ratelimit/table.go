package ratelimit

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// bucket is what is left of one budget.
type bucket struct {
	rate *rate.Limiter // nil: of live streams
	open atomic.Int64  // live streams
}

// whole reports whether nothing of the budget is used: then having no bucket is the same.
func (b *bucket) whole(now time.Time) bool {
	if b.rate == nil {
		return b.open.Load() == 0
	}
	return b.rate.TokensAt(now) >= float64(b.rate.Burst())
}

const (
	shards = 64
	// sweepAt is how many buckets a shard has before those that are whole are dropped for the first time.
	sweepAt = 64
	// sweepPause is how long at least it is until the next sweep: a shard whose buckets are all in use is not to be swept for each newcomer.
	sweepPause = time.Second
	// shardMax is how many buckets of a shard may be in use at once. Beyond it newcomers share one.
	shardMax = 1 << 14
)

// table has a bucket for whoever used some of a budget lately. It is safe for concurrent use.
type table struct{ shards [shards]shard }

type shard struct {
	mu      sync.RWMutex
	buckets map[uint64]*bucket
	sweepAt int
	swept   time.Time
	shared  *bucket // of newcomers when the shard is full
}

func newTable() *table {
	t := &table{}
	for i := range t.shards {
		t.shards[i] = shard{buckets: map[uint64]*bucket{}, sweepAt: sweepAt}
	}
	return t
}

// get returns the bucket with this id; nil when there is none.
func (t *table) get(id uint64) *bucket {
	s := &t.shards[id%shards]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.buckets[id]
}

// add returns the bucket with this id: that which is there by now, or fresh.
func (t *table) add(id uint64, fresh *bucket, now time.Time) *bucket {
	s := &t.shards[id%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.buckets[id]; b != nil {
		return b
	}
	if len(s.buckets) >= s.sweepAt && now.Sub(s.swept) >= sweepPause {
		s.swept = now
		for id, b := range s.buckets {
			if b.whole(now) {
				delete(s.buckets, id)
			}
		}
		s.sweepAt = max(sweepAt, min(2*len(s.buckets), shardMax))
	}
	if len(s.buckets) >= shardMax {
		if s.shared == nil {
			s.shared = fresh
		}
		return s.shared
	}
	s.buckets[id] = fresh
	return fresh
}
