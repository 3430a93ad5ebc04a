package queryapi

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/forecast"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

const (
	forecastPast    = 365 * 24 * time.Hour // how much of the past is read
	recently        = 28 * 24 * time.Hour  // what counts as the present load
	deniedShareGoal = 0.01
)

// forecastUsage answers how many seats will be wanted.
func (a *API) forecastUsage(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	q := usageQuery{tenant: tenant, license: p.text("license")}
	horizon := p.whole("horizon", 1, forecast.HorizonMax, 30)
	if err := p.done(); err != nil {
		return err
	}
	var known demand
	reflected, err := a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, _ domain.TenantID) error {
		if err := q.mustExist(ctx, tx); err != nil {
			return err
		}
		until, err := a.usageUntil(ctx, tx, tenant)
		if err != nil {
			return err
		}
		known, err = q.demand(ctx, tx, until)
		return err
	})
	if err != nil {
		return err
	}
	reply := known.forecast(horizon)
	reply.Position, reply.AgeSeconds = reflected.Position, reflected.AgeSeconds
	return serve.Reply(w, http.StatusOK, reply)
}

// demand is what was wanted.
type demand struct {
	first    time.Time // day of peaks[0], UTC
	peaks    []float64 // by day, whole days only: seats in use at most, and the users who were refused
	seats    int       // now
	busiest  []float64 // of recent days with use, the seats in use on average in the busiest hour
	acquires int       // recently
	noSeat   int       // refusals for lack of a seat, recently
}

// deniedUsersSelect counts those who were refused for lack of a seat, by day. One who was refused by two licenses wanted two.
const deniedUsersSelect = `
	SELECT extract(epoch FROM date_bin('24 hours', start, 'epoch'))::bigint, count(DISTINCT (license_id, key))
	FROM read.usage_holders
	WHERE tenant_id = $1 AND by = 'user' AND start >= $2 AND denials IS NOT NULL AND denials ? $3 AND ($4 = '' OR license_id = $4)
	GROUP BY 1`

// demand reads what was wanted of a license, or of all, up to the last whole day.
func (q usageQuery) demand(ctx context.Context, tx pgx.Tx, until time.Time) (demand, error) {
	var d demand
	err := tx.QueryRow(ctx, `SELECT coalesce((SELECT seats FROM read.usage_days WHERE tenant_id = $1 AND license_id = $2 ORDER BY start DESC LIMIT 1), 0)`,
		q.tenant, q.license).Scan(&d.seats)
	if err != nil {
		return d, err
	}
	q.bucket = usageBuckets[2]
	q.to = until.Truncate(q.bucket.length)
	q.from = q.to.Add(-forecastPast)
	rows, err := tx.Query(ctx, deniedUsersSelect, q.tenant, q.from, string(domain.NoSeatAvailable), q.license)
	if err != nil {
		return d, err
	}
	denied := map[int64]int{}
	var day int64
	var users int
	if _, err := pgx.ForEachRow(rows, []any{&day, &users}, func() error { denied[day] = users; return nil }); err != nil {
		return d, err
	}
	recent := q.to.Add(-recently).Unix()
	err = q.eachBucket(ctx, tx, until, func(b seenBucket) {
		if len(d.peaks) == 0 {
			d.first = time.Unix(b.start, 0).UTC()
		}
		d.peaks = append(d.peaks, float64(b.most+denied[b.start]))
		if b.start >= recent {
			d.acquires += b.acquires
			d.noSeat += b.denials[string(domain.NoSeatAvailable)]
		}
	})
	if err != nil {
		return d, err
	}
	q.bucket, q.from = usageBuckets[1], q.to.Add(-recently)
	busiest := map[int64]float64{}
	err = q.eachBucket(ctx, tx, until, func(b seenBucket) {
		day := b.start - b.start%86400
		busiest[day] = max(busiest[day], float64(b.seatMillis)/float64(b.length*1000))
	})
	for _, load := range busiest {
		if load > 0 {
			d.busiest = append(d.busiest, load)
		}
	}
	slices.Sort(d.busiest)
	return d, err
}

// forecast says what will be wanted.
func (d demand) forecast(horizon int) api.UsageForecast {
	reply := api.UsageForecast{DaysKnown: len(d.peaks), DaysNeeded: forecast.DaysMin, Seats: d.seats, Days: []api.ForecastDay{}}
	if d.acquires+d.noSeat > 0 {
		reply.DeniedShare = hundredths(100*float64(d.noSeat)/float64(d.acquires+d.noSeat)) / 100
	}
	if len(d.peaks) < forecast.DaysMin {
		reply.Note = new(fmt.Sprintf("There are %d whole days of history; a forecast needs %d.", len(d.peaks), forecast.DaysMin))
		return reply
	}
	next := d.first.AddDate(0, 0, len(d.peaks))
	f := forecast.New(d.peaks, int(d.first.Weekday()), horizon)
	most, mostLikely := 0.0, 0.0
	for i, day := range f.Days {
		shown := api.ForecastDay{
			Date: next.AddDate(0, 0, i).Format(time.DateOnly), Peak: hundredths(day.Peak),
			P50: api.ForecastBand{Low: hundredths(day.P50.Low), High: hundredths(day.P50.High)},
			P90: api.ForecastBand{Low: hundredths(day.P90.Low), High: hundredths(day.P90.High)},
		}
		reply.Days = append(reply.Days, shown)
		if reply.LimitReached == nil && shown.Peak >= float64(d.seats) {
			reply.LimitReached = &shown.Date
		}
		if reply.LimitReachedEarliest == nil && shown.P90.High >= float64(d.seats) {
			reply.LimitReachedEarliest = &shown.Date
		}
		most, mostLikely = max(most, day.P90.High), max(mostLikely, day.Peak)
	}
	reply.SeatsNeeded = new(d.seatsNeeded(f, most, mostLikely))
	if e := f.LastMonth; e != nil {
		reply.LastMonth = &api.ForecastError{
			Days: e.Days, Absolute: hundredths(e.Absolute), Relative: hundredths(100*e.Relative) / 100, Bias: hundredths(e.Bias),
			Within50: hundredths(100*e.Within50) / 100, Within90: hundredths(100*e.Within90) / 100,
		}
	}
	return reply
}

// seatsNeeded is with how many seats less than one acquire in a hundred will be denied. Two ways to reckon it, both rather too
// high than too low, and the lower of them: Erlang's formula for the busiest hour, as if everybody came at random; and the
// top of the band of 90 %, which is passed on one day in twenty, and then at the busiest time only.
func (d demand) seatsNeeded(f forecast.Forecast, most, mostLikely float64) int {
	if len(d.busiest) == 0 {
		return int(math.Ceil(most))
	}
	load := d.busiest[(len(d.busiest)-1)*9/10] // the busiest day is strange too often
	if asked := d.acquires + d.noSeat; asked > 0 {
		load /= max(0.5, 1-float64(d.noSeat)/float64(asked)) // what was refused is missing in it
	}
	week := 0.0
	for _, day := range f.Days[:min(7, len(f.Days))] {
		week = max(week, day.Peak)
	}
	if week > 0 {
		load *= max(1, mostLikely/week) // growth within the horizon
	}
	return min(forecast.SeatsFor(load, deniedShareGoal), int(math.Ceil(most)))
}

func hundredths(n float64) float64 { return math.Round(100*n) / 100 }
