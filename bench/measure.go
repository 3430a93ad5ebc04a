package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The rows of the table.
const (
	rowEcho      = "echo"
	rowAcquire   = "acquire + release"
	rowHeartbeat = "heartbeat"
	rowBatches   = "heartbeats, 1,000 a request"
)

var rows = []string{rowEcho, rowAcquire, rowHeartbeat, rowBatches}

// sample is one measurement of a row.
type sample struct {
	PerSecond float64       `json:"requests_per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
}

// results are all samples by row, and the disk beneath.
type results struct {
	Samples map[string][]sample `json:"samples"`
	// SyncsPerSecond is how many times a second 4 KiB can be appended to a file and be safe.
	SyncsPerSecond float64 `json:"disk_syncs_per_second"`
}

// server is the process under test.
type server struct {
	addr, operator string
	cmd            *exec.Cmd
}

func startServer(ctx context.Context, dir string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{cmd: exec.CommandContext(ctx, self, "--serve", "--dir", dir)}
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for _, field := range []*string{&s.addr, &s.operator} {
		if !lines.Scan() {
			return nil, fmt.Errorf("the server did not start: %w", s.cmd.Wait())
		}
		*field = lines.Text()
	}
	return s, nil
}

func (s *server) stop() {
	s.cmd.Process.Signal(os.Interrupt)
	s.cmd.Wait()
}

// measure runs all rows, round by round, so that what disturbs the machine disturbs them alike.
func measure(ctx context.Context, cfg config) (*results, error) {
	r := &results{Samples: map[string][]sample{}}
	var err error
	if r.SyncsPerSecond, err = diskSyncs(cfg.Dir); err != nil {
		return nil, err
	}
	s, err := startServer(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	fmt.Printf("setting up %d licenses …\n", cfg.Licenses)
	w, err := newWorkload(s, cfg)
	if err != nil {
		return nil, err
	}
	steps := map[string]func(*conn, int, int, caller) error{
		rowEcho: w.echo, rowAcquire: w.acquireRelease, rowHeartbeat: w.heartbeat, rowBatches: w.heartbeats,
	}
	for round := range cfg.Rounds {
		for _, row := range rows {
			fmt.Printf("round %d of %d: %s …\n", round+1, cfg.Rounds, row)
			times, err := load(ctx, s.addr, cfg.Connections, cfg.Duration, steps[row])
			if err == nil && len(times) == 0 {
				err = errors.New("not one request was answered; measure longer")
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", row, err)
			}
			r.Samples[row] = append(r.Samples[row], sampleOf(times, cfg.Duration))
		}
	}
	return r, ctx.Err()
}

func sampleOf(times []time.Duration, d time.Duration) sample {
	slices.Sort(times)
	return sample{PerSecond: float64(len(times)) / d.Seconds(), P50: times[len(times)/2], P99: times[len(times)*99/100]}
}

// median returns the sample with the median rate.
func median(samples []sample) sample {
	sorted := slices.SortedFunc(slices.Values(samples), func(a, b sample) int { return cmp.Compare(a.PerSecond, b.PerSecond) })
	return sorted[len(sorted)/2]
}

// diskSyncs measures the disk for orientation.
func diskSyncs(dir string) (float64, error) {
	file, err := os.Create(filepath.Join(dir, "syncs"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := bytes.Repeat([]byte{1}, 4096)
	began, n := time.Now(), 0
	for time.Since(began) < 300*time.Millisecond {
		if _, err := file.Write(block); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(file.Fd())); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// workload is what the requests are made of. Users come back: their names are known after the first round.
type workload struct {
	keys     []string   // by license
	leases   [][]string // of each worker: held from the beginning, for heartbeats
	leaseKey []string   // the key that each worker's leases belong to
}

const perTenant = 20

func newWorkload(s *server, cfg config) (*workload, error) {
	c, err := dial(s.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	post := func(path, key string, body, answer any) error {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		status, reply, err := c.post(path, key, text)
		if err != nil || status > 299 {
			return fmt.Errorf("%s: %d %s %w", path, status, reply, err)
		}
		return json.Unmarshal(reply, answer)
	}
	w := &workload{}
	var ignored any
	for i := range cfg.Licenses {
		tenant := fmt.Sprint("tenant-", i/perTenant)
		if i%perTenant == 0 {
			if err := post("/api/v1/tenants", s.operator, map[string]any{"id": tenant, "name": tenant}, &ignored); err != nil {
				return nil, err
			}
		}
		var issued struct{ Key string }
		err := post("/api/v1/tenants/"+tenant+"/licenses", s.operator, map[string]any{"product": "p", "seats": 10_000, "lease_seconds": 3600}, &issued)
		if err != nil {
			return nil, err
		}
		w.keys = append(w.keys, issued.Key)
	}
	// Each worker holds 1,000 leases of one license, and heartbeats them one by one or all at once.
	for worker := range cfg.Connections {
		key := w.keys[worker%len(w.keys)]
		w.leaseKey = append(w.leaseKey, key)
		w.leases = append(w.leases, make([]string, leasesPerWorker))
	}
	_, err = load(context.Background(), s.addr, cfg.Connections, time.Hour, func(_ *conn, worker, i int, call caller) error {
		if i == leasesPerWorker {
			return errDone
		}
		answer, err := call("/api/v1/licenses/acquire", w.leaseKey[worker], holder(fmt.Sprint("w", worker, "-", i)), 201)
		if err != nil {
			return err
		}
		w.leases[worker][i], err = leaseID(answer)
		return err
	})
	if err != errDone {
		return nil, err
	}
	return w, nil
}

const leasesPerWorker = 1000

// errDone ends a load that has done what it was for.
var errDone = errors.New("done")

func holder(user string) []byte {
	return fmt.Appendf(nil, `{"user":%q,"machine":"ws-%s"}`, user, user)
}

func leaseBody(id string) []byte { return fmt.Appendf(nil, `{"lease":%q}`, id) }

// leaseID takes the id out of an answer without decoding it all.
func leaseID(answer []byte) (string, error) {
	_, rest, ok := bytes.Cut(answer, []byte(`"lse_`))
	id, _, ok2 := bytes.Cut(rest, []byte(`"`))
	if !ok || !ok2 {
		return "", fmt.Errorf("no lease in %s", answer)
	}
	return "lse_" + string(id), nil
}

func (w *workload) echo(_ *conn, worker, _ int, call caller) error {
	_, err := call(echoPath, "", holder(fmt.Sprint("user", worker)), 200)
	return err
}

// acquireRelease takes a seat of one license after the other and gives it back.
func (w *workload) acquireRelease(_ *conn, worker, i int, call caller) error {
	key := w.keys[(worker*37+i)%len(w.keys)]
	answer, err := call("/api/v1/licenses/acquire", key, holder(fmt.Sprint("user", worker)), 201)
	if err != nil {
		return err
	}
	id, err := leaseID(answer)
	if err != nil {
		return err
	}
	_, err = call("/api/v1/licenses/release", key, leaseBody(id), 200)
	return err
}

func (w *workload) heartbeat(_ *conn, worker, i int, call caller) error {
	_, err := call("/api/v1/licenses/heartbeat", w.leaseKey[worker], leaseBody(w.leases[worker][i%leasesPerWorker]), 200)
	return err
}

func (w *workload) heartbeats(_ *conn, worker, _ int, call caller) error {
	body := []byte(`{"leases":["` + strings.Join(w.leases[worker], `","`) + `"]}`)
	_, err := call("/api/v1/licenses/heartbeat", w.leaseKey[worker], body, 200)
	return err
}
