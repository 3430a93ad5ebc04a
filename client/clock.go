package client

import "time"

// clock reads two clocks. Timers go by the monotonic one.
type clock struct {
	wall      func() time.Time
	monotonic func() time.Duration // since any fixed moment
}

// instant is one moment on both clocks.
type instant struct {
	wall      time.Time // without a monotonic reading
	monotonic time.Duration
}

func newClock() clock {
	start := time.Now()
	return clock{
		wall:      func() time.Time { return time.Now().Round(0) },
		monotonic: func() time.Duration { return time.Since(start) },
	}
}

func (c clock) now() instant { return instant{c.wall(), c.monotonic()} }

// term is how long a lease is held without another heartbeat.
type term struct {
	sent   instant // when the last acknowledged acquire or heartbeat was sent
	length time.Duration
}

// elapsed returns how much of the term has passed by now, on the clock that saw more pass: the wall clock stands still
// when it is set back, the monotonic clock while the machine sleeps.
func (t term) elapsed(now instant) time.Duration {
	return max(now.monotonic-t.sent.monotonic, now.wall.Sub(t.sent.wall))
}

// remaining returns how long the lease is still held; 0 or less when it is not.
func (t term) remaining(now instant) time.Duration { return t.length - t.elapsed(now) }

// over reports whether the term has ended by the clock that nobody sets: then there is no hope.
func (t term) over(now instant) bool { return now.monotonic-t.sent.monotonic >= t.length }
