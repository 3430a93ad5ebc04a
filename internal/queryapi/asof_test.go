package queryapi

import (
	"encoding/json"
	"fmt"
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
	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// busy writes a random history of three tenants and returns the names in it.
func (f *fixture) busy(t *testing.T, random *rand.Rand, steps int) map[domain.Pseudonym]string {
	t.Helper()
	names := map[domain.Pseudonym]string{"m_1": "host"}
	for user := range 6 {
		names[domain.Pseudonym(fmt.Sprint("u_", user))] = fmt.Sprint("user ", user)
	}
	tenants := []domain.TenantID{"acme", "globex", "initech"}
	for _, tenant := range tenants {
		for p, name := range names {
			f.Name(tenant, p, map[byte]eventstore.NameKind{'u': eventstore.UserName, 'm': eventstore.MachineName}[p[0]], name)
		}
	}
	for range steps {
		tenant, license := tenants[random.IntN(3)], domain.LicenseID(fmt.Sprint("lic_", random.IntN(2)))
		if !f.Tenant(tenant).Exists() {
			f.Create(tenant, "lic_0", 3)
		}
		if f.Tenant(tenant).License(license) == nil {
			f.Issue(tenant, license, random.IntN(4))
			continue
		}
		var held []domain.LeaseID
		f.Tenant(tenant).License(license).Leases(func(l domain.Lease) { held = append(held, l.ID) })
		slices.Sort(held)
		switch random.IntN(16) {
		case 0, 1, 2, 3, 4:
			f.Acquire(tenant, license, fmt.Sprint(random.IntN(6)))
		case 5, 6, 7:
			f.Do(tenant, domain.HeartbeatSeats{License: license, Leases: append(held, "none")})
		case 8:
			f.Do(tenant, domain.ReleaseSeats{License: license, Leases: append(held, "none")[:1]})
		case 9:
			f.Commit()
			f.Now = f.Now.Add(time.Duration(random.IntN(400)) * time.Second)
			f.Do(tenant, domain.ExpireSeats{Max: 100})
		case 10:
			f.Do(tenant, domain.ChangeLicense{License: license, Seats: new(random.IntN(5)), Policy: domain.PolicyChange{
				SeatPer: new([]domain.SeatPer{domain.SeatPerProcess, domain.SeatPerUser}[random.IntN(2)]), ReviveSeconds: new(1000), BorrowDays: new(2),
			}})
		case 11:
			f.Do(tenant, []domain.Command{
				domain.SuspendTenant{}, domain.ReinstateTenant{}, domain.SuspendLicense{License: license}, domain.ReinstateLicense{License: license},
				domain.RenameTenant{Name: fmt.Sprint("name ", random.IntN(9))},
			}[random.IntN(5)])
		case 12:
			for _, id := range held[:min(len(held), 1)] {
				l, _ := f.Tenant(tenant).License(license).Lease(id)
				again := domain.LeaseID(fmt.Sprint(id, "_", f.Now.UnixMilli()))
				f.Do(tenant, domain.AcquireSeat{License: license, Lease: again, Holder: l.Holder, BorrowUntil: f.Now.Add(time.Duration(1+random.IntN(40)) * time.Hour)})
			}
		case 13, 14:
			f.Commit()
		}
	}
	f.Commit()
	return names
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// all returns the items of all pages of a list.
func all[T any](t *testing.T, f *fixture, path string) []T {
	t.Helper()
	items := []T{}
	for next := ""; ; {
		page := ok[struct {
			Items []T
			Next  string

			Position    string
			Age_seconds float64
			Seats       *int
			In_use      *int
		}](t, f, path+"&limit=7&cursor="+next)
		items = append(items, page.Items...)
		if next = page.Next; next == "" {
			return items
		}
	}
}

// Whatever is asked as of whatever instant: the answer is what a fold of the journal up to it says.
func TestAsOfIsTheFoldOfTheJournal(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := setup(t)
			random := rand.New(rand.NewPCG(seed, 11))
			names := f.busy(t, random, 250)
			f.projectAll(t)
			f.archive(t)
			journal := projectionstest.Events(t, f.store)
			var times []time.Time
			for _, events := range journal {
				for _, e := range events {
					times = append(times, e.Time)
				}
			}
			slices.SortFunc(times, time.Time.Compare)
			for range 12 {
				at := times[random.IntN(len(times))].Add(time.Duration(random.IntN(3)-1) * time.Millisecond)
				asOf := "as_of=" + url.QueryEscape(at.Format(time.RFC3339Nano))
				var summaries []api.TenantSummary
				for _, tenant := range []domain.TenantID{"acme", "globex", "initech"} {
					events := slices.DeleteFunc(slices.Clone(journal[tenant]), func(e projectionstest.Stored) bool { return e.Time.After(at) })
					path := "/tenants/" + string(tenant)
					if len(events) == 0 {
						for _, call := range []string{"", "/licenses", "/seats", "/licenses/lic_0"} {
							f.refused(t, http.StatusNotFound, "tenant_not_found", "", path+call+"?"+asOf)
						}
						continue
					}
					want := projectionstest.ViewOf(events, names)
					// A position says the same as a time within its commit.
					ways := []string{asOf, "as_of=" + f.tokens.Token(eventstore.Position{Partition: f.store.Info().PartitionOf(tenant), Seq: events[len(events)-1].Seq})}
					f.checkView(t, path, ways[random.IntN(2)], want)
					summary := api.TenantSummary{Id: want.Tenant.Id, Name: want.Tenant.Name, Status: want.Tenant.Status, CreatedAt: want.Tenant.CreatedAt, Licenses: len(want.Licenses)}
					for _, l := range want.Licenses {
						if summary.InUse += l.InUse; l.Status != "revoked" {
							summary.Seats += l.Seats
						}
					}
					summaries = append(summaries, summary)
				}
				if got := all[api.TenantSummary](t, f, "/tenants?"+asOf); asJSON(t, got) != asJSON(t, summaries) && len(got)+len(summaries) > 0 {
					t.Fatalf("at %s the tenants are\n%s\nnot\n%s", at, asJSON(t, got), asJSON(t, summaries))
				}
			}
		})
	}
}

