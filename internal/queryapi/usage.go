package queryapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/internal/timeline"
)

// usageBucket is a length of buckets.
type usageBucket struct {
	name   string
	length time.Duration
	table  string
	span   time.Duration // what is shown when nobody says from when
}

var usageBuckets = []usageBucket{
	{"minute", time.Minute, "read.usage_minutes", 3 * time.Hour},
	{"hour", time.Hour, "read.usage_hours", 7 * 24 * time.Hour},
	{"day", 24 * time.Hour, "read.usage_days", 90 * 24 * time.Hour},
}

// usageBucketsMax is how many buckets one request may ask for.
const usageBucketsMax = 10_000

// usageQuery is what the usage calls are asked for.
type usageQuery struct {
	tenant   domain.TenantID
	license  string // empty: all
	by       string // license, user, machine or feature; empty: one series, of the license or of the tenant
	bucket   usageBucket
	from, to time.Time // zero: not said
}

// usageOf reads the parameters from, to and license.
func usageOf(tenant domain.TenantID, p *params) usageQuery {
	q := usageQuery{tenant: tenant, license: p.text("license"), from: p.instant("from"), to: p.instant("to")}
	if !q.from.IsZero() && !q.to.IsZero() && !q.from.Before(q.to) {
		p.invalid("to", "to must be after from.")
	}
	return q
}

func (a *API) listUsage(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	p := paramsOf(r)
	q := usageOf(tenant, p)
	q.by = p.oneOf("by", "license", "user", "machine", "feature")
	q.bucket = usageBuckets[2]
	bucket := p.oneOf("bucket", "minute", "hour", "day")
	for _, b := range usageBuckets {
		if b.name == bucket {
			q.bucket = b
		}
	}
	l, source := usageList(q), a.usageSource(q)
	if q.by != "" && q.by != "license" {
		if q.bucket.name == "minute" {
			p.invalid("bucket", "bucket must be hour or day when by is "+q.by+": who holds what is counted by the hour.")
		}
		l, source = holdersList(q), a.holdersSource(q)
	}
	var until time.Time
	return serveList(a, w, r, l, p, listing[api.UsageBucket]{
		read: a.ofTenant(w, r),
		before: func(ctx context.Context, tx pgx.Tx, _ *conditions) (err error) {
			if until, err = a.usageUntil(ctx, tx, tenant); err != nil {
				return err
			}
			return q.mustExist(ctx, tx)
		},
		source: source,
		reply: func(p page[api.UsageBucket]) any {
			return usagePage{page: p, Until: until, Bucket: q.bucket.name}
		},
	})
}

// usagePage is api.UsageList.
type usagePage struct {
	page[api.UsageBucket] `json:",inline"`
	Bucket                string    `json:"bucket"`
	Until                 time.Time `json:"until"`
}

// mustExist refuses a license that the tenant does not have. Errors: 404 license_not_found.
func (q usageQuery) mustExist(ctx context.Context, tx pgx.Tx) error {
	if q.license == "" {
		return nil
	}
	return mustHave(ctx, tx, q.tenant, q.license)
}

const usageUntilSelect = `SELECT commit_time FROM read.checkpoints WHERE projection = 'usage' AND ledger_id = $1 AND partition = $2`

