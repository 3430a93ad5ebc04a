package queryapi

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/demo/history"
	"github.com/coditect-ai/license-ledger/internal/forecast"
	"github.com/coditect-ai/license-ledger/projections"
)

// silence lets time pass without anything happening to acme's licenses.
func (f *fixture) silence(t *testing.T, d time.Duration) {
	t.Helper()
	f.Now = f.Now.Truncate(time.Minute).Add(d)
	f.Do("acme", domain.RenameTenant{Name: fmt.Sprint("Acme at ", f.Now)})
	f.commit(t)
}

func TestUsageGoesOnThroughSilence(t *testing.T) {
	f := setup(t)
	f.Name("acme", "u_ada", eventstore.UserName, "ada")
	f.Name("acme", "m_1", eventstore.MachineName, "host-1")
	f.Create("acme", "lic_1", 1)
	f.Issue("acme", "lic_2", 5)
	f.Acquire("acme", "lic_1", "ada") // 9:00:00
	f.Acquire("acme", "lic_1", "bob") // denied
	f.commit(t)
	f.silence(t, 3*time.Hour)

	minutes := ok[api.UsageList](t, f, "/tenants/acme/usage?bucket=minute&license=lic_1&limit=1000")
	if n := len(minutes.Items); n != 180+1 || minutes.Until != time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) {
		t.Fatalf("%d minutes until %s", n, minutes.Until)
	}
	first, second, last := minutes.Items[0], minutes.Items[1], minutes.Items[180]
	if first.Min != 0 || first.Max != 1 || first.SeatSeconds != 60 || first.Acquires != 1 || first.DenialsByReason["no_seat_available"] != 1 {
		t.Errorf("the first minute is %+v", first)
	}
	if second.Min != 1 || second.Max != 1 || second.SeatSeconds != 60 || second.Acquires != 0 || second.Denials != 0 || *second.Seats != 1 {
		t.Errorf("the second minute is %+v", second)
	}
	if last.SeatSeconds != 0 || last.Max != 1 {
		t.Errorf("the minute that has just begun is %+v", last)
	}
	hours := ok[api.UsageList](t, f, "/tenants/acme/usage?bucket=hour&from=2026-03-01T10:30:00Z&to=2026-03-01T11:30:00Z")
	if len(hours.Items) != 2 || hours.Items[0].SeatSeconds != 3600 || *hours.Items[0].Seats != 6 || hours.Items[0].License != nil {
		t.Errorf("two hours of the tenant are %+v", hours.Items)
	}
	each := ok[api.UsageList](t, f, "/tenants/acme/usage?by=license")
	if len(each.Items) != 2 || *each.Items[0].License != "lic_1" || each.Items[0].SeatSeconds != 3*3600 || each.Items[1].SeatSeconds != 0 {
		t.Errorf("the licenses are %+v", each.Items)
	}

	// Who holds something still has it on each day since, though nothing is stored for them.
	f.silence(t, 50*time.Hour)
	users := ok[api.UsageList](t, f, "/tenants/acme/usage?by=user")
	var held []float64
	for _, b := range users.Items {
		if *b.Id == "u_ada" {
			held = append(held, b.SeatSeconds/3600)
		}
	}
	if fmt.Sprint(held) != "[15 24 14]" || *users.Items[0].Name != "ada" {
		t.Errorf("ada held %v in %+v", held, users.Items)
	}
	top := ok[api.UsageTop](t, f, "/tenants/acme/usage/top")
	if len(top.Items) != 2 || top.Items[0].Name != "ada" || top.Items[0].SeatSeconds != 53*3600 || top.Items[1].Denials != 1 {
		t.Errorf("the top is %+v", top.Items)
	}
	machines := ok[api.UsageTop](t, f, "/tenants/acme/usage/top?by=machine&license=lic_1&from=2026-03-02T00:00:00Z&to=2026-03-03T00:00:00Z")
	if len(machines.Items) != 1 || machines.Items[0].Name != "host-1" || machines.Items[0].SeatSeconds != 24*3600 {
		t.Errorf("the top machines are %+v", machines.Items)
	}
}

