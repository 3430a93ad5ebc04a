package forecast

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// model is a fit of daily peaks: log(1+peak) = level + slope · days + weekday.
type model struct {
	slope   float64    // a day, at the end of the series
	weekday [7]float64 // level of each day of the week at the end of the series, as a logarithm
	first   int        // the day of the week, 0 to 6, of the day after the series
}

const (
	fitDays  = 112  // how much of the past is looked at
	halfLife = 28.0 // a day so long ago counts half
	damping  = 0.97 // how much of a day's growth the next one has: a trend levels off after a month or so
	// rounds of the fit: in each, days that were far off in the round before count less, or not at all.
	rounds = 8
	// slopePrior pulls the slope of a short series to none: it is the weight of the belief that it is none, in squared days.
	slopePrior = 2000.0
)

// fit fits a series, oldest first; first is the day of the week of its first day. It has to have 14 days at least.
func fit(series []float64, first int) model {
	first = (first + max(0, len(series)-fitDays)) % 7
	series = series[max(0, len(series)-fitDays):]
	n := len(series)
	y := make([]float64, n)
	weights := make([]float64, n)
	for i, peak := range series {
		y[i] = math.Log1p(peak)
		weights[i] = math.Exp2(float64(i-n) / halfLife)
	}
	var m model
	var residuals []float64
	for range rounds {
		m = solve(y, weights, residuals, first)
		residuals = make([]float64, n)
		for i := range y {
			residuals[i] = y[i] - m.weekday[(first+i)%7] - m.slope*float64(i-n)
		}
	}
	m.first = (first + n) % 7
	return m
}

// solve is one weighted least squares. Days with a large residual count less, and those with a very large one not at all:
// Tukey's biweight. Two weeks of Christmas change nothing then, at the price that a real step is believed after some weeks only.
func solve(y, weights, residuals []float64, first int) model {
	n := len(y)
	scale := 4.685 * max(0.05, 1.4826*medianAbsolute(residuals)) // 4.685 is customary: 95 % efficient where nothing is strange
	rows := mat.NewDense(n+1, 8, nil)
	right := mat.NewVecDense(n+1, nil)
	for i := range y {
		w := weights[i]
		if residuals != nil {
			off := min(1, math.Abs(residuals[i])/scale)
			w *= (1 - off*off) * (1 - off*off)
		}
		w = math.Sqrt(w)
		rows.Set(i, (first+i)%7, w)
		rows.Set(i, 7, w*float64(i-n))
		right.SetVec(i, w*y[i])
	}
	rows.Set(n, 7, math.Sqrt(slopePrior))
	var found mat.VecDense
	if err := found.SolveVec(rows, right); err != nil {
		// Ill-conditioned is not wrong, and cannot be worse with 14 days or more: each day of the week is there twice.
		var condition mat.Condition
		if !asCondition(err, &condition) {
			panic(err)
		}
	}
	m := model{slope: found.AtVec(7)}
	for day := range m.weekday {
		m.weekday[day] = found.AtVec(day)
	}
	return m
}

// at returns the peak of the day that is so many days after the series: 0 is the next one.
func (m model) at(ahead int) float64 {
	days := (1 - math.Pow(damping, float64(ahead+1))) / (1 - damping) // a geometric sum
	return math.Max(0, math.Expm1(m.weekday[(m.first+ahead)%7]+m.slope*days))
}

// quiet reports whether that day is one of little use, such as a Sunday: its errors are of another kind.
func (m model) quiet(ahead int) bool {
	most := m.weekday[0]
	for _, level := range m.weekday {
		most = math.Max(most, level)
	}
	return math.Expm1(m.weekday[(m.first+ahead)%7]) < math.Expm1(most)/2
}
