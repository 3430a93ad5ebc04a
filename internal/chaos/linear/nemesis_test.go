package linear

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// nemesis does faults to a cluster: to each of its parts one after the other, to all parts at once. Every fault ends by
// itself, also when time is up.
type nemesis struct {
	*cluster
	calm time.Duration // how long a part is left alone between two faults, on average
	most time.Duration // how long a fault lasts at most

	mu     sync.Mutex
	faults map[string]int
}

// fault is one that lasts until hold returns.
type fault struct {
	kind string
	do   func(ctx context.Context, random *rand.Rand, hold func(most time.Duration))
}

// run does faults until ctx ends and all are healed. The seed decides which, when and for how long.
func (n *nemesis) run(ctx context.Context, seed uint64, rivals []fault) {
	n.faults = map[string]int{}
	parts := [][]fault{n.serverFaults(), n.serviceFaults(0), n.serviceFaults(1), n.linkFaults(0), n.linkFaults(1), rivals}
	var wg sync.WaitGroup
	for i, faults := range parts {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() { n.trouble(ctx, random, faults) })
	}
	wg.Wait()
}

// trouble does faults to one part: each of its kinds in every round, in any order.
func (n *nemesis) trouble(ctx context.Context, random *rand.Rand, faults []fault) {
	hold := func(most time.Duration) {
		wait(ctx, 100*time.Millisecond+time.Duration(random.Int64N(int64(most))))
	}
	for len(faults) > 0 {
		for _, i := range random.Perm(len(faults)) {
			wait(ctx, time.Duration(random.Int64N(int64(2*n.calm))))
			if ctx.Err() != nil || n.t.Failed() {
				return
			}
			faults[i].do(ctx, random, hold)
			n.mu.Lock()
			n.faults[faults[i].kind]++
			n.mu.Unlock()
		}
	}
}

// wait waits, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (n *nemesis) serverFaults() []fault {
	p := n.nats
	return []fault{
		{"kill nats-server", func(_ context.Context, _ *rand.Rand, hold func(time.Duration)) {
			p.kill()
			hold(n.most / 4)
			p.start()
		}},
		{"restart nats-server", func(context.Context, *rand.Rand, func(time.Duration)) {
			p.stop()
			p.start()
		}},
		{"pause nats-server", func(_ context.Context, _ *rand.Rand, hold func(time.Duration)) {
			p.process.Signal(syscall.SIGSTOP)
			hold(n.most)
			p.process.Signal(syscall.SIGCONT)
		}},
	}
}

func (n *nemesis) serviceFaults(i int) []fault {
	p := n.services[i]
	locked := func(do func(hold func(time.Duration))) func(context.Context, *rand.Rand, func(time.Duration)) {
		return func(_ context.Context, _ *rand.Rand, hold func(time.Duration)) {
			p.mu.Lock()
			defer p.mu.Unlock()
			select {
			case <-p.process.Done():
				n.t.Errorf("a command service ended by itself, with %d", p.process.ExitCode())
			default:
				do(hold)
			}
		}
	}
	return []fault{
		{"kill a command service", locked(func(hold func(time.Duration)) {
			p.kill()
			hold(n.most / 2)
			p.start()
		})},
		{"restart a command service", locked(func(func(time.Duration)) {
			p.stop()
			p.start()
		})},
		{"pause a command service", locked(func(hold func(time.Duration)) {
			p.process.Signal(syscall.SIGSTOP)
			hold(n.most)
			p.process.Signal(syscall.SIGCONT)
		})},
	}
}

func (n *nemesis) linkFaults(i int) []fault {
	link := n.links[i]
	during := func(begin func()) func(context.Context, *rand.Rand, func(time.Duration)) {
		return func(_ context.Context, _ *rand.Rand, hold func(time.Duration)) {
			begin()
			hold(n.most)
			link.Heal()
		}
	}
	return []fault{{"cut a link", during(link.Cut)}, {"silence a link", during(link.Silence)}}
}

// rivalProcess is a third command service for a while. It owns what it can get.
func (n *nemesis) rivalProcess() fault {
	p := n.service("rival", n.nats.base)
	return fault{"start a rival", func(_ context.Context, random *rand.Rand, hold func(time.Duration)) {
		p.start()
		n.setRival(p.base)
		hold(2 * n.most)
		if random.IntN(2) == 0 {
			p.kill()
		} else {
			p.stop()
		}
		n.setRival("")
	}}
}

// clockJump has a command service take all partitions over whose clock is an hour off, and jumps while it serves.
func (n *nemesis) clockJump() fault {
	const jump = time.Hour
	return fault{"jump a clock", func(ctx context.Context, random *rand.Rand, hold func(time.Duration)) {
		ahead := jump
		if random.IntN(2) == 0 {
			ahead = -jump
		}
		r, err := n.startRival(ctx, ahead, false)
		if err != nil {
			return // time is up
		}
		defer r.stop()
		for r.ready(ctx) != nil && ctx.Err() == nil {
			wait(ctx, 10*time.Millisecond)
		}
		for _, s := range n.services {
			s.mu.Lock()
			s.stop()
		}
		hold(n.most / 8)
		for _, s := range n.services {
			s.start()
			s.mu.Unlock()
		}
		for range 3 {
			hold(n.most / 4)
			r.ahead.Add(int64(jump) * int64(1-2*random.IntN(2)))
		}
	}}
}

// fight has a command service take all partitions from whoever owns them, again and again.
func (n *nemesis) fight() fault {
	return fault{"take by force", func(ctx context.Context, _ *rand.Rand, hold func(time.Duration)) {
		r, err := n.startRival(ctx, 0, true)
		if err != nil {
			return // time is up
		}
		hold(n.most)
		r.stop()
	}}
}

// String says how many faults of which kind there were.
func (n *nemesis) String() string {
	var texts []string
	for _, kind := range slices.Sorted(maps.Keys(n.faults)) {
		texts = append(texts, fmt.Sprintf("%s: %d", kind, n.faults[kind]))
	}
	return strings.Join(texts, ", ")
}
