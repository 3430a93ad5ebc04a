package powercut

import (
	"context"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/coditect-ai/license-ledger/internal/chaos"
)

// pick is how much of a thing the short and the long form do.
func pick(short, long int) int {
	if chaos.Long() {
		return long
	}
	return short
}

// A ledger on a disk that loses its power again and again, in the middle of writes and in the middle of the starts
// after that, loses nothing that it acknowledged. Every second cut is torn.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	for k, cuts := range map[kind]int{services: pick(5, 50), allInOne: pick(2, 20)} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			powerCuts(newMachine(t, k, rand.Uint64(), syncAlways), cuts)
		})
	}
}

func powerCuts(m *machine, cuts int) {
	m.launch()
	m.serving()
	cs := m.customers()
	var lost Loss
	unsynced, starting := 0, 0
	note := func(l Loss) {
		lost.Files, lost.Bytes, lost.Names = lost.Files+l.Files, lost.Bytes+l.Bytes, lost.Names+l.Names
		if l.Bytes > 0 {
			unsynced++
		}
	}
	startSteps := m.Steps()
	for cut := range cuts {
		torn := cut%2 == 1
		ctx, stop := context.WithCancel(m.t.Context())
		wait := m.load(ctx, cs)
		m.cutAfter(100+m.random.IntN(1400), torn, note)
		m.dead()
		stop()
		wait()
		m.restore()

		// Many a start is cut short, too, while nats-server repairs its files.
		if cut%3 > 0 {
			m.cutAfter(1+m.random.IntN(startSteps), torn, note)
			m.launch()
			if m.serving() {
				m.Cut(torn)
			} else {
				starting++
			}
			m.restore()
		}

		m.launchNATS()
		for _, err := range m.broken(cs) {
			m.t.Error(err)
		}
		if m.t.Failed() {
			m.t.Fatalf("after cut %d of %d, torn: %v", cut+1, cuts, torn)
		}
		m.gone()
		before := m.Steps()
		m.launch()
		m.serving()
		startSteps = m.Steps() - before
	}
	did := count(cs)
	m.t.Logf("%d power cuts under load, half of them torn, %d more while starting; %d hit unsynced writes; lost in all %+v; %v",
		cuts, starting, unsynced, lost, did)
	// About one cut in six falls between two commits.
	if did.acquired < cuts || did.released < cuts || unsynced == 0 && cuts >= 5 {
		m.t.Fatal("too little was going on to prove anything")
	}
}

// A disk that fails while the programs go on: whatever they do with its errors, they acknowledge nothing that is not on it.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	m := newMachine(t, services, rand.Uint64(), syncAlways)
	m.launch()
	m.serving()
	cs := m.customers()
	failures := pick(2, 20)
	for failure := range failures {
		ctx, stop := context.WithCancel(t.Context())
		wait := m.load(ctx, cs)
		m.CutAfter(100+m.random.IntN(500), failure%2 == 1, func(Loss) {})
		<-m.Dark()
		server := m.running[0]
		server.Await("told of the error", func() bool { return strings.Contains(server.Output(), syscall.EIO.Error()) }, server.Output)
		m.gone()
		stop()
		wait()
		m.restore()
		m.launchNATS()
		for _, err := range m.broken(cs) {
			t.Error(err)
		}
		if t.Failed() {
			t.Fatalf("after failure %d of %d", failure+1, failures)
		}
		m.gone()
		m.launch()
		m.serving()
	}
	did := count(cs)
	t.Logf("%d failures of the disk under load; %v", failures, did)
	if did.acquired < failures {
		t.Fatal("too little was going on to prove anything")
	}
}

// Without the sync before the acknowledgement the same cuts lose commands: the test bites.
func TestPowerCutBites(t *testing.T) {
	t.Parallel()
	m := newMachine(t, services, rand.Uint64(), "")
	m.launch()
	m.serving()
	cs := m.customers()
	m.SyncAll() // what is at stake are commands, not the whole ledger
	const cuts = 5
	for cut := range cuts {
		ctx, stop := context.WithCancel(t.Context())
		wait := m.load(ctx, cs)
		m.cutAfter(100+m.random.IntN(1400), false, func(Loss) {})
		m.dead()
		stop()
		wait()
		m.restore()
		m.launchNATS()
		if broken := m.broken(cs); len(broken) > 0 {
			t.Logf("without sync_interval: always, cut %d of at most %d broke %d promises of %v; the first: %v",
				cut+1, cuts, len(broken), count(cs), broken[0])
			return
		}
		m.gone()
		m.launch()
		m.serving()
	}
	t.Fatal("the power cut does not bite: without sync_interval: always nothing was lost")
}
