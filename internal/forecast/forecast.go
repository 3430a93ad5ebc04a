package forecast

import (
	"errors"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// DaysMin is how many days of history a forecast needs, and HorizonMax how far it goes, in days.
const (
	DaysMin    = 14
	HorizonMax = 92
)

// Band is where a peak will be with some probability.
type Band struct{ Low, High float64 }

// Day is the forecast of a day's peak.
type Day struct {
	Peak float64 // as likely to be more as to be less
	P50  Band    // it will be in here on half of the days
	P90  Band    // on nine of ten
}

// Error is how wrong the method would have been on days that are known.
type Error struct {
	Days     int
	Absolute float64 // mean of the distance, in seats
	Relative float64 // the sum of the distances by the sum of the peaks; 0 when those are none
	Bias     float64 // mean of forecast minus peak, in seats
	Within50 float64 // the share of days in the band of 50 %, and of 90 %
	Within90 float64
}

// Forecast is what a series of daily peaks says of the days after it.
type Forecast struct {
	Days []Day
	// LastMonth is the error of a forecast that was made 28 days ago; nil when there was too little to make it from.
	LastMonth *Error
}

// New forecasts the horizon days after a series of daily peaks, oldest first; first is the day of the week of its first day,
// 0 to 6, from any day. The series must have DaysMin days at least.
func New(series []float64, first, horizon int) Forecast {
	horizon = min(horizon, HorizonMax)
	fits := fits{series: series, first: first, upTo: map[int]model{}}
	f := Forecast{Days: fits.ahead(len(series), horizon)}
	if before := len(series) - month; before >= DaysMin {
		e := compare(fits.ahead(before, month), series[before:])
		f.LastMonth = &e
	}
	return f
}

const month = 28

// fits are the models of a series up to some days. The forecast of today and that of last month look back to the same.
type fits struct {
	series []float64
	first  int
	upTo   map[int]model // by how many days
}

func (f fits) at(days int) model {
	m, known := f.upTo[days]
	if !known {
		m = fit(f.series[:days], f.first)
		f.upTo[days] = m
	}
	return m
}

// ahead forecasts the days after so many of the series.
func (f fits) ahead(days, horizon int) []Day {
	m := f.at(days)
	known := f.pastErrors(days, horizon)
	all := make([]Day, horizon)
	for i := range all {
		peak := m.at(i)
		off := known.of(i, m.quiet(i))
		band := func(share float64) Band {
			return Band{Low: shifted(peak, off.quantile((1-share)/2)), High: shifted(peak, off.quantile((1+share)/2))}
		}
		all[i] = Day{Peak: peak, P50: band(0.5), P90: band(0.9)}
	}
	return all
}

// Errors are reckoned between square roots: there, counts that come about by chance vary by the same however large they
// are.

func root(peak float64) float64 { return math.Sqrt(peak + 3.0/8) }

func shifted(peak, by float64) float64 {
	r := math.Max(0, root(peak)+by)
	return math.Max(0, r*r-3.0/8)
}

const (
	originEvery = 7
	originsMax  = 30
	// errorsMin is how many errors a group of leads needs to speak for itself.
	errorsMin = 24
)

// leadGroups are the days ahead, by where they end: errors grow slowly with them.
var leadGroups = [...]int{7, 21, 49, HorizonMax}

// past is the errors that the method would have made on a series, by how many days ahead and whether on quiet days.
type past [2][len(leadGroups)]sample

// sample is sorted errors.
type sample []float64

// pastErrors sets the method back by one week, two weeks, …, and compares what it says with what came.
func (f fits) pastErrors(days, horizon int) *past {
	var p past
	for back := 1; back <= originsMax; back++ {
		end := days - back*originEvery
		if end < DaysMin {
			break
		}
		m := f.at(end)
		for i := range min(horizon, days-end) {
			kind, group := p.group(i, m.quiet(i))
			p[kind][group] = append(p[kind][group], root(f.series[end+i])-root(m.at(i)))
		}
	}
	for kind := range p {
		for group := range p[kind] {
			slices.Sort(p[kind][group])
		}
	}
	return &p
}

func (p *past) group(ahead int, quiet bool) (kind, group int) {
	if quiet {
		kind = 1
	}
	for group < len(leadGroups)-1 && ahead >= leadGroups[group] {
		group++
	}
	return kind, group
}

// spread is errors, and by how much wider the future is than they.
type spread struct {
	sample
	wider float64
}

// of returns the errors that speak for a day ahead. Where there are too few, those of shorter leads do, and are taken to
// have grown with the root of the time, as those of a random walk; where there are none, those of a coin.
func (p *past) of(ahead int, quiet bool) spread {
	kind, group := p.group(ahead, quiet)
	for g := group; g >= 0; g-- {
		if len(p[kind][g]) >= errorsMin || g == 0 && len(p[kind][g]) >= 2 {
			wider := math.Sqrt(float64(leadGroups[group]) / float64(leadGroups[g]))
			if len(p[kind][g]) < errorsMin { // a few errors tell of ordinary ones only
				wider *= 1 + 6/float64(len(p[kind][g]))
			}
			return spread{p[kind][g], wider}
		}
	}
	return spread{sample{-0.5, -0.25, 0, 0.25, 0.5}, 2} // of a count that comes about by chance: a deviation of a half
}

// quantile returns the error that a share of the future ones is below. Of n errors that are known, the next one is as likely
// to fall into each of the n+1 gaps between them: so the quantiles are taken a little further out.
func (s spread) quantile(share float64) float64 {
	n := float64(len(s.sample))
	out := min(max(0, 0.5+(share-0.5)*(n+1)/n), 1)
	return s.wider * stat.Quantile(out, stat.LinInterp, s.sample, nil)
}

// compare returns how wrong a forecast was.
func compare(days []Day, peaks []float64) Error {
	e := Error{Days: len(peaks)}
	sum := 0.0
	for i, peak := range peaks {
		e.Absolute += math.Abs(days[i].Peak - peak)
		e.Bias += days[i].Peak - peak
		sum += peak
		if days[i].P50.holds(peak) {
			e.Within50++
		}
		if days[i].P90.holds(peak) {
			e.Within90++
		}
	}
	if sum > 0 {
		e.Relative = e.Absolute / sum
	}
	n := float64(max(1, len(peaks)))
	e.Absolute, e.Bias, e.Within50, e.Within90 = e.Absolute/n, e.Bias/n, e.Within50/n, e.Within90/n
	return e
}

func (b Band) holds(peak float64) bool { return peak >= b.Low && peak <= b.High }

// ErlangB returns the share of requests that find all seats taken, when they come at random and are not repeated. load is
// how many seats would be in use on average if there were always one.
//
// Source: A. K. Erlang, 1917; the recursion is in every textbook on teletraffic.
func ErlangB(seats int, load float64) float64 {
	blocked := 1.0
	for n := 1; n <= seats; n++ {
		blocked = load * blocked / (float64(n) + load*blocked)
	}
	return blocked
}

// SeatsFor returns the least number of seats with which less than a share of requests is denied at this load.
func SeatsFor(load, share float64) int {
	blocked, seats := 1.0, 0
	for blocked >= share {
		seats++
		blocked = load * blocked / (float64(seats) + load*blocked)
	}
	return seats
}

// medianAbsolute returns the median of absolute values; 0 when there are none.
func medianAbsolute(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	absolute := make([]float64, len(values))
	for i, v := range values {
		absolute[i] = math.Abs(v)
	}
	slices.Sort(absolute)
	return stat.Quantile(0.5, stat.LinInterp, absolute, nil)
}

func asCondition(err error, condition *mat.Condition) bool { return errors.As(err, condition) }
