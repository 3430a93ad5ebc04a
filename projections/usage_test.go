package projections_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// at moves a history on to a time of its first day.
func (f fixture) at(t testing.TB, clock string) {
	t.Helper()
	f.Commit()
	at, err := time.Parse("15:04:05", clock)
	if err != nil {
		t.Fatal(err)
	}
	f.Now = f.Now.Truncate(24 * time.Hour).Add(time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute + time.Duration(at.Second())*time.Second)
}

const minutes = `SELECT string_agg(concat_ws(' ', to_char(start AT TIME ZONE 'UTC', 'HH24:MI'), seats_min, seats_max, seats_last, seat_ms / 1000), ', ' ORDER BY start)
	FROM read.usage_minutes WHERE license_id = `

func TestUsageInBuckets(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 2)
	f.Issue("acme", "lic_2", 5)
	f.at(t, "10:00:30")
	ada := f.Acquire("acme", "lic_1", "ada")
	f.at(t, "10:00:45")
	f.Acquire("acme", "lic_1", "bob")
	cem := f.Acquire("acme", "lic_2", "cem")
	f.Acquire("acme", "lic_1", "eve") // denied
	f.at(t, "10:03:00")               // exactly where a bucket begins: what ends then is not in it
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{ada}})
	f.at(t, "10:03:10")
	f.Do("acme", domain.ReleaseSeats{License: "lic_2", Leases: []domain.LeaseID{cem}})
	f.at(t, "10:06:00")
	f.Do("acme", domain.RevokeLicense{License: "lic_1"})
	f.Commit()
	f.project(t, projections.Options{BatchMax: 2})

	mustBe(t, "lic_1", f.value(t, minutes+`'lic_1'`),
		"09:00 0 0 0 0, 10:00 0 2 2 15, 10:03 1 1 1 0, 10:06 0 0 0 0")
	mustBe(t, "the tenant", f.value(t, minutes+`''`),
		"09:00 0 0 0 0, 10:00 0 3 3 15, 10:03 1 2 1 20, 10:06 0 0 0 0")
	// Where a row ends, its last number goes on to the next one: 15 s, then 2 min 15 s of two, 3 min of one.
	mustBe(t, "seat-seconds of the hour", f.value(t, `SELECT seat_ms / 1000 FROM read.usage_hours WHERE license_id = 'lic_1' AND acquires > 0`),
		fmt.Sprint(15+2*135+180))
	mustBe(t, "denials", f.value(t, `SELECT denials FROM read.usage_days WHERE license_id = 'lic_1'`), `{"no_seat_available": 1}`)
	mustBe(t, "eve", f.value(t, `SELECT (seat_ms, acquires, denials) FROM read.usage_holders WHERE key = 'u_eve'`),
		`(0,0,"{""no_seat_available"": 1}")`)
	mustBe(t, "the tenant's seats", f.value(t, `SELECT seats FROM read.usage_days WHERE license_id = ''`), "5")
	f.checkSame(t)
}

// A peak of a tenant is when it is, and no sum of the peaks of its licenses; nor is a day's the mean of its hours'.
func TestUsagePeaksAreExact(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 3)
	f.Issue("acme", "lic_2", 3)
	for _, license := range []domain.LicenseID{"lic_1", "lic_2"} {
		var held []domain.LeaseID
		for _, user := range []string{"ada", "bob", "cem"} {
			held = append(held, f.Acquire("acme", license, user))
		}
		f.Do("acme", domain.ReleaseSeats{License: license, Leases: held}) // all in one commit
		f.Commit()
		f.Now = f.Now.Add(2 * time.Hour)
	}
	f.project(t, projections.Options{})
	mustBe(t, "the peaks", f.value(t, `SELECT string_agg(license_id || '=' || seats_max, ' ' ORDER BY license_id) FROM read.usage_days`),
		"=3 lic_1=3 lic_2=3")
	f.checkSame(t)
}

