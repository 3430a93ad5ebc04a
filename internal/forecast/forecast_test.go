package forecast_test

import (
	"math"
	"testing"

	"github.com/coditect-ai/license-ledger/internal/forecast"
)

// weeks returns a series of weeks with ten on working days, one on the others, from a Monday on.
func weeks(n int) []float64 {
	var s []float64
	for range n {
		s = append(s, 10, 10, 10, 10, 10, 1, 1)
	}
	return s
}

func TestAWeekComesAgain(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3, 8, 52} {
		f := forecast.New(weeks(n)[:7*n-3], 1, 10) // the next day is a Friday
		for i, want := range []float64{10, 1, 1, 10, 10, 10, 10, 10, 1, 1} {
			if d := f.Days[i]; math.Abs(d.Peak-want) > 0.5 || d.P90.Low > want+0.01 || d.P90.High < want-0.01 || d.P50.Low < d.P90.Low || d.P50.High > d.P90.High {
				t.Errorf("%d weeks, day %d: %+v instead of %v", n, i, d, want)
			}
		}
		if known := f.LastMonth != nil; known != (7*n-3 >= 28+forecast.DaysMin) {
			t.Errorf("%d weeks: last month %+v", n, f.LastMonth)
		}
	}
}

func TestGrowthGoesOnAndLevelsOff(t *testing.T) {
	t.Parallel()
	s := weeks(30)
	for i := range s {
		s[i] *= math.Exp(0.004 * float64(i))
	}
	f := forecast.New(s, 1, 90)
	last := s[len(s)-7]
	if soon, late := f.Days[7].Peak, f.Days[84].Peak; soon < last*1.02 || late < soon || late > last*1.3 {
		t.Errorf("from %.1f to %.1f and %.1f", last, soon, late)
	}
}

// Two weeks of holidays are no new level, and no reason to expect any.
func TestHolidaysAreNotBelieved(t *testing.T) {
	t.Parallel()
	s := weeks(30)
	for i := len(s) - 14; i < len(s); i++ {
		s[i] = 1
	}
	if d := forecast.New(s, 1, 7).Days[0]; d.Peak < 8 {
		t.Errorf("after the holidays %+v", d)
	}
}

func TestNothingIsForecastFromNothing(t *testing.T) {
	t.Parallel()
	f := forecast.New(make([]float64, 40), 0, 5)
	for _, d := range f.Days {
		if d.Peak != 0 || d.P90.High > 1 || math.IsNaN(d.P50.Low) {
			t.Errorf("%+v", d)
		}
	}
}

// Source: the usual tables: 5 servers at 2 erlang block 3.7 %, 10 at 4.46 block 1 %.
func TestErlangB(t *testing.T) {
	t.Parallel()
	if b := forecast.ErlangB(5, 2); math.Abs(b-0.0367) > 0.0001 {
		t.Error(b)
	}
	if n := forecast.SeatsFor(4.46, 0.0101); n != 10 {
		t.Error(n)
	}
	if n := forecast.SeatsFor(0, 0.01); n != 1 {
		t.Error(n)
	}
}