// usageUntil returns the time of the last commit that usage reflects: after that nobody knows yet.
func (a *API) usageUntil(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) (time.Time, error) {
	var until *time.Time
	err := tx.QueryRow(ctx, usageUntilSelect, a.ledger.ID, a.ledger.PartitionOf(tenant)).Scan(&until)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && until == nil {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return until.UTC(), nil
}

// series returns the first and the last bucket of the request, as far as something is known; ok is false when nothing is.
// Errors: 400 when there are too many.
func (q usageQuery) series(first, until time.Time) (from, last time.Time, ok bool, err error) {
	to := q.to
	if to.IsZero() || to.After(until) {
		to = until.Add(1)
	}
	if from = q.from; from.IsZero() {
		from = to.Add(-q.bucket.span)
	}
	if from.Before(first) {
		from = first
	}
	from, last = from.Truncate(q.bucket.length), to.Add(-1).Truncate(q.bucket.length)
	if last.Sub(from)/q.bucket.length >= usageBucketsMax {
		err = serve.Invalid("from", fmt.Sprintf("from is more than %d %ss before to; ask for less, or for a longer bucket.", usageBucketsMax, q.bucket.name))
	}
	return from, last, !first.IsZero() && !last.Before(from), err
}

// usageAccounts is what a series is of: the tenant, one license, or each. $1 is the tenant and $2 the license.
func (q usageQuery) accounts() string {
	switch {
	case q.by == "":
		return `(SELECT $1::text AS tenant_id, $2::text AS license_id)`
	case q.license == "":
		return `(SELECT tenant_id, license_id FROM read.usage_licenses WHERE tenant_id = $1 AND $2 = '')`
	}
	return `(SELECT tenant_id, license_id FROM read.usage_licenses WHERE tenant_id = $1 AND license_id = $2)`
}

// usageSource makes the rows of a series: each bucket, also those in which nothing happened, with the row that it goes on
// from. No more buckets than the page needs are made; each has a row at least, because the series begins with the first.
func (a *API) usageSource(q usageQuery) func(context.Context, pgx.Tx, *conditions, sorted, []string, int) (string, error) {
	return func(ctx context.Context, tx pgx.Tx, where *conditions, s sorted, after []string, limit int) (string, error) {
		until, err := a.usageUntil(ctx, tx, q.tenant)
		if err != nil {
			return "", err
		}
		var firsts []time.Time
		err = tx.QueryRow(ctx, `SELECT coalesce(array_agg(u.start ORDER BY u.start), '{}') FROM `+q.accounts()+` a, LATERAL (
			SELECT start FROM `+q.bucket.table+` u WHERE u.tenant_id = a.tenant_id AND u.license_id = a.license_id ORDER BY start LIMIT 1) u`,
			q.tenant, q.license).Scan(&firsts)
		if err != nil {
			return "", err
		}
		var first time.Time
		if len(firsts) > 0 {
			first = firsts[0]
		}
		from, last, ok, err := q.series(first, until)
		if err != nil {
			return "", err
		}
		low, high, step := from.Unix(), last.Unix(), int64(q.bucket.length/time.Second)
		if !ok {
			low, high = 1, 0
		}
		if after != nil {
			at, err := strconv.ParseInt(after[0], 10, 64)
			if err != nil {
				return "", err
			}
			if s.descending {
				high = min(high, at)
			} else {
				low = max(low, at)
			}
		}
		if limit > 0 && s.descending {
			low = max(low, high-int64(limit)*step)
		} else if limit > 0 {
			// Each account that is there by then has a row in every bucket from there on; of the first bucket some are on the page before.
			each := 0
			for each < len(firsts) && firsts[each].Unix() <= low {
				each++
			}
			high = min(high, low+int64(limit/max(1, each)+1)*step)
		}
		return usageRows(q, where, low, high, until), nil
	}
}

// usageRows is what stands behind FROM in a list of buckets.
func usageRows(q usageQuery, where *conditions, low, high int64, until time.Time) string {
	// The arguments of accounts come first; the place of the page, if any, was added before.
	tenant, license := where.arg(q.tenant), where.arg(q.license)
	accounts := strings.NewReplacer("$1", tenant, "$2", license).Replace(q.accounts())
	step := int64(q.bucket.length / time.Second)
	return fmt.Sprintf(`(SELECT n, to_timestamp(n) AS start, least(to_timestamp(n + %[1]s), %[2]s) AS until FROM generate_series(%[3]s::bigint, %[4]s, %[1]s) n) g
		CROSS JOIN %[5]s a
		CROSS JOIN LATERAL (
			SELECT * FROM %[6]s u WHERE u.tenant_id = a.tenant_id AND u.license_id = a.license_id AND u.start <= g.start
			ORDER BY u.start DESC LIMIT 1) u
		CROSS JOIN LATERAL (
			SELECT u.start = g.start AS here, (extract(epoch FROM g.until - greatest(u.at, g.start)) * 1000)::bigint AS ms) c`,
		where.arg(step)+"::bigint", where.arg(until)+"::timestamptz", where.arg(low), where.arg(high), accounts, q.bucket.table)
}

// usageColumns: what happened is that of the bucket's own row; what is so goes on from an older one.
const usageColumns = `g.start, a.license_id, u.start,
	CASE WHEN c.here THEN u.seats_min ELSE u.seats_last END, CASE WHEN c.here THEN u.seats_max ELSE u.seats_last END, u.seats_last,
	CASE WHEN c.here THEN u.seat_ms ELSE 0 END + u.seats_last * c.ms, u.seats,
	CASE WHEN c.here THEN u.over_max ELSE u.over_last END, CASE WHEN c.here THEN u.over_ms ELSE 0 END + u.over_last * c.ms,
	CASE WHEN c.here THEN u.acquires ELSE 0 END, CASE WHEN c.here THEN u.denials END`

func usageList(q usageQuery) list[api.UsageBucket] {
	return list[api.UsageBucket]{
		name:    "usage",
		columns: usageColumns,
		orders:  []order{{"start", []key{{"g.n", "bigint"}, {"a.license_id", "text"}}}},
		sort:    "start",
		scan: func(row pgx.CollectableRow, more ...any) (api.UsageBucket, error) {
			var b api.UsageBucket
			var license string
			var changed time.Time
			var seats, overMost int
			var seatMillis, overMillis int64
			err := row.Scan(append([]any{
				&b.Start, &license, &changed, &b.Min, &b.Max, &b.Last, &seatMillis, &seats, &overMost, &overMillis, &b.Acquires, &b.DenialsByReason,
			}, more...)...)
			b.Seats, b.OverMax = &seats, &overMost
			b.SeatSeconds, b.OverSeconds = seconds(seatMillis), new(seconds(overMillis))
			if license != "" {
				b.License = &license
			}
			q.finish(&b, license, "", changed)
			return b, err
		},
		fields: slices.Concat([]field[api.UsageBucket]{
			{"start", func(b api.UsageBucket) any { return b.Start }},
			{"license", func(b api.UsageBucket) any { return b.License }},
		}, usageSeats, []field[api.UsageBucket]{
			{"seats", func(b api.UsageBucket) any { return b.Seats }},
			{"over_max", func(b api.UsageBucket) any { return b.OverMax }},
			{"over_seconds", func(b api.UsageBucket) any { return decimal(*b.OverSeconds) }},
		}, usageCounts),
	}
}

// usageSeats and usageCounts are columns of every CSV of usage, behind what it is of, and at the end.
var usageSeats = []field[api.UsageBucket]{
	{"min", func(b api.UsageBucket) any { return b.Min }},
	{"max", func(b api.UsageBucket) any { return b.Max }},
	{"last", func(b api.UsageBucket) any { return b.Last }},
	{"seat_seconds", func(b api.UsageBucket) any { return decimal(b.SeatSeconds) }},
}

var usageCounts = []field[api.UsageBucket]{
	{"acquires", func(b api.UsageBucket) any { return b.Acquires }},
	{"denials", func(b api.UsageBucket) any { return b.Denials }},
	{"denials_no_seat_available", func(b api.UsageBucket) any { return b.DenialsByReason[string(domain.NoSeatAvailable)] }},
}

// finish fills in what follows from the rest. The holder is a user, a machine or a feature; empty when the bucket is of all. changed is when the bucket began in which the number of seats in use last
// changed.
func (q usageQuery) finish(b *api.UsageBucket, license, holder string, changed time.Time) {
	b.Start = b.Start.UTC()
	if b.DenialsByReason == nil {
		b.DenialsByReason = map[string]int{}
	}
	for _, n := range b.DenialsByReason {
		b.Denials += n
	}
	end := b.Start.Add(q.bucket.length)
	between := func(from time.Time, terms ...string) string {
		return timeline.Link(q.tenant, append(terms, "license", license, q.by, holder, "after", from.UTC().Format(time.RFC3339), "before", end.Format(time.RFC3339))...)
	}
	b.Links = api.UsageLinks{
		Seats:    between(changed, "type", "seat.*", "type", "license.*", "-type", "seat.denied"),
		Acquires: between(b.Start, "type", "seat.acquired"),
		Denials:  between(b.Start, "type", "seat.denied"),
	}
}

func seconds(millis int64) float64 { return float64(millis) / 1000 }

// decimal writes a number without an exponent.
func decimal(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// holdersRows makes the hours of users, machines or features from those that are stored, and for who held something before the first
// and nothing happened to since, one more. What was so last goes on up to the hour goes_on: at next something else was so. It takes the
// hours from $day, where a day begins, to before $end, and knows nothing after $until.
const holdersRows = `(
		SELECT h.*, coalesce(lead(h.start) OVER of_one - interval '1 hour', least($end - interval '1 hour', $until)) AS goes_on,
			coalesce(lead(h.start) OVER of_one, least($end, $until)) AS next
		FROM (
			SELECT h.license_id, h.key, h.start, h.at, h.seats_min, h.seats_max, h.seats_last, h.seat_ms, h.acquires, h.denials
			FROM read.usage_holders h
			WHERE h.tenant_id = $tenant AND h.by = $by AND h.start >= $day AND h.start < $end AND ($license = '' OR h.license_id = $license)
			UNION ALL
			SELECT o.license_id, o.key, $day, o.at, o.seats_last, o.seats_last, o.seats_last, 0, 0, NULL
			FROM (
				SELECT DISTINCT l.license_id, k.key
				FROM read.usage_leases l, unnest(CASE $by WHEN 'user' THEN ARRAY[l."user"] WHEN 'machine' THEN ARRAY[l.machine] ELSE l.features END) AS k (key)
				WHERE l.tenant_id = $tenant AND ($license = '' OR l.license_id = $license)
			) l CROSS JOIN LATERAL (
				SELECT * FROM read.usage_holders h WHERE h.tenant_id = $tenant AND h.by = $by AND h.license_id = l.license_id AND h.key = l.key
				ORDER BY h.start DESC LIMIT 1
			) o
			WHERE o.seats_last > 0 AND o.start < $day AND $day <= $until
		) h
		WINDOW of_one AS (PARTITION BY h.license_id, h.key ORDER BY h.start)
	) h`

// holdersBuckets makes the buckets of holdersRows that begin from $from on: each hour, and with a step of a day all of a day. Whoever held
// something as a day began has a row of its first hour; else nothing was in use then.
const holdersBuckets = `(
		SELECT g.start, h.license_id, h.key, least(g.start, min(h.at)) AS changed,
			least(min(CASE WHEN c.here THEN h.seats_min ELSE h.seats_last END), CASE WHEN min(h.start) > g.start THEN 0 END) AS seats_min,
			max(CASE WHEN c.here THEN h.seats_max ELSE h.seats_last END) AS seats_max, (array_agg(h.seats_last ORDER BY h.start DESC))[1] AS seats_last,
			sum(CASE WHEN c.here THEN h.seat_ms ELSE 0 END + h.seats_last * c.ms)::bigint AS seat_ms,
			sum(CASE WHEN c.here THEN h.acquires ELSE 0 END) AS acquires, jsonb_agg(h.denials) FILTER (WHERE c.here AND h.denials IS NOT NULL) AS denials
		FROM ` + holdersRows + `
			CROSS JOIN LATERAL generate_series(date_bin($step, h.start, 'epoch'), CASE WHEN h.seats_last > 0 THEN h.goes_on ELSE h.start END, $step) AS g (start)
			CROSS JOIN LATERAL (SELECT g.start = date_bin($step, h.start, 'epoch') AS here,
				(extract(epoch FROM least(g.start + $step, h.next) - greatest(g.start, h.start, h.at)) * 1000)::bigint AS ms) c
		WHERE g.start >= $from
		GROUP BY g.start, h.license_id, h.key
	) h`

// holdersSQL returns a text with holdersRows, its names replaced by the places of their arguments. The buckets are those from one to another.
func (q usageQuery) holdersSQL(text string, where *conditions, from, last, until time.Time) string {
	for _, named := range []struct {
		name, kind string
		value      any
	}{
		{"$tenant", "text", q.tenant},
		{"$by", "text", q.by},
		{"$license", "text", q.license},
		{"$day", "timestamptz", from.Truncate(24 * time.Hour)},
		{"$from", "timestamptz", from},
		{"$end", "timestamptz", last.Add(q.bucket.length)},
		{"$until", "timestamptz", until},
		{"$step", "interval", q.bucket.length},
	} {
		if strings.Contains(text, named.name) { // Postgres refuses an argument that no text names
			text = strings.ReplaceAll(text, named.name, where.arg(named.value)+"::"+named.kind)
		}
	}
	return text
}

// holdersSelect finds the hour up to which, or with DESC down to which, there are more rows than $6.
const holdersSelect = `
	SELECT start FROM read.usage_holders
	WHERE tenant_id = $1 AND by = $2 AND start >= $3 AND start < $4 AND ($5 = '' OR license_id = $5)
	ORDER BY start %s OFFSET $6 LIMIT 1`

// holdersSource makes no more buckets than the page needs: each hour that is stored has one, and 24 have a day at least.
func (a *API) holdersSource(q usageQuery) func(context.Context, pgx.Tx, *conditions, sorted, []string, int) (string, error) {
	return func(ctx context.Context, tx pgx.Tx, where *conditions, s sorted, after []string, limit int) (string, error) {
		until, err := a.usageUntil(ctx, tx, q.tenant)
		if err != nil {
			return "", err
		}
		from, last, _, err := q.series(time.Unix(0, 0), until)
		if err != nil {
			return "", err
		}
		low, end := from, last.Add(q.bucket.length) // of the buckets that are on no page before
		if after != nil {
			at, err := strconv.ParseInt(after[0], 10, 64)
			if err != nil {
				return "", err
			}
			if place := time.Unix(at, 0).UTC(); s.descending {
				last, end = place, place
			} else {
				from, low = place, place.Add(q.bucket.length)
			}
		}
		if limit > 0 {
			direction := ""
			if s.descending {
				direction = "DESC"
			}
			var enough time.Time
			err := tx.QueryRow(ctx, fmt.Sprintf(holdersSelect, direction), q.tenant, q.by, low, end, q.license, limit*int(q.bucket.length/time.Hour)).Scan(&enough)
			switch enough = enough.UTC().Truncate(q.bucket.length); {
			case errors.Is(err, pgx.ErrNoRows): // the page is the last
			case err != nil:
				return "", err
			case s.descending:
				from = enough
			default:
				last = enough
			}
		}
		return q.holdersSQL(holdersBuckets+` LEFT JOIN read.directory d ON d.tenant_id = $tenant AND d.pseudonym = h.key`, where, from, last, until), nil
	}
}

func holdersList(q usageQuery) list[api.UsageBucket] {
	return list[api.UsageBucket]{
		name:    "usage-by-" + q.by,
		columns: `h.start, h.license_id, h.key, d.text, h.changed, h.seats_min, h.seats_max, h.seats_last, h.seat_ms, h.acquires, h.denials`,
		orders:  []order{{"start", []key{{"extract(epoch FROM h.start)::bigint", "bigint"}, {"h.license_id", "text"}, {"h.key", "text"}}}},
		sort:    "start",
		scan: func(row pgx.CollectableRow, more ...any) (api.UsageBucket, error) {
			var b api.UsageBucket
			var license, id string
			var name *string
			var changed time.Time
			var millis int64
			var denials []map[string]int // of each hour with any
			err := row.Scan(append([]any{&b.Start, &license, &id, &name, &changed, &b.Min, &b.Max, &b.Last, &millis, &b.Acquires, &denials}, more...)...)
			b.SeatSeconds, b.License, b.Id, b.Name = seconds(millis), &license, &id, new(q.nameOf(id, name))
			b.DenialsByReason = map[string]int{}
			for _, hour := range denials {
				for reason, n := range hour {
					b.DenialsByReason[reason] += n
				}
			}
			q.finish(&b, license, id, changed)
			return b, err
		},
		fields: slices.Concat([]field[api.UsageBucket]{
			{"start", func(b api.UsageBucket) any { return b.Start }},
			{"license", func(b api.UsageBucket) any { return b.License }},
			{q.by, func(b api.UsageBucket) any { return b.Name }},
			{"id", func(b api.UsageBucket) any { return b.Id }},
		}, usageSeats, usageCounts),
	}
}

// nameOf returns the text of a key; that of somebody who was forgotten is empty.
func (q usageQuery) nameOf(id string, name *string) string {
	switch {
	case q.by == "feature":
		return id
	case name == nil:
		return ""
	}
	return *name
}