// Seats are not leases: what a seat is taken per decides, also of what each user has part in; and a day in silence counts.
func TestUsageOfSharedSeats(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 2)
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{
		SeatPer: new(domain.SeatPerMachine), BorrowDays: new(9), Overage: new(domain.OverageUnlimited), Features: new([]string{"sim"}),
	}})
	until := f.Now.Add(5 * 24 * time.Hour)
	for i, holder := range []domain.Holder{{User: "u_ada", Machine: "m_1"}, {User: "u_bob", Machine: "m_1"}, {User: "u_ada", Machine: "m_2"}, {User: "u_ada", Machine: "m_3"}} {
		f.Do("acme", domain.AcquireSeat{License: "lic_1", Lease: domain.LeaseID(fmt.Sprint("lse_", i)), Holder: holder, BorrowUntil: until, Features: []string{"sim"}[:i%2]})
	}
	f.Commit()
	f.Now = until.Add(-24 * time.Hour)
	f.Do("acme", domain.ReleaseHolder{User: "u_ada", Max: 9})
	f.Commit()
	f.project(t, projections.Options{BatchMax: 3})
	mustBe(t, "seats", f.value(t, `SELECT (seats_max, over_max, acquires) FROM read.usage_days WHERE license_id = 'lic_1' AND acquires > 0`), "(3,1,4)")
	mustBe(t, "bob", f.value(t, `SELECT (seats_last, acquires) FROM read.usage_holders WHERE key = 'u_bob'`), "(1,1)")
	mustBe(t, "ada", f.value(t, `SELECT string_agg(seats_last::text, ' ' ORDER BY start) FROM read.usage_holders WHERE key = 'u_ada'`), "3 3 3 3 3 0")
	mustBe(t, "the feature", f.value(t, `SELECT max(seats_last) FROM read.usage_holders WHERE key = 'sim'`), "2")
	f.checkSame(t)
}

// Of a user the fewest and the most are known by the hour: after each event, and when the hour began, but never within an event.
func TestUsageOfAUserByTheHour(t *testing.T) {
	f := setup(t)
	acquire := func(lease, process string) {
		f.Do("acme", domain.AcquireSeat{License: "lic_1", Lease: domain.LeaseID(lease), Holder: domain.Holder{User: "u_ada", Machine: "m_1", Process: domain.Pseudonym(process)}, BorrowUntil: f.Now.Add(60 * time.Hour)})
	}
	f.Create("acme", "lic_1", 5)
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{BorrowDays: new(9)}})
	f.at(t, "10:30:00")
	acquire("lse_1", "p_1")
	f.at(t, "10:40:00")
	acquire("lse_2", "p_2")
	acquire("lse_3", "p_3")
	f.at(t, "11:00:00") // exactly where an hour begins
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_3"}})
	f.at(t, "12:15:00")
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: domain.PolicyChange{SeatPer: new(domain.SeatPerUser)}})
	f.Commit()
	f.Now = f.Now.Truncate(24 * time.Hour).Add(48 * time.Hour)
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1", "lse_2"}}) // as the day after next begins
	f.Commit()
	f.project(t, projections.Options{BatchMax: 2})
	const hours = `SELECT string_agg(concat_ws(' ', to_char(start AT TIME ZONE 'UTC', 'DD HH24'), to_char(at AT TIME ZONE 'UTC', 'DD HH24:MI'), seats_min, seats_max, seats_last, seat_ms / 1000), ', ' ORDER BY start)
		FROM read.usage_holders WHERE key = 'u_ada'`
	mustBe(t, "ada", f.value(t, hours), "01 10 01 10:40 0 3 3 600, 01 11 01 11:00 2 2 2 0, 01 12 01 12:15 1 2 1 1800, 02 00 01 12:15 1 1 1 0, 03 00 03 00:00 0 0 0 0")
	f.checkSame(t)
}