// projectAll is project in one go.
func (f *fixture) projectAll(t *testing.T) {
	t.Helper()
	if err := projections.NewRunner(projections.Options{DB: f.db, Store: f.store, Log: f.api.log}).CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

// checkView compares all that is shown of a tenant with what it has to be.
func (f *fixture) checkView(t *testing.T, path, asOf string, want projectionstest.View) {
	t.Helper()
	same := func(what string, got, want any) {
		t.Helper()
		if asJSON(t, got) != asJSON(t, want) {
			t.Fatalf("%s %s: the %s is\n%s\nnot\n%s", path, asOf, what, asJSON(t, got), asJSON(t, want))
		}
	}
	same("tenant", ok[api.TenantResponse](t, f, path+"?"+asOf).Tenant, want.Tenant)
	same("licenses", all[api.License](t, f, path+"/licenses?"+asOf), want.Licenses)
	same("seats", all[api.Lease](t, f, path+"/seats?"+asOf), want.Leases)
	same("active seats", all[api.Lease](t, f, path+"/seats?state=active&"+asOf), want.Active())
	file := f.get(t, path+"/seats?"+asOf, "Accept", "application/jsonl")
	got := []api.Lease{}
	for line := range strings.Lines(file.body) {
		var l api.Lease
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, file.body)
		}
		got = append(got, l)
	}
	same("file of seats", got, want.Leases)
	for _, l := range want.Licenses {
		same("license", ok[api.LicenseResponse](t, f, path+"/licenses/"+l.Id+"?"+asOf).License, l)
		list := ok[api.SeatList](t, f, path+"/seats?limit=1&license="+l.Id+"&"+asOf)
		seats := l.Seats
		if l.Status == "revoked" {
			seats = 0
		}
		same("count", []int{list.Seats, list.InUse}, []int{seats, l.InUse})
	}
}