// Each figure can be followed to the events that made it.
func TestUsageLinksToItsEvents(t *testing.T) {
	f := setup(t)
	f.example(t)
	f.silence(t, 3*time.Minute)
	all := ok[api.UsageList](t, f, "/tenants/acme/usage?bucket=minute&license=lic_1").Items
	for link, events := range map[string]int{all[0].Links.Seats: 4, all[2].Links.Seats: 4, all[0].Links.Acquires: 2, all[2].Links.Acquires: 0, all[0].Links.Denials: 1} {
		if items := ok[api.Timeline](t, f, strings.TrimPrefix(link, "/api/v1")).Items; len(items) != events {
			t.Errorf("%s leads to %d events, not %d", link, len(items), events)
		}
	}
	b := all[2]
	for link, want := range map[string]string{
		b.Links.Seats:    "type:seat.* type:license.* -type:seat.denied license:lic_1 after:2026-03-01T09:00:00Z before:2026-03-01T09:03:00Z",
		b.Links.Acquires: "type:seat.acquired license:lic_1 after:2026-03-01T09:02:00Z before:2026-03-01T09:03:00Z",
		b.Links.Denials:  "type:seat.denied license:lic_1 after:2026-03-01T09:02:00Z before:2026-03-01T09:03:00Z",
	} {
		u, err := url.Parse(link)
		if err != nil || u.Path != "/api/v1/tenants/acme/timeline" || u.Query().Get("q") != want {
			t.Errorf("%s asks for %q, not %q", link, u.Query().Get("q"), want)
		}
		ok[api.Timeline](t, f, strings.TrimPrefix(link, "/api/v1"))
	}
}

// What is counted by machine leads to what happened on it, and what is counted by feature to who asked for it.
func TestUsageOfHoldersLinksToItsEvents(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 3)
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{Features: new([]string{"5 axes"})}})
	f.Do("acme", domain.AcquireSeat{License: "lic_1", Lease: "lse_of_ada", Holder: domain.Holder{User: "u_ada", Machine: "m_2"}, Features: []string{"5 axes"}})
	f.Acquire("acme", "lic_1", "bob")
	f.commit(t)
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_of_ada"}})
	f.commit(t)
	for by, of := range map[string]string{"user": "u_ada", "machine": "m_2", "feature": "5 axes"} {
		for _, bucket := range []string{"hour", "day"} {
			for _, b := range ok[api.UsageList](t, f, "/tenants/acme/usage?by="+by+"&bucket="+bucket).Items {
				if *b.Id != of {
					continue
				}
				want := map[string]int{b.Links.Seats: 2, b.Links.Acquires: 1, b.Links.Denials: 0}
				if by == "feature" {
					want[b.Links.Seats]++ // the license got it
				}
				for link, events := range want {
					if items := ok[api.Timeline](t, f, strings.TrimPrefix(link, "/api/v1")).Items; len(items) != events {
						t.Errorf("%s leads to %d events, not %d", link, len(items), events)
					}
				}
			}
		}
		for _, h := range ok[api.UsageTop](t, f, "/tenants/acme/usage/top?by="+by).Items {
			events := ok[api.Timeline](t, f, strings.TrimPrefix(h.Timeline, "/api/v1")).Items
			if h.Id == of && len(events) != map[string]int{"user": 2, "machine": 2, "feature": 3}[by] {
				t.Errorf("%s leads to %d events", h.Timeline, len(events))
			}
		}
	}
}

