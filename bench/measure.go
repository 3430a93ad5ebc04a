package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// The rows that are measured by load.
const (
	rowEcho          = "echo"
	rowMix           = "mix over 1,000 licenses"
	rowMixEverysec   = "the same mix over Redis, fsync every second"
	rowMixAlways     = "the same mix over Redis, fsync always"
	rowTunedEverysec = "the same mix over Redis, fsync every second, tuned client"
	rowTunedAlways   = "the same mix over Redis, fsync always, tuned client"
	rowPipeEverysec  = "the same mix over Redis, fsync every second, pipelining client"
	rowPipeAlways    = "the same mix over Redis, fsync always, pipelining client"
	rowHot           = "mix on one license of 100,000 seats"
	rowAcquire       = "acquire + release"
	rowBatches       = "heartbeats of 1,000 leases a request"
	rowWide          = "mix over 50,000 tenants of 20 seats"
	rowDeep          = "mix over 50 tenants of 20,000 seats"
	rowPaced         = "mix over 1,000 licenses at half the rate"
	rowPacedEcho     = "echo at the same rate"
	rowAudit         = "an auditor's replay and verify"
	rowProjecting    = "projecting and rebuilding"
)

// sample is one measurement of a row.
type sample struct {
	PerSecond float64       `json:"requests_per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
}

// results are all samples by row, and what else was found.
type results struct {
	Samples map[string][]sample `json:"samples"`
	Missing map[string]string   `json:"missing,omitempty"` // rows that could not be measured, and why
	Fsync   fsyncs              `json:"fsync"`
	Raw     rawAppend           `json:"raw_append"`
	Million million             `json:"million_leases"`
	Reads   reads               `json:"reads"`
	Audit   auditing            `json:"audit"`
	Rows    projecting          `json:"projecting"`
}

// measured is a row and the server that it is measured on.
type measured struct {
	row    string
	server *server
	do     step
	work   func(*workload) step // what do is, on any server
}

// measure runs all rows, round by round, so that what disturbs the machine disturbs them alike.
func measure(ctx context.Context, cfg config) (*results, error) {
	r := &results{Samples: map[string][]sample{}, Missing: map[string]string{}}
	var err error
	if r.Fsync, err = diskSyncs(cfg.Dir); err != nil {
		return nil, err
	}
	var running []interface{ stop() }
	defer func() {
		for _, s := range slices.Backward(running) {
			s.stop()
		}
	}()
	scaled := func(n int) int { return max(1, int(float64(n)*cfg.Scale)) }
	start := func(name string, fills serverConfig) func() (*server, error) {
		return sync.OnceValues(func() (*server, error) {
			fmt.Printf("starting %s: %d tenants, %d licenses, %d leases …\n", name, fills.Tenants, fills.Tenants*fills.Licenses, fills.Tenants*fills.Licenses*fills.Leases)
			s, err := startServer(ctx, "ledger", filepath.Join(cfg.Dir, name), fills)
			if err == nil {
				running = append(running, s)
			}
			return s, err
		})
	}
	redis := func(appendfsync string, fills serverConfig, client string) func() (*server, error) {
		return func() (*server, error) {
			fills.Client = client
			peer, redis, err := startPeer(ctx, filepath.Join(cfg.Dir, fmt.Sprintf("redis-%s-%s", appendfsync, client)), appendfsync, fills)
			if redis != nil {
				running = append(running, redis)
			}
			if peer != nil {
				running = append(running, peer)
			}
			return peer, err
		}
	}
	thousand := serverConfig{Tenants: scaled(50), Licenses: 20, Seats: 10_000}
	ledger := start("thousand", thousand)
	var all []measured
	for _, p := range []struct {
		row   string
		start func() (*server, error)
		do    func(*workload) step
	}{
		{rowEcho, ledger, func(w *workload) step { return w.echo }},
		{rowMix, ledger, mix},
		{rowHot, start("hot", serverConfig{Tenants: 1, Licenses: 1, Seats: 100_000, Leases: scaled(90_000)}), mix},
		{rowAcquire, ledger, func(w *workload) step { return w.cycle(0) }},
		{rowBatches, start("batches", serverConfig{Tenants: scaled(10), Licenses: 10, Seats: 2 * batch, Leases: batch}), (*workload).batches},
		{rowWide, start("wide", serverConfig{Tenants: scaled(50_000), Licenses: 1, Seats: 20 + cfg.Connections, Leases: 10}), mix},
		{rowDeep, start("deep", serverConfig{Tenants: 50, Licenses: 1, Seats: 20_000 + cfg.Connections, Leases: scaled(10_000)}), mix},
		{rowMixEverysec, redis("everysec", thousand, clientUsual), mix},
		{rowMixAlways, redis("always", thousand, clientUsual), mix},
		{rowTunedEverysec, redis("everysec", thousand, clientTuned), mix},
		{rowTunedAlways, redis("always", thousand, clientTuned), mix},
		{rowPipeEverysec, redis("everysec", thousand, clientPipelining), mix},
		{rowPipeAlways, redis("always", thousand, clientPipelining), mix},
	} {
		if !strings.Contains(p.row, cfg.Only) || (cfg.Against != "" && strings.Contains(p.row, "Redis")) {
			continue
		}
		server, err := p.start()
		switch {
		case errors.Is(err, errNoRedis):
			r.Missing[p.row] = err.Error()
		case err != nil:
			return nil, err
		default:
			all = append(all, measured{p.row, server, p.do(newWorkload(server)), p.do})
		}
	}
	if cfg.Against != "" {
		return r, measureAgainst(ctx, cfg, all)
	}
	for round := range cfg.Rounds {
		for _, m := range all {
			fmt.Printf("round %d of %d: %s …", round+1, cfg.Rounds, m.row)
			var profiling errgroup.Group
			if cfg.Profile != "" && round == 0 {
				file := filepath.Join(cfg.Profile, strings.ReplaceAll(m.row, " ", "-")+".pprof")
				profiling.Go(func() error { return m.server.profile(ctx, cfg.Duration, file) })
			}
			times, err := load(ctx, m.server.addr, cfg.Connections, cfg.Duration, m.do)
			if err := errors.Join(r.add(m.row, times, cfg.Duration, err), profiling.Wait()); err != nil {
				return nil, err
			}
		}
	}
	if strings.Contains(rowLag, cfg.Only) || strings.Contains(rowLive, cfg.Only) {
		if r.Reads, err = measureReads(ctx, cfg, thousand, scaled(1000), r.median(rowMix).PerSecond); err != nil {
			return nil, err
		}
	}
	if half := r.median(rowMix).PerSecond / 2; half > 0 && strings.Contains(rowPaced, cfg.Only) {
		server, err := ledger()
		if err != nil {
			return nil, err
		}
		w := newWorkload(server)
		for round := range cfg.Rounds {
			for _, p := range []measured{{row: rowPaced, do: mix(w)}, {row: rowPacedEcho, do: w.echo}} {
				fmt.Printf("round %d of %d: %s, %.0f a second …", round+1, cfg.Rounds, p.row, half)
				times, err := paced(ctx, server.addr, cfg.Connections, cfg.Duration, p.do, half)
				if err := r.add(p.row, times, cfg.Duration, err); err != nil {
					return nil, err
				}
			}
		}
	}
	if cfg.Only != "" {
		if strings.Contains(rowAudit, cfg.Only) {
			if r.Audit, err = measureAudit(ctx, cfg, scaled(auditCommits)); err != nil {
				return nil, err
			}
			for _, t := range r.Audit.targets() {
				fmt.Println(t)
			}
		}
		if strings.Contains(rowProjecting, cfg.Only) {
			if r.Rows, err = measureProjecting(ctx, cfg, scaled(projectingEvents)); err != nil {
				return nil, err
			}
			for _, t := range r.Rows.targets() {
				fmt.Println(t)
			}
		}
		return r, ctx.Err()
	}
	for _, s := range slices.Backward(running) {
		s.stop()
	}
	running = nil
	if r.Raw, err = measureRaw(ctx, cfg, filepath.Join(cfg.Dir, "batches")); err != nil {
		return nil, err
	}
	if r.Million, err = measureMillion(ctx, cfg, serverConfig{Tenants: 50, Licenses: 20, Seats: 2 * batch, Leases: scaled(1000)}); err != nil {
		return nil, err
	}
	if r.Audit, err = measureAudit(ctx, cfg, scaled(auditCommits)); err != nil {
		return nil, err
	}
	if r.Rows, err = measureProjecting(ctx, cfg, scaled(projectingEvents)); err != nil {
		return nil, err
	}
	return r, ctx.Err()
}

// mix is a short session, again and again.
func mix(w *workload) step { return w.cycle(mixHeartbeats) }

// startPeer starts a Redis and the server over it. Errors: errNoRedis.
func startPeer(ctx context.Context, dir, appendfsync string, fills serverConfig) (*server, *redisServer, error) {
	redis, err := startRedis(ctx, filepath.Join(dir, "data"), appendfsync)
	if err != nil {
		return nil, nil, err
	}
	fills.Redis, fills.RedisAddr = redis.socket, redis.addr
	s, err := startServer(ctx, "redis", dir, fills)
	return s, redis, err
}

func (r *results) add(row string, times []time.Duration, d time.Duration, err error) error {
	if err == nil && len(times) == 0 {
		err = errors.New("not one request was answered; measure longer")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", row, err)
	}
	s := sampleOf(times, d)
	fmt.Printf(" %.0f requests/s, p99 %v\n", s.PerSecond, s.P99.Round(10*time.Microsecond))
	r.Samples[row] = append(r.Samples[row], s)
	return nil
}

func sampleOf(times []time.Duration, d time.Duration) sample {
	slices.Sort(times)
	return sample{PerSecond: float64(len(times)) / d.Seconds(), P50: times[len(times)/2], P99: times[len(times)*99/100]}
}

// median returns, of a row, the sample with the median rate, and with the median p99 where the rate is given.
func (r *results) median(row string) sample {
	by := func(a, b sample) int { return cmp.Compare(a.PerSecond, b.PerSecond) }
	if row == rowPaced || row == rowPacedEcho {
		by = func(a, b sample) int { return cmp.Compare(a.P99, b.P99) }
	}
	sorted := slices.SortedFunc(slices.Values(r.Samples[row]), by)
	if len(sorted) == 0 {
		return sample{}
	}
	return sorted[len(sorted)/2]
}

// fsyncs is what the disk does beneath: appends of 4 KiB, each synced, one after the other.
type fsyncs struct {
	PerSecond float64       `json:"per_second"`
	Median    time.Duration `json:"median_ns"`
	P99       time.Duration `json:"p99_ns"`
}

func diskSyncs(dir string) (fsyncs, error) {
	file, err := os.Create(filepath.Join(dir, "syncs"))
	if err != nil {
		return fsyncs{}, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := bytes.Repeat([]byte{1}, 4096)
	var times []time.Duration
	for began := time.Now(); time.Since(began) < time.Second; {
		started := time.Now()
		if _, err := file.Write(block); err != nil {
			return fsyncs{}, err
		}
		if err := syscall.Fsync(int(file.Fd())); err != nil {
			return fsyncs{}, err
		}
		times = append(times, time.Since(started))
	}
	s := sampleOf(times, time.Second)
	return fsyncs{s.PerSecond, s.P50, s.P99}, nil
}
