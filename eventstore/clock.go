package eventstore

import "time"

// ledgerClock is the time of commits. It follows the wall clock, but never jumps: between two readings it moves by what the
// monotonic clock says, a little more or less where the wall clock is ahead or behind. So an hour that somebody sets the
// clock forward ends no lease early, and an hour back keeps no lease alive for an hour.
//
// Only start may jump, and only forward: whether an hour has passed since the last commit, or the clock is wrong, nobody
// can tell then. No lease is expired before one heartbeat interval has passed after it.
type ledgerClock struct {
	wall func() time.Time
	at   time.Time // the last reading
	read time.Time // when that was, of which only the monotonic part counts
}

// How far the clock leaves the monotonic one to come nearer to the wall clock. Time slewed by NTP moves at most 1/2000
// faster or slower than the monotonic clock does, so in ordinary times the two agree.
const (
	// clockFaster: leases get shorter by 1/256 at most, about a second of five minutes; heartbeats come three times as often
	// as needed. An hour is made good in 11 days; a restart does it at once.
	clockFaster = 256
	// clockSlower: leases get longer by 1/16 at most, which takes a seat from nobody. An hour is made good in 16 hours.
	clockSlower = 16
)

// start sets the clock to the wall clock, or to last, the time of the last commit, when the wall clock is behind that.
func (c *ledgerClock) start(last time.Time) {
	c.at, c.read = c.wallOnly(), time.Now()
	if c.at.Before(last) {
		c.at = last
	}
}

// now returns the time, UTC.
func (c *ledgerClock) now() time.Time {
	elapsed := time.Since(c.read)
	c.read = c.read.Add(elapsed)
	earliest, latest := c.at.Add(elapsed-elapsed/clockSlower), c.at.Add(elapsed+elapsed/clockFaster)
	switch wall := c.wallOnly(); {
	case wall.Before(earliest):
		c.at = earliest
	case wall.After(latest):
		c.at = latest
	default:
		c.at = wall
	}
	return c.at
}

// wallOnly returns the wall clock without the monotonic reading, by which times would be compared otherwise.
func (c *ledgerClock) wallOnly() time.Time { return c.wall().Round(0).UTC() }
