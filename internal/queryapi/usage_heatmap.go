package queryapi

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"
	_ "time/tzdata" // a time zone may be asked for wherever the service runs

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// heatmap is api.UsageHeatmap.
type heatmap struct {
	Items    []api.UsageCell `json:"items"`
	TimeZone string          `json:"time_zone"`
	From     time.Time       `json:"from"`
	Until    time.Time       `json:"until"`
	reflects
}

const (
	heatmapSpan = 28 * 24 * time.Hour
	// heatmapMinutesMax is the longest time for which minutes are read, where the hours of a time zone are not those of UTC.
	heatmapMinutesMax = 92 * 24 * time.Hour
)

// usageHeatmap answers how many seats are in use by the day of the week and the hour, by the clocks of a time zone.
func (a *API) usageHeatmap(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	q := usageOf(tenant, p)
	zone := zoneOf(p)
	if err := p.done(); err != nil {
		return err
	}
	reply := heatmap{TimeZone: zone.String()}
	reply.reflects, err = a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, _ domain.TenantID) error {
		if err := q.mustExist(ctx, tx); err != nil {
			return err
		}
		until, err := a.usageUntil(ctx, tx, tenant)
		if err != nil {
			return err
		}
		if q.to.IsZero() || q.to.After(until) {
			q.to = until
		}
		if q.from.IsZero() {
			q.from = q.to.Add(-heatmapSpan)
		}
		q.bucket = usageBuckets[1]
		if !wholeHours(zone, q.from) || !wholeHours(zone, q.to) {
			q.bucket = usageBuckets[0]
			if q.to.Sub(q.from) > heatmapMinutesMax {
				return serve.Invalid("from", "from is more than 92 days before to; where the hours of a time zone are not those of UTC that is the most.")
			}
		}
		q.from, q.to = q.from.Truncate(q.bucket.length), q.to.Truncate(q.bucket.length)
		reply.From, reply.Until = q.from.UTC(), q.to.UTC()
		cells := &heatCells{}
		if err := q.eachBucket(ctx, tx, until, func(b seenBucket) { cells.add(b, zone) }); err != nil {
			return err
		}
		reply.Items = cells.items()
		return nil
	})
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, reply)
}

// zoneOf reads the parameter time_zone: a name of the IANA; UTC when it is not there.
func zoneOf(p *params) *time.Location {
	name := p.text("time_zone")
	if name == "Local" {
		name = "-" // is no name of a zone
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		p.invalid("time_zone", fmt.Sprintf("%q is no time zone; write one such as Europe/Berlin.", name))
		return time.UTC
	}
	return zone
}

func wholeHours(zone *time.Location, at time.Time) bool {
	_, offset := at.In(zone).Zone()
	return offset%3600 == 0
}

// seenBucket is a bucket of a series, with what went on from the one before. Its times are Unix seconds.
type seenBucket struct {
	start, length int64
	most          int
	seatMillis    int64
	acquires      int
	denials       map[string]int
}

const bucketsSelect = `
	SELECT extract(epoch FROM start)::bigint, (extract(epoch FROM at) * 1000)::bigint, seats_max, seats_last, seat_ms, acquires, denials
	FROM %s
	WHERE tenant_id = $1 AND license_id = $2 AND start < $4 AND start >= coalesce(
		(SELECT max(start) FROM %[1]s WHERE tenant_id = $1 AND license_id = $2 AND start <= $3), $3)
	ORDER BY start`

// eachBucket calls f with each whole bucket from q.from to q.to, both of which are where one begins; those before the first
// event are left out. It reads the rows that are there, in the order of the index, and goes on from each to the next.
func (q usageQuery) eachBucket(ctx context.Context, tx pgx.Tx, until time.Time, f func(seenBucket)) error {
	length := int64(q.bucket.length / time.Second)
	from, to := q.from.Unix(), earlier(q.to, until.Truncate(q.bucket.length)).Unix()
	rows, err := tx.Query(ctx, fmt.Sprintf(bucketsSelect, q.bucket.table), q.tenant, q.license, q.from, q.to)
	if err != nil {
		return err
	}
	// was is the row before; its bucket is told when it is known what came next.
	var was, now struct {
		start, at, millis    int64
		most, last, acquires int
		denials              map[string]int
	}
	tell := func(end int64) { // was, and the silence up to end
		if was.start == 0 { // there is none
			return
		}
		if was.start >= from && was.start < to {
			rest := (was.start+length)*1000 - was.at
			f(seenBucket{was.start, length, was.most, was.millis + int64(was.last)*rest, was.acquires, was.denials})
		}
		for start := max(was.start+length, from); start < end; start += length {
			f(seenBucket{start: start, length: length, most: was.last, seatMillis: int64(was.last) * length * 1000})
		}
	}
	_, err = pgx.ForEachRow(rows, []any{&now.start, &now.at, &now.most, &now.last, &now.millis, &now.acquires, &now.denials}, func() error {
		tell(min(now.start, to))
		was = now
		now.denials = nil
		return nil
	})
	tell(to)
	return err
}

// heatCells collects what was in use, by weekday from Monday and hour.
type heatCells [7][24]struct {
	seatMillis, millis int64
	most               int
}

func (c *heatCells) add(b seenBucket, zone *time.Location) {
	local := time.Unix(b.start, 0).In(zone)
	cell := &c[(int(local.Weekday())+6)%7][local.Hour()]
	cell.seatMillis += b.seatMillis
	cell.millis += b.length * 1000
	cell.most = max(cell.most, b.most)
}

func (c *heatCells) items() []api.UsageCell {
	items := []api.UsageCell{}
	for day := range c {
		for hour, cell := range c[day] {
			mean := 0.0
			if cell.millis > 0 {
				mean = math.Round(100*float64(cell.seatMillis)/float64(cell.millis)) / 100
			}
			items = append(items, api.UsageCell{Weekday: day + 1, Hour: hour, Mean: mean, Max: cell.most})
		}
	}
	return items
}