// The seats in use are counted in four places: the domain, which enforces; the live counts; the newest bucket; and who holds
// what. They are one number, whatever happened, however the batches were cut, and when the read model is newer than the rest.
func TestUsageIsTheFoldOfTheJournal(t *testing.T) {
	t.Parallel()
	db := projectionstest.New(t)
	rapid.Check(t, func(r *rapid.T) {
		if _, err := db.Exec(context.Background(), emptyAll); err != nil {
			r.Fatal(err)
		}
		store := eventstoretest.NewStore(1)
		h := projectionstest.NewHistory(r, store)
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(r, "draw") }
		o := projections.Options{DB: db, Store: store, Log: quiet, BatchMax: rapid.IntRange(1, 30).Draw(r, "batch")}
		for range rapid.IntRange(1, 3).Draw(r, "rounds") {
			for range rapid.IntRange(1, 60).Draw(r, "steps") {
				usageStep(h, draw)
			}
			h.Commit()
			if err := projections.NewRunner(o).CatchUp(context.Background()); err != nil {
				r.Fatal(err)
			}
			mustFold(r, db, store)
		}
		// From zero, on its own, while all else stands at the end already.
		_, err := db.Exec(context.Background(), `DELETE FROM read.checkpoints WHERE projection = 'usage';
			TRUNCATE read.usage_licenses, read.usage_leases, read.usage_minutes, read.usage_hours, read.usage_days, read.usage_holders`)
		if err != nil {
			r.Fatal(err)
		}
		o.BatchMax = rapid.IntRange(1, 30).Draw(r, "batch")
		if err := projections.NewRunner(o).CatchUp(context.Background()); err != nil {
			r.Fatal(err)
		}
		mustFold(r, db, store)
	})
}

// usageStep is step, with long silences, and things that happen exactly when a bucket begins. Most of it is about one license,
// whose few users and machines share seats and use features.
func usageStep(h *projectionstest.History, draw func(n int) int) {
	const tenant, license = "tenant0", "lic_0"
	if !h.Tenant(tenant).Exists() {
		h.Create(tenant, license, 5)
	}
	l := h.Tenant(tenant).License(license)
	switch draw(16) {
	case 0:
		h.Commit()
		h.Now = h.Now.Add(time.Duration(draw(72)) * time.Hour)
	case 1:
		h.Commit()
		h.Now = h.Now.Truncate(time.Minute).Add(time.Minute)
	case 2:
		h.Commit()
		h.Now = h.Now.Truncate(24 * time.Hour).Add(24 * time.Hour)
	case 3:
		h.Do(tenant, domain.ChangeLicense{License: license, Seats: new(3 + draw(4)), Policy: domain.PolicyChange{
			SeatPer:  new([]domain.SeatPer{domain.SeatPerProcess, domain.SeatPerMachine, domain.SeatPerUser}[draw(3)]),
			Features: new([]string{"cam", "x\x00"}), ReviveSeconds: new(7200), BorrowDays: new(5),
		}})
	case 4, 5, 6, 7:
		c := domain.AcquireSeat{
			License: license, Lease: domain.LeaseID(fmt.Sprint("lse_f", h.Tenant(tenant).Version)), Features: []string{"cam", "x\x00"}[:draw(3)],
			Holder: domain.Holder{
				User: domain.Pseudonym(fmt.Sprint("u_", draw(3))), Machine: domain.Pseudonym(fmt.Sprint("m_", draw(3))), Process: domain.Pseudonym(fmt.Sprint("p_", draw(2))),
			},
		}
		if draw(3) == 0 {
			c.BorrowUntil = h.Now.Add(time.Duration(1+draw(100)) * time.Hour)
		}
		h.Do(tenant, c)
	case 8, 9:
		var held []domain.LeaseID
		l.Leases(func(lease domain.Lease) { held = append(held, lease.ID) })
		slices.Sort(held)
		if len(held) > 0 {
			h.Do(tenant, domain.ReleaseSeats{License: license, Leases: held[draw(len(held)):]})
		}
	case 10:
		h.Commit()
		h.Now = h.Now.Add(400 * time.Second)
		h.Do(tenant, domain.ExpireSeats{Max: 100})
		h.Commit()
	case 11:
		var late []domain.LeaseID
		for n := range h.Tenant(tenant).Version {
			if lease, ok := l.Lease(domain.LeaseID(fmt.Sprint("lse_f", n))); ok && lease.State == domain.LeaseStateExpired {
				late = append(late, lease.ID)
			}
		}
		if len(late) > 0 {
			h.Do(tenant, domain.HeartbeatSeats{License: license, Leases: late[draw(len(late)):]})
		}
	default:
		step(h, draw)
	}
}

func mustFold(r *rapid.T, db *pgxpool.Pool, store eventstore.Store) {
	differences, err := projections.Compare(context.Background(), db, store)
	if err != nil || len(differences) > 0 {
		r.Fatal(err, differences)
	}
}
