package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// target is a line of the table of targets: what was measured, against what, and how much of it is wanted.
type target struct {
	Measure string  `json:"measure"`
	Against string  `json:"against"`
	Got     float64 `json:"got"`
	Wanted  float64 `json:"wanted"`
	Most    bool    `json:"at_most,omitempty"` // Wanted is the most, not the least
	Unit    string  `json:"unit"`
	Missing string  `json:"missing,omitempty"`
}

func (t target) met() string {
	met := t.Got >= t.Wanted
	if t.Most {
		met = t.Got <= t.Wanted
	}
	switch {
	case t.Missing != "":
		return "not measured: " + t.Missing
	case met:
		return "met"
	}
	return "**not met**"
}

func (t target) String() string {
	sign := "≥"
	if t.Most {
		sign = "≤"
	}
	got := fmt.Sprintf("%.2f %s", t.Got, t.Unit)
	if t.Missing != "" {
		got = "—"
	}
	return fmt.Sprintf("| %s | %s | %s | %s %g %s | %s |", t.Measure, t.Against, got, sign, t.Wanted, t.Unit, t.met())
}

func (r *results) targets() []target {
	rate := func(row string) float64 { return r.median(row).PerSecond }
	ratio := func(measure, row, peer, against string, wanted float64) target {
		t := target{Measure: measure, Against: against, Wanted: wanted, Unit: "×", Missing: r.Missing[peer]}
		if t.Missing == "" {
			t.Got = rate(row) / rate(peer)
		}
		return t
	}
	even := min(rate(rowWide)/rate(rowDeep), rate(rowDeep)/rate(rowWide))
	return slices.Concat([]target{
		ratio(rowMix, rowMix, rowEcho, "echo", 0.5),
		ratio(rowMix, rowMix, rowMixEverysec, "Redis, fsync every second", 1.5),
		ratio(rowMix, rowMix, rowMixAlways, "Redis, fsync always", 3),
		ratio(rowMix, rowMix, rowTunedEverysec, "Redis, fsync every second, tuned client", 1.5),
		ratio(rowMix, rowMix, rowTunedAlways, "Redis, fsync always, tuned client", 3),
		ratio(rowHot, rowHot, rowMix, "over 1,000 licenses", 1),
		{Measure: rowBatches, Against: "appending the same commits, nothing else", Got: rate(rowBatches) * batch / r.Raw.LeasesPerSecond, Wanted: 0.5, Unit: "×"},
		{Measure: "p99 at half the rate", Against: "one fsync (median)", Got: float64(r.median(rowPaced).P99) / float64(r.Fsync.Median), Wanted: 5, Most: true, Unit: "×"},
		{Measure: "p99 at half the rate", Against: "one fsync (p99)", Got: float64(r.median(rowPaced).P99) / float64(r.Fsync.P99), Wanted: 5, Most: true, Unit: "×"},
		{Measure: fmt.Sprintf("%d live leases", r.Million.Leases), Against: "the same server without", Got: r.Million.BytesPerLease, Wanted: 600, Most: true, Unit: "bytes each"},
		{Measure: "start from a snapshot", Against: "only reading and decoding it", Got: float64(r.Million.SnapshotDecode) / float64(r.Million.SnapshotStart), Wanted: 0.5, Unit: "×"},
		{Measure: "replay without a snapshot", Against: "only reading and decoding", Got: float64(r.Million.ReplayDecode) / float64(r.Million.Replay), Wanted: 0.5, Unit: "×"},
		{Measure: rowWide, Against: "50 tenants of 20,000 (the slower by the faster)", Got: even, Wanted: 0.8, Unit: "×"},
		{Measure: rowLag, Against: fmt.Sprintf("%.0f requests/s before", r.Reads.PerSecond), Got: r.Reads.CaughtUp.Seconds(), Wanted: 5, Most: true, Unit: "s"},
		{Measure: rowLive, Against: fmt.Sprintf("p99 at %.0f requests/s", r.Reads.LivePerSecond), Got: ms(r.Reads.LiveP99), Wanted: 250, Most: true, Unit: "ms"},
	}, r.Audit.targets(), r.Rows.targets())
}

// rows in the order of the table.
var rows = []string{rowEcho, rowMix, rowMixEverysec, rowMixAlways, rowTunedEverysec, rowTunedAlways, rowPipeEverysec, rowPipeAlways, rowHot, rowWide, rowDeep, rowPaced, rowPacedEcho, rowAcquire, rowBatches}