// Who is asked for by the hour or the day is answered what a count of the whole life of each lease gives.
func TestUsageOfHolders(t *testing.T) {
	f := setup(t)
	random := rand.New(rand.NewPCG(5, 6))
	f.Create("acme", "lic_1", 4)
	f.Issue("acme", "lic_2", 2)
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{BorrowDays: new(30), Features: new([]string{"cam", "sim"})}})
	f.commit(t)
	began := f.Now
	// What each held from a time on, what began then, and what was refused.
	type step struct {
		at            time.Time
		held          int
		begun, denied int
	}
	steps := map[[3]string][]step{}
	count := func(license domain.LicenseID, holder domain.Holder, features []string, more, begun, denied int) {
		keys := [][2]string{{"user", string(holder.User)}, {"machine", string(holder.Machine)}}
		for _, feature := range features {
			keys = append(keys, [2]string{"feature", feature})
		}
		for _, key := range keys {
			of := [3]string{key[0], string(license), key[1]}
			was := 0
			if n := len(steps[of]); n > 0 {
				was = steps[of][n-1].held
			}
			steps[of] = append(steps[of], step{f.Now, was + more, begun, denied})
		}
	}
	var held []domain.AcquireSeat
	for i := range 60 {
		if n := len(held); n > 0 && random.IntN(5) < 2 {
			last := random.IntN(n)
			l := held[last]
			held = slices.Delete(held, last, last+1)
			f.Do("acme", domain.ReleaseSeats{License: l.License, Leases: []domain.LeaseID{l.Lease}})
			count(l.License, l.Holder, l.Features, -1, 0, 0)
		} else {
			l := domain.AcquireSeat{
				License: "lic_1", Lease: domain.LeaseID(fmt.Sprint("lse_", i)), BorrowUntil: f.Now.Add(29 * 24 * time.Hour), Features: []string{"cam", "sim"}[:random.IntN(3)],
				Holder: domain.Holder{User: domain.Pseudonym(fmt.Sprint("u_", random.IntN(3))), Machine: domain.Pseudonym(fmt.Sprint("m_", random.IntN(2))), Process: domain.Pseudonym(fmt.Sprint(i))},
			}
			if f.Do("acme", l); len(held) < 4 {
				held = append(held, l)
				count(l.License, l.Holder, l.Features, 1, 1, 0)
			} else {
				count(l.License, l.Holder, nil, 0, 0, 1)
			}
		}
		f.Commit()
		switch f.Now = f.Now.Truncate(time.Second); random.IntN(6) {
		case 0:
			f.Now = f.Now.Truncate(time.Hour).Add(time.Hour)
		case 1:
			f.Now = f.Now.Truncate(24 * time.Hour).Add(time.Duration(24*(1+random.IntN(2))) * time.Hour)
		default:
			f.Now = f.Now.Add(time.Duration(1+random.IntN(9000)) * time.Second)
		}
	}
	until := f.Now
	f.silence(t, 0)
	for _, by := range []string{"user", "machine", "feature"} {
		for bucket, length := range map[string]time.Duration{"hour": time.Hour, "day": 24 * time.Hour} {
			var want []string
			for start := began.Truncate(length); !start.After(until); start = start.Add(length) {
				for _, of := range slices.SortedFunc(maps.Keys(steps), func(a, b [3]string) int { return slices.Compare(a[:], b[:]) }) {
					if of[0] != by {
						continue
					}
					end := start.Add(length)
					inUse, seconds, begun, denied, at := 0, 0.0, 0, 0, start
					var seen []int
					touched := false
					for _, s := range steps[of] {
						if s.at.Before(start) {
							inUse = s.held
						} else if s.at.Before(end) {
							if s.at.After(start) && !touched {
								seen = append(seen, inUse)
							}
							seconds += float64(inUse) * s.at.Sub(at).Seconds()
							inUse, at, touched = s.held, s.at, true
							seen, begun, denied = append(seen, inUse), begun+s.begun, denied+s.denied
						}
					}
					if !touched {
						seen = append(seen, inUse)
					}
					seconds += float64(inUse) * earlier(end, until).Sub(at).Seconds()
					if touched || inUse > 0 {
						want = append(want, fmt.Sprint(start.UTC(), of[1], of[2], slices.Min(seen), slices.Max(seen), inUse, seconds, begun, denied))
					}
				}
			}
			var got []string
			for _, b := range f.allUsage(t, "by="+by+"&bucket="+bucket+"&from="+began.Format(time.RFC3339)) {
				got = append(got, fmt.Sprint(b.Start, *b.License, *b.Id, b.Min, b.Max, b.Last, b.SeatSeconds, b.Acquires, b.Denials))
			}
			if len(want) < 20 || !slices.Equal(got, want) {
				t.Errorf("by %s and %s:\n%s\nnot\n%s", by, bucket, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
}

// In whatever lengths, pages and order it is read: it adds up to the same.
func TestUsageAddsUp(t *testing.T) {
	f := setup(t)
	random := rand.New(rand.NewPCG(3, 4))
	f.Create("acme", "lic_1", 3)
	f.Issue("acme", "lic_2", 4)
	f.commit(t)
	var held [2][]domain.LeaseID
	for i := range 120 {
		of := random.IntN(2)
		license := domain.LicenseID(fmt.Sprint("lic_", of+1))
		if n := len(held[of]); n > 0 && random.IntN(2) == 0 {
			f.Do("acme", domain.ReleaseSeats{License: license, Leases: held[of][:1]})
			held[of] = held[of][1:]
		} else {
			held[of] = append(held[of], f.Acquire("acme", license, fmt.Sprint(i)))
		}
		f.Commit()
		f.Now = f.Now.Add(time.Duration(random.IntN(3000)) * time.Second)
	}
	f.silence(t, 30*time.Hour)

	for _, of := range []string{"license=lic_1", "license=lic_2", "by=license", ""} {
		days := f.allUsage(t, "bucket=day&"+of)
		for _, finer := range []string{"bucket=minute&", "bucket=hour&"} {
			from := "&from=" + f.Now.Add(-160*time.Hour).Format(time.RFC3339)
			parts := f.allUsage(t, finer+of+from)
			sums := map[string]api.UsageBucket{}
			for _, b := range parts {
				key := b.Start.Format(time.DateOnly) + deref(b.License)
				sum, seen := sums[key]
				if !seen {
					sum.Max, sum.Min = b.Max, b.Min
				}
				sum.SeatSeconds += b.SeatSeconds
				sum.Acquires += b.Acquires
				sum.Denials += b.Denials
				sum.Max, sum.Min, sum.Last = max(sum.Max, b.Max), min(sum.Min, b.Min), b.Last
				sums[key] = sum
			}
			if len(parts) < 50 {
				t.Errorf("%s: only %d buckets", finer+of, len(parts))
			}
			for i, day := range days {
				sum, whole := sums[day.Start.Format(time.DateOnly)+deref(day.License)]
				if !whole || day.Start.Before(f.Now.Add(-136*time.Hour)) && i > 1 {
					continue
				}
				if math.Abs(sum.SeatSeconds-day.SeatSeconds) > 0.01 || sum.Acquires != day.Acquires || sum.Denials != day.Denials ||
					sum.Max != day.Max || sum.Min != day.Min || sum.Last != day.Last {
					t.Errorf("%s adds up to %v %d %d %d-%d, the day %s says %v %d %d %d-%d", finer+of, sum.SeatSeconds, sum.Acquires, sum.Denials, sum.Min, sum.Max,
						day.Start, day.SeatSeconds, day.Acquires, day.Denials, day.Min, day.Max)
				}
			}
		}
	}
	for _, of := range []string{
		"bucket=hour&by=license", "bucket=day", "by=user", "by=machine&license=lic_2", "by=user&bucket=hour", "by=machine&bucket=hour",
		"by=user&bucket=hour&license=lic_1&from=2026-03-02T07:00:00Z&to=2026-03-03T05:00:00Z",
	} {
		all := f.allUsage(t, of)
		backwards := f.allUsage(t, of+"&sort=-start")
		slices.Reverse(backwards)
		if fmt.Sprintf("%+v", texts(all)) != fmt.Sprintf("%+v", texts(backwards)) {
			t.Errorf("%s is something else backwards", of)
		}
		file := f.get(t, "/tenants/acme/usage?"+of, "Accept", "application/jsonl")
		if lines := strings.Count(file.body, "\n"); file.status != http.StatusOK || lines != len(all) {
			t.Errorf("%s: %d lines in a file of %d items", of, lines, len(all))
		}
		table := f.get(t, "/tenants/acme/usage?"+of, "Accept", "text/csv")
		if lines := strings.Count(table.body, "\n"); table.status != http.StatusOK || lines != len(all)+1 || !strings.HasPrefix(table.body, "start,license,") {
			t.Errorf("%s: %d lines in a table of %d items", of, lines, len(all))
		}
	}
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func texts(all []api.UsageBucket) []string {
	lines := make([]string, len(all))
	for i, b := range all {
		lines[i] = fmt.Sprint(b.Start, deref(b.License), deref(b.Id), b.Min, b.Max, b.Last, b.SeatSeconds, b.Acquires, b.Denials, b.Links)
	}
	return lines
}

// allUsage reads all pages, of 7 items each.
func (f *fixture) allUsage(t *testing.T, query string) []api.UsageBucket {
	t.Helper()
	limit := 7
	if strings.Contains(query, "minute") {
		limit = 1000
	}
	var all []api.UsageBucket
	for next := ""; ; {
		page := ok[api.UsageList](t, f, fmt.Sprintf("/tenants/acme/usage?%s&limit=%d&cursor=%s", query, limit, next))
		all = append(all, page.Items...)
		if next = page.Next; next == "" {
			return all
		}
		if len(page.Items) != limit {
			t.Fatalf("%s: a page of %d with a next one", query, len(page.Items))
		}
	}
}

func TestUsageIsRefused(t *testing.T) {
	f := setup(t)
	f.example(t)
	f.silence(t, 100*24*time.Hour)
	for path, field := range map[string]string{
		"usage?bucket=week":                                              "bucket",
		"usage?by=color":                                                 "by",
		"usage?by=user&bucket=minute":                                    "bucket",
		"usage?from=yesterday":                                           "from",
		"usage?bucket=minute&from=2026-03-01T00:00:00Z":                  "from",
		"usage?from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z":        "to",
		"usage?cursor=x":                                                 "cursor",
		"usage/top?limit=101":                                            "limit",
		"usage/top?by=license":                                           "by",
		"usage/heatmap?time_zone=Europe/Fussen":                          "time_zone",
		"usage/heatmap?time_zone=Local":                                  "time_zone",
		"usage/heatmap?time_zone=Asia/Kolkata&from=2025-03-01T00:00:00Z": "from",
		"usage/forecast?horizon=93":                                      "horizon",
		"usage/forecast?days=3":                                          "days",
	} {
		f.refused(t, http.StatusBadRequest, "invalid_request", field, "/tenants/acme/"+path)
	}
	for _, path := range []string{"usage?license=lic_9", "usage/top?license=lic_9", "usage/heatmap?license=lic_9", "usage/forecast?license=lic_9"} {
		f.refused(t, http.StatusNotFound, "license_not_found", "", "/tenants/acme/"+path)
		f.refused(t, http.StatusNotFound, "tenant_not_found", "", "/tenants/nobody/"+path)
	}
	if early := ok[api.UsageList](t, f, "/tenants/acme/usage?to=2025-01-01T00:00:00Z"); len(early.Items) != 0 {
		t.Errorf("before the beginning there is %+v", early.Items)
	}
}

func TestHeatmapByLocalClocks(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 5)
	f.commit(t)
	// Four Mondays from 9:30 to 10:30 in UTC, two seats; the clocks of Berlin change within.
	for week := range 4 {
		f.Now = time.Date(2026, 3, 16+7*week, 9, 30, 0, 0, time.UTC)
		f.Acquire("acme", "lic_1", "ada")
		f.Acquire("acme", "lic_1", "bob")
		f.Commit()
		f.Now = f.Now.Truncate(time.Minute).Add(time.Hour)
		f.Do("acme", domain.ReleaseHolder{Machine: "m_1", Max: 9})
		f.Commit()
	}
	f.silence(t, 6*24*time.Hour)
	for _, zone := range []struct {
		name string
		used string // the cells with something
	}{
		{"UTC", "Mon 9 1/2 Mon 10 1/2 "},
		{"Europe/Berlin", "Mon 10 0.5/2 Mon 11 1/2 Mon 12 0.5/2 "}, // 9:30 is 10:30 twice, then 11:30 twice
		{"Asia/Kolkata", "Mon 15 2/2 Mon 16 0/1 "},                 // from 15:00 to 16:00, when one was released, and then the other
	} {
		h := ok[api.UsageHeatmap](t, f, "/tenants/acme/usage/heatmap?license=lic_1&from=2026-03-16T00:00:00Z&to=2026-04-13T00:00:00Z&time_zone="+zone.name)
		used := ""
		for _, c := range h.Items {
			if c.Max > 0 {
				used += fmt.Sprintf("%s %d %v/%d ", time.Weekday(c.Weekday % 7).String()[:3], c.Hour, c.Mean, c.Max)
			}
		}
		if len(h.Items) != 168 || used != zone.used {
			t.Errorf("%s: %d cells, %s", zone.name, len(h.Items), used)
		}
	}
}

func TestForecast(t *testing.T) {
	f := setupWith(t, 1, func(*Options) {})
	o := history.Options{Tenants: 4, Scale: 0.6, Days: 50, Seed: 5, End: time.Date(2026, 5, 20, 0, 0, 0, 0, time.UTC)}
	if _, err := history.Write(context.Background(), f.store, o); err != nil {
		t.Fatal(err)
	}
	if err := projections.NewRunner(projections.Options{DB: f.db, Store: f.store, BatchMax: 2000, Log: f.api.log}).CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, tenant := range ok[api.TenantList](t, f, "/tenants").Items {
		for _, license := range append([]string{""}, f.licensesOf(t, tenant.Id)...) {
			got := ok[api.UsageForecast](t, f, "/tenants/"+tenant.Id+"/usage/forecast?horizon=40&license="+license)
			if got.DaysKnown < forecast.DaysMin {
				continue
			}
			known++
			if len(got.Days) != 40 || got.Note != nil || got.SeatsNeeded == nil || (got.LastMonth != nil) != (got.DaysKnown >= 28+14) {
				t.Errorf("%s %s: %+v", tenant.Id, license, got)
			}
			for i, d := range got.Days {
				if d.Date != time.Date(2026, 5, 19+i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly) && d.Date != time.Date(2026, 5, 20+i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly) {
					t.Fatalf("day %d is %s", i, d.Date)
				}
				reached := d.Peak >= float64(got.Seats)
				if reached && (got.LimitReached == nil || *got.LimitReached > d.Date) {
					t.Errorf("%s %s: %s reaches %d seats, but the limit is reached %v", tenant.Id, license, d.Date, got.Seats, got.LimitReached)
				}
			}
			if most := slices.MaxFunc(got.Days, func(a, b api.ForecastDay) int { return int(100 * (a.P90.High - b.P90.High)) }); float64(*got.SeatsNeeded) > math.Ceil(most.P90.High) {
				t.Errorf("%s %s: %d seats needed, but at most %v wanted", tenant.Id, license, *got.SeatsNeeded, most)
			}
		}
	}
	if known < 5 {
		t.Errorf("only %d forecasts", known)
	}
}

func TestForecastNeedsTwoWeeks(t *testing.T) {
	f := setup(t)
	f.example(t)
	for days := range 15 {
		f.silence(t, 24*time.Hour)
		got := ok[api.UsageForecast](t, f, "/tenants/acme/usage/forecast?license=lic_1")
		if early := days+1 < forecast.DaysMin; got.DaysKnown != days+1 || (got.Note != nil) != early || (len(got.Days) == 0) != early || (got.SeatsNeeded == nil) != early {
			t.Errorf("after %d days: %+v", days+1, got)
		}
	}
	// Ada holds one of two seats ever since. On the first day three were wanted: that can come again.
	if got := ok[api.UsageForecast](t, f, "/tenants/acme/usage/forecast?license=lic_1"); got.LimitReached != nil || got.LimitReachedEarliest == nil ||
		got.Seats != 2 || got.Days[0].Peak != 1 || got.DeniedShare != 0.3333 {
		t.Errorf("%+v", got)
	}
}

func (f *fixture) licensesOf(t *testing.T, tenant string) (ids []string) {
	t.Helper()
	for _, l := range ok[api.LicenseList](t, f, "/tenants/"+tenant+"/licenses").Items {
		ids = append(ids, l.Id)
	}
	return ids
}

func TestUsageReadsIndexes(t *testing.T) {
	f, explain := spied(t)
	f.Create("t0", "lic_0", 1)
	f.commit(t)
	for _, sql := range []string{
		`INSERT INTO read.usage_licenses (tenant_id, license_id, seat_per)
			SELECT 't' || t, 'lic_' || l, '' FROM generate_series(0, 19) t, generate_series(1, 20) l`,
		`INSERT INTO read.usage_hours (tenant_id, license_id, start, at, seats_min, seats_max, seats_last, seat_ms, over_max, over_last, over_ms, seats, acquires)
			SELECT 't' || t, 'lic_' || l, s, s, 0, 1, 1, 0, 0, 0, 0, 5, 1
			FROM generate_series(0, 19) t, generate_series(1, 20) l, generate_series('2026-01-01Z'::timestamptz, '2026-01-10Z', '1 hour') s`,
		`INSERT INTO read.usage_minutes SELECT * FROM read.usage_hours WHERE license_id LIKE 'lic_%' AND license_id <> 'lic_0'`,
		`INSERT INTO read.usage_days SELECT * FROM read.usage_hours WHERE license_id LIKE 'lic_%' AND license_id <> 'lic_0' AND start = date_trunc('day', start, 'UTC')`,
		`INSERT INTO read.usage_holders (tenant_id, by, license_id, key, start, at, seats_min, seats_max, seats_last, seat_ms, acquires, denials)
			SELECT 't' || t, b, 'lic_' || l, 'u_' || u, s, s, 0, 1, 0, 1, 1, CASE u % 20 WHEN 0 THEN '{"no_seat_available": 1}'::jsonb END
			FROM generate_series(0, 19) t, unnest('{user,machine}'::text[]) b, generate_series(1, 3) l, generate_series(1, 40) u,
				generate_series('2025-12-01Z'::timestamptz, '2026-01-10Z', '1 day') s`,
		`INSERT INTO read.usage_leases (tenant_id, license_id, lease_id, "user", machine, features)
			SELECT 't' || i % 20, 'lic_' || i % 3, 'lse_' || i, 'u_' || i % 40, 'm_1', '{}' FROM generate_series(1, 5000) i`,
		`ANALYZE`,
	} {
		if _, err := f.db.Exec(deadline(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	const from = "from=2026-01-02T00:00:00Z"
	for path, indexes := range map[string][]string{
		"usage?bucket=hour&" + from:                     {"usage_hours_pkey"},
		"usage?bucket=minute&from=2026-02-27T00:00:00Z": {"usage_minutes_pkey"},
		"usage?by=license&" + from:                      {"usage_licenses_pkey", "usage_days_pkey"},
		"usage?by=user&" + from:                         {"usage_holders", "usage_leases_pkey"},
		"usage?by=user&bucket=hour&sort=-start&" + from: {"usage_holders", "usage_leases_pkey"},
		"usage/top?by=user&" + from:                     {"usage_holders", "usage_leases_pkey"},
		"usage/heatmap?" + from:                         {"usage_hours_pkey"},
		"usage/forecast":                                {"usage_days_pkey", "usage_hours_pkey"},
	} {
		all := strings.Join(explain("/tenants/t0/"+path), "\n")
		for _, index := range indexes {
			if !strings.Contains(all, "using "+index) {
				t.Errorf("%s does not read %s:\n%s", path, index, all)
			}
		}
		if strings.Contains(all, "Seq Scan on usage") {
			t.Errorf("%s reads a whole table:\n%s", path, all)
		}
	}
}
