package main

import (
	"testing"
	"time"
)

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
	if got := median([]sample{{PerSecond: 3}, {PerSecond: 1}, {PerSecond: 2}}); got.PerSecond != 2 {
		t.Errorf("median = %v, want 2", got.PerSecond)
	}
}

func TestLeaseID(t *testing.T) {
	t.Parallel()
	if id, err := leaseID([]byte(`{"lease":{"fence":3,"id":"lse_abc","user":"x"}}`)); err != nil || id != "lse_abc" {
		t.Errorf("lease id = %q, %v", id, err)
	}
	if _, err := leaseID([]byte(`{"code":"no_seat_available"}`)); err == nil {
		t.Error("a refusal has a lease")
	}
}