// write prints the tables and writes results.md and results.json.
func (r *results) write(cfg config) error {
	var out strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	p("# How fast the command side is\n")
	p("What `make bench` found on %s. Ratios within this run are what counts; another machine has other rates.\n", time.Now().UTC().Format(time.DateOnly))
	p("| measure | against | got | target | |\n|---|---|---:|---:|---|")
	for _, t := range r.targets() {
		p("%s", t)
	}
	p("\n| row | requests/s | p50 ms | p99 ms |\n|---|---:|---:|---:|")
	for _, row := range rows {
		if why := r.Missing[row]; why != "" {
			p("| %s | %s | | |", row, why)
			continue
		}
		s := r.median(row)
		p("| %s | %.0f | %.2f | %.2f |", row, s.PerSecond, ms(s.P50), ms(s.P99))
	}
	m := r.Million
	p(`
- **The setting.** %d keep-alive connections, each with one request at a time; the median of %d rounds of %s, the rows one after the other
  in each round. %d cores, shared by the server, the load generator and, where it is the peer, Redis. The disk did %.0f appends of 4 KiB a second,
  each synced: %.2f ms (median), %.2f ms (p99). %s, nats-server %s, %s.
- **echo** is the ledger's own router, middleware and strict decoding, answering a constant.
- **mix** is a short session again and again: acquire, %d heartbeats, release. Every answer of the ledger comes after an fsync.
- **Redis** is the same mix over the same router, middleware, authentication, decoding and answers; the seats are counted by Lua scripts in a real
  Redis (a sorted set by end, two hashes, a stream with an event per change) on the same disk. The usual client is go-redis with its defaults, over TCP. The tuned one is
  rueidis with a connection for each request, over a unix socket: so Redis, too, stores what many callers want with one fsync. The targets are asked of
  the ledger against both; a client that sends what many callers want in one go (pipelining) is there for orientation.
- **heartbeats of 1,000 leases**: %.0f leases/s. The same %d commits (%d MB), read back from the journal and appended to an empty one, four in
  flight, with nothing else around: %.0f leases/s.
- **At half the rate** requests are due at fixed times; one that starts late because the one before took long counts from when it was due. Of the same
  requests to echo, which needs no disk, one in a hundred takes longer than %.2f ms, %.1f fsyncs: no answer on these cores comes sooner.
- **%d live leases** of as many users on as many machines: %.0f bytes each resident once the process gave back what it does not use, %.0f right after they were acquired
  (Go's collector lets the heap grow to twice what is live before it cleans up).
- **Start** is from taking the journal up to serving: from a snapshot of %d MB %.2f s, where reading and decoding snapshot, names and the rest of the journal
  takes %.2f s; without it %.2f s for %d events (%.0f events/s), where reading and decoding takes %.2f s.
- **Read models** are kept by the same process, on the same cores, in a Postgres of its own. While the mix asked for as much as that gave, a query saw an answer
  %.2f s later at most (%.2f s in the first half of the %s); when it stopped, everything was in the rows after %.2f s.
- **Seen in a browser** is from the answer to an acquire until an open live stream has told of the lease: %d streams over %d tenants, all of them watched, %d times seen
  and %d times not; median %.0f ms, p99 %.0f ms.`,
		cfg.Connections, cfg.Rounds, cfg.Duration, runtime.NumCPU(), r.Fsync.PerSecond, ms(r.Fsync.Median), ms(r.Fsync.P99), runtime.Version(), natsserver.VERSION, redisVersion(),
		mixHeartbeats, r.median(rowBatches).PerSecond*batch, r.Raw.Commits, r.Raw.Bytes>>20, r.Raw.LeasesPerSecond,
		ms(r.median(rowPacedEcho).P99), float64(r.median(rowPacedEcho).P99)/float64(r.Fsync.Median),
		m.Leases, m.BytesPerLease, m.BytesPerLeaseBusy,
		m.SnapshotBytes>>20, m.SnapshotStart.Seconds(), m.SnapshotDecode.Seconds(),
		m.Replay.Seconds(), m.Events, float64(m.Events)/m.Replay.Seconds(), m.ReplayDecode.Seconds(),
		r.Reads.Lag.Seconds(), r.Reads.LagHalfway.Seconds(), cfg.Duration, r.Reads.CaughtUp.Seconds(),
		r.Reads.Streams, r.Reads.Tenants, r.Reads.Seen, r.Reads.Unseen, ms(r.Reads.LiveP50), ms(r.Reads.LiveP99))
	fmt.Printf("\n%s", out.String())

	if err := os.WriteFile(filepath.Join(cfg.Out, "results.md"), []byte(out.String()), 0o644); err != nil {
		return err
	}
	text, err := json.MarshalIndent(struct {
		Targets []target `json:"targets"`
		*results
	}{r.targets(), r}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(cfg.Out, "results.json"), append(text, '\n'), 0o644)
}

func redisVersion() string {
	out, err := exec.Command("redis-server", "--version").Output()
	if version := regexp.MustCompile(`v=([0-9.]+)`).FindSubmatch(out); err == nil && version != nil {
		return "Redis " + string(version[1])
	}
	return "no Redis"
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