func TestInstantsThatAreRefused(t *testing.T) {
	f := setup(t)
	f.example(t)
	f.archive(t)
	before := url.QueryEscape(f.Tenant("acme").CreatedAt.Add(-time.Millisecond).Format(time.RFC3339Nano))
	far := f.tokens.Token(eventstore.Position{Partition: f.store.Info().PartitionOf("acme"), Seq: 1000})
	elsewhere := f.tokens.Token(eventstore.Position{Partition: f.store.Info().PartitionOf("globex"), Seq: 1})
	for _, path := range []string{"/tenants/acme", "/tenants/acme/licenses", "/tenants/acme/licenses/lic_1", "/tenants/acme/seats"} {
		f.refused(t, http.StatusBadRequest, "invalid_request", "as_of", path+"?as_of=yesterday")
		f.refused(t, http.StatusBadRequest, "invalid_request", "as_of", path+"?as_of=2999-01-01T00:00:00Z")
		f.refused(t, http.StatusBadRequest, "invalid_request", "as_of", path+"?as_of="+elsewhere)
		f.refused(t, http.StatusNotFound, "tenant_not_found", "", path+"?as_of="+before)
		f.refused(t, http.StatusNotFound, "tenant_not_found", "", strings.Replace(path, "acme", "nobody", 1)+"?as_of="+before)
	}
	f.refused(t, http.StatusBadRequest, "invalid_request", "as_of", "/tenants?as_of=yesterday")
	f.refused(t, http.StatusBadRequest, "invalid_request", "as_of", "/tenants?as_of=2999-01-01T00:00:00Z")
	f.refused(t, http.StatusBadRequest, "invalid_request", "borrowed", "/tenants/acme/seats?borrowed=true&as_of="+before)
	f.refused(t, http.StatusServiceUnavailable, "projection_behind", "", "/tenants/acme?as_of="+far)
}

// Rows that are further than the archive wait for it: only the archive tells which of their commits were later.
func TestAnInstantWaitsForTheArchive(t *testing.T) {
	f := setup(t)
	f.example(t)
	asOf := url.QueryEscape(f.Now.Format(time.RFC3339Nano))
	answer := make(chan reply)
	go func() { answer <- f.get(t, "/tenants/acme?as_of="+asOf) }()
	for ctx := deadline(t); ; {
		if ctx.Err() != nil {
			t.Fatal("it does not wait")
		}
		f.api.archiving.mu.Lock()
		waits := len(f.api.archiving.waiters)
		f.api.archiving.mu.Unlock()
		if waits == 1 {
			break
		}
	}
	f.archive(t)
	if got := <-answer; got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// Once something is past, nothing that comes later changes what is said of it.
func TestThePastStays(t *testing.T) {
	f := setup(t)
	f.example(t)
	f.archive(t)
	now := ok[api.SeatList](t, f, "/tenants/acme/seats")
	f.Do("acme", domain.HeartbeatSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1"}})
	f.Do("acme", domain.RenameTenant{Name: "new"})
	f.Do("acme", domain.RevokeLicense{License: "lic_1"})
	f.commit(t)
	f.archive(t)
	then := ok[api.SeatList](t, f, "/tenants/acme/seats?as_of="+now.Position)
	if then.Position != now.Position || then.AgeSeconds != 0 || asJSON(t, then.Items) != asJSON(t, now.Items) || then.InUse != now.InUse {
		t.Errorf("then: %+v\nnow: %+v", then, now)
	}
	if later := ok[api.SeatList](t, f, "/tenants/acme/seats"); asJSON(t, later.Items) == asJSON(t, now.Items) {
		t.Error("nothing changed")
	}
}
