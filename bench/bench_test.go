package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The benchmark starts itself again as the servers under test.
func TestMain(m *testing.M) {
	if slices.ContainsFunc(os.Args, func(arg string) bool { return strings.HasPrefix(arg, "--serve=") }) {
		main()
		return
	}
	os.Exit(m.Run())
}

// Every row can be measured; how fast is not asked here.
func TestSmoke(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := config{Rounds: 1, Duration: 300 * time.Millisecond, Connections: 4, Scale: 0.002, Dir: dir, Out: dir}
	r, err := measure(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.write(cfg); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if s := r.median(row); r.Missing[row] == "" && (s.PerSecond <= 0 || s.P99 < s.P50 || s.P50 <= 0) {
			t.Errorf("%s: %+v", row, s)
		}
	}
	for _, target := range r.targets() {
		if target.Missing == "" && !(target.Got > 0) && target.Unit != "bytes each" && !strings.Contains(target.Measure, "snapshot") {
			t.Errorf("%s: %v", target.Measure, target.Got)
		}
	}
	if s := r.Reads; s.PerSecond <= 0 || s.LagHalfway > s.Lag || s.Streams != 2 || s.Seen == 0 || s.Unseen != 0 || s.LiveP99 < s.LiveP50 {
		t.Errorf("read side: %+v", s)
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.md"))
	if err != nil || strings.Contains(string(text), "%!") {
		t.Errorf("results.md: %v\n%s", err, text)
	}
}

// Two builds are compared; here one with itself.
func TestAgainst(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config{Rounds: 1, Duration: 80 * time.Millisecond, Connections: 2, Scale: 0.002, Dir: t.TempDir(), Against: self, Only: rowAcquire}
	if _, err := measure(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Dir, cfg.Against = t.TempDir(), "/bin/false"
	if _, err := measure(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "/bin/false") {
		t.Errorf("a build that does not start: %v", err)
	}
}

// What a stream tells of is known by the first time it does, wherever in an event a lease stands.
func TestWatcherNotes(t *testing.T) {
	t.Parallel()
	w := &watcher{seen: map[string]time.Time{}}
	first := time.Unix(1, 0)
	w.note([]byte(`{"leases":[{"id":"lse_a","state":"active"},{"id":"lse_b"}],"events":[{"subject":"lse_a"},"lse_`), first)
	w.note([]byte(`{"leases":[{"id":"lse_a","state":"released"},{"id":"lse_c"}]}`), first.Add(time.Second))
	if len(w.seen) != 3 || w.seen["lse_a"] != first || w.seen["lse_b"] != first || w.seen["lse_c"] != first.Add(time.Second) {
		t.Errorf("seen: %v", w.seen)
	}
}

func TestSampleOf(t *testing.T) {
	t.Parallel()
	var times []time.Duration
	for i := 200; i > 0; i-- {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	got := sampleOf(times, 2*time.Second)
	if want := (sample{PerSecond: 100, P50: 101 * time.Millisecond, P99: 199 * time.Millisecond}); got != want {
		t.Errorf("sample = %+v, want %+v", got, want)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	r := results{Samples: map[string][]sample{
		rowMix:   {{PerSecond: 3}, {PerSecond: 1}, {PerSecond: 2}},
		rowPaced: {{PerSecond: 9, P99: 1}, {PerSecond: 8, P99: 3}, {PerSecond: 7, P99: 2}},
	}}
	if got := r.median(rowMix).PerSecond; got != 2 {
		t.Errorf("median rate = %v, want 2", got)
	}
	if got := r.median(rowPaced).P99; got != 2 {
		t.Errorf("median p99 = %v, want 2", got)
	}
}

func TestTargetsSayWhetherTheyAreMet(t *testing.T) {
	t.Parallel()
	for want, target := range map[string]target{
		"met":                     {Got: 0.5, Wanted: 0.5},
		"**not met**":             {Got: 0.49, Wanted: 0.5},
		"not measured: no reason": {Missing: "no reason"},
	} {
		if got := target.met(); got != want {
			t.Errorf("%+v: %q, want %q", target, got, want)
		}
	}
	for got, want := range map[float64]string{600: "met", 601: "**not met**"} {
		if met := (target{Got: got, Wanted: 600, Most: true}).met(); met != want {
			t.Errorf("%v of at most 600: %q", got, met)
		}
	}
}

func TestLeaseOf(t *testing.T) {
	t.Parallel()
	if id, err := leaseOf([]byte(`{"lease":{"fence":3,"id":"lse_abc","user":"x"}}`)); err != nil || id != "lse_abc" {
		t.Errorf("lease id = %q, %v", id, err)
	}
	if _, err := leaseOf([]byte(`{"code":"no_seat_available"}`)); err == nil {
		t.Error("a refusal has a lease")
	}
}
