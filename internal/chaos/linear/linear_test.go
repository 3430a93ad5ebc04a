package linear

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/chaos"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// run is one cluster under faults.
type run struct {
	clients int // in all
	seats   int // of each license
	lease   time.Duration
	lasting bool // see load
	faults  time.Duration
	calm    time.Duration // see nemesis
	most    time.Duration
	rivals  func(*nemesis) []fault
	force   bool // two owners at once: see load.forced
}

// Leases last, whatever is done to processes, links and clocks: nobody loses a seat.
func TestLeasesLast(t *testing.T) {
	rounds(t, 20, run{
		clients: 32, seats: 8, lease: 300 * time.Second, lasting: true,
		rivals: func(n *nemesis) []fault { return []fault{n.clockJump(), n.rivalProcess()} },
	})
}

// Leases run out, and seats go on to others, but not too soon, and not for ever.
func TestLeasesRunOut(t *testing.T) {
	rounds(t, 10, run{
		clients: 32, seats: 8, lease: 3 * time.Second,
		rivals: func(n *nemesis) []fault { return []fault{n.rivalProcess()} },
	})
}

// A process that does not care who owns a partition takes it by force: what is stored stays right.
func TestOwnersFight(t *testing.T) {
	rounds(t, 10, run{
		clients: 32, seats: 8, lease: 300 * time.Second, lasting: true, force: true,
		rivals: func(n *nemesis) []fault { return []fault{n.fight()} },
	})
}

// rounds runs one short round, or many long ones.
func rounds(t *testing.T, many int, r run) {
	t.Parallel()
	r.faults, r.calm, r.most = 9*time.Second, 1500*time.Millisecond, 4*time.Second
	if !chaos.Long() {
		many = 1
	} else {
		r.clients, r.faults, r.calm, r.most = 64, 30*time.Second, 4*time.Second, 6*time.Second
	}
	for i := range many {
		t.Run(fmt.Sprint("round-", i+1), func(t *testing.T) { r.round(t) })
	}
}

// seedOf returns the seed of a round: LINEAR_SEED, else a random one.
func seedOf(t *testing.T) uint64 {
	if text := os.Getenv("LINEAR_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("LINEAR_SEED: %v", err)
		}
		return seed
	}
	return rand.Uint64()
}

func (r run) round(t *testing.T) {
	seed := seedOf(t)
	t.Logf("seed %d", seed)
	c := newCluster(t)
	tokens := eventstore.NewTokens(c.secret)
	var loads []*load
	dawdle := r.lease * 3 / 2
	if r.lasting {
		dawdle = 0
	}
	for _, tenant := range c.tenants() {
		loads = append(loads, &load{
			t: t, tenant: tenant, seats: r.seats, lease: r.lease, lasting: r.lasting, dawdle: dawdle, perHist: 4000, forced: r.force, several: true,
			targets: c.targets,
			issue: func(n int) (string, string) {
				a := c.insist("/"+tenant+"/licenses", map[string]any{
					"product": fmt.Sprint("product-", n), "seats": r.seats, "lease_seconds": int(r.lease.Seconds()),
				})
				return a.At("license.id"), a.At("key")
			},
			rank: func(position string) int64 {
				at, err := tokens.Parse(position)
				if err != nil || len(at) != 1 {
					t.Errorf("position %q: %v", position, err)
					return 0
				}
				return rankAt(at[0].Seq)
			},
		})
	}
	n := &nemesis{cluster: c, calm: r.calm, most: r.most}
	rivals := r.rivals(n)

	working, rest := context.WithCancel(t.Context())
	defer rest()
	var waits []func()
	for i, l := range loads {
		waits = append(waits, l.run(working, r.clients/partitions, seed+uint64(i)))
	}
	trouble, heal := context.WithTimeout(t.Context(), r.faults)
	n.run(trouble, seed, rivals)
	heal()
	c.ready()
	rest()
	for _, wait := range waits {
		wait()
	}
	r.verify(c, loads, n)
}

// verify checks what clients were told, against one license and against the journal.
func (r run) verify(c *cluster, loads []*load, n *nemesis) {
	t := c.t
	ctx, cancel := context.WithTimeout(t.Context(), 2*ledgertest.Patience)
	defer cancel()
	store, nc, err := c.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var operations, licenses, acquired, unknown, undone, denied, epochs, expired int
	for i, l := range loads {
		p := eventstore.Partition(i)
		if !r.lasting { // nobody keeps a seat for ever
			c.services[0].process.Await("rid of all leases", func() bool {
				return len(readJournal(ctx, t, store, p, r.seats, r.lease).active) == 0
			}, func() string { return "some last" })
		}
		j := readJournal(ctx, t, store, p, r.seats, r.lease)
		ledgertest.VerifyJournal(ctx, t, store, p, &l.acked, r.seats*len(l.sold))
		l.check(j.order)
		a, _ := l.acked.Counts()
		operations, licenses, acquired = operations+l.operations(), licenses+len(l.sold), acquired+a
		unknown, undone, denied = unknown+int(l.unknown.Load()), undone+int(l.undone.Load()), denied+int(l.denied.Load())
		epochs, expired = epochs+j.epochs, expired+j.expired
	}
	t.Logf("%d operations on %d licenses (%d acquires, %d denials), %d outcomes unknown, %d requests not done, %d epochs, %d leases ran out; faults: %v",
		operations, licenses, acquired, denied, unknown, undone, epochs, expired, n)
	if acquired == 0 || denied == 0 || unknown == 0 || (expired == 0) != r.lasting {
		t.Error("too little happened to prove anything")
	}
}
