package cluster

import (
	"context"
	"syscall"
	"testing"

	"github.com/coditect-ai/license-ledger/internal/chaos"
)

// A leader that hangs, and keeps all its connections open, is left behind: clients are answered while it hangs, and what
// they hear is right.
func TestALeaderHangs(t *testing.T) {
	t.Parallel()
	const clients, seats = 16, 100
	rounds := 1
	if chaos.Long() {
		rounds = 10
	}
	c := newThree(t)
	_, key := c.services[0].License(t, "acme", seats, 3600)
	l := &load{t: t, services: c.services[:], key: key}
	working, rest := context.WithCancel(t.Context())
	defer rest()
	wait := l.run(working, clients)
	c.flowing(l)
	for range rounds {
		l.stall()
		leader, _ := c.split()
		leader.process.Signal(syscall.SIGSTOP)
		c.flowing(l)
		t.Logf("answered again after %.1f s", l.stall().Seconds())
		leader.process.Signal(syscall.SIGCONT)
		c.await("whole again", c.whole)
	}
	rest()
	wait()
	c.verify(l, seats)
	if acquired, released := l.acked.Counts(); acquired == 0 || released == 0 {
		t.Error("too little happened to prove anything")
	}
}
