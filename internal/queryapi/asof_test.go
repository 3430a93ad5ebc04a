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
		switch random.IntN(18) {
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
		case 15:
			f.Wait(tenant, license, fmt.Sprint(random.IntN(6)))
		case 16, 17:
			user, role := domain.Pseudonym(fmt.Sprint("u_", random.IntN(3))), []domain.Role{domain.RoleAdmin, domain.RoleAuditor}[random.IntN(2)]
			f.Do(tenant, []domain.Command{
				domain.InviteMember{User: user, Role: role}, domain.ChangeMemberRole{User: user, Role: role}, domain.RemoveMember{User: user},
			}[random.IntN(3)])
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
						for _, call := range []string{"", "/licenses", "/seats", "/members", "/licenses/lic_0"} {
							f.refused(t, http.StatusNotFound, "tenant_not_found", "", path+call+"?"+asOf)
						}
						continue
					}
					want := projectionstest.ViewOf(events, names)
					// A position says the same as a time within its commit.
					ways := []string{asOf, "as_of=" + f.tokens.Token(eventstore.Position{Partition: f.store.Info().PartitionOf(tenant), Seq: events[len(events)-1].Seq})}
					f.checkView(t, path, ways[random.IntN(2)], want)
					earlier := events[:1+random.IntN(len(events))]
					earlier = journal[tenant][:lastOfItsCommit(events, len(earlier)-1)+1]
					f.checkDiff(t, path, earlier[len(earlier)-1].Time, at, projectionstest.ViewOf(earlier, names), want)
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

// lastOfItsCommit returns the last of the events that have the time of event i.
func lastOfItsCommit(events []projectionstest.Stored, i int) int {
	for i+1 < len(events) && events[i+1].Time.Equal(events[i].Time) {
		i++
	}
	return i
}

// checkDiff compares what is different between two instants.
func (f *fixture) checkDiff(t *testing.T, path string, a, b time.Time, before, after projectionstest.View) {
	t.Helper()
	query := url.Values{"a": {a.Format(time.RFC3339Nano)}, "b": {b.Format(time.RFC3339Nano)}}
	d := ok[api.Diff](t, f, path+"/diff?"+query.Encode())
	without := func(some, others []api.Lease) []api.Lease {
		return slices.DeleteFunc(slices.Clone(some), func(l api.Lease) bool {
			return slices.ContainsFunc(others, func(o api.Lease) bool { return o.Id == l.Id })
		})
	}
	if want := without(after.Active(), before.Active()); asJSON(t, d.Taken.Items) != asJSON(t, want) || d.Taken.Count != len(want) {
		t.Fatalf("%s: taken is %s, not %s", query, asJSON(t, d.Taken), asJSON(t, want))
	}
	if want := without(before.Active(), after.Active()); asJSON(t, d.GivenBack.Items) != asJSON(t, want) || d.GivenBack.Count != len(want) {
		t.Fatalf("%s: given back is %s, not %s", query, asJSON(t, d.GivenBack), asJSON(t, want))
	}
	// The differences, made to what was, give what is.
	patch := func(was any, fields []api.FieldDiff) string {
		var object map[string]any
		if err := json.Unmarshal([]byte(asJSON(t, was)), &object); err != nil {
			t.Fatal(err)
		}
		for _, field := range fields {
			object[field.Field] = field.B
		}
		for name, value := range object {
			if orNil(value) == nil {
				delete(object, name)
			}
		}
		return asJSON(t, object)
	}
	if got, want := patch(before.Tenant, d.Tenant), patch(after.Tenant, nil); got != want {
		t.Fatalf("%s: the tenant is %s, not %s", query, got, want)
	}
	for _, l := range after.Licenses {
		was := any(struct{}{})
		for _, b := range before.Licenses {
			if b.Id == l.Id {
				was = b
			}
		}
		var fields []api.FieldDiff
		for _, diff := range d.Licenses {
			if diff.License == l.Id {
				fields = diff.Fields
			}
		}
		if got, want := patch(was, fields), patch(l, nil); got != want {
			t.Fatalf("%s: the license is %s, not %s", query, got, want)
		}
	}
}

func TestDiff(t *testing.T) {
	f := setup(t)
	f.example(t)
	f.Now = f.Now.Add(time.Minute)
	before := f.Now.Add(-time.Millisecond)
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Seats: new(9), Policy: domain.PolicyChange{MaxPerUser: new(2)}})
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1"}})
	f.Issue("acme", "lic_3", 1)
	f.commit(t)
	f.archive(t)
	d := ok[api.Diff](t, f, "/tenants/acme/diff?a="+url.QueryEscape(before.Format(time.RFC3339Nano)))
	var fields []string
	for _, l := range d.Licenses {
		if l.Issued {
			fields = append(fields, l.License+" issued")
			continue
		}
		for _, field := range l.Fields {
			fields = append(fields, fmt.Sprintf("%s %s %v to %v", l.License, field.Field, field.A, field.B))
		}
	}
	if got, want := strings.Join(fields, ", "), "lic_1 in_use 1 to 0, lic_1 max_per_user 0 to 2, lic_1 seats 2 to 9, lic_3 issued"; got != want {
		t.Errorf("licenses: %s, not %s", got, want)
	}
	if len(d.Tenant) != 0 || d.Taken.Count != 0 || d.GivenBack.Count != 1 || d.GivenBack.Items[0].Id != "lse_1" || d.GivenBack.Items[0].State != "active" {
		t.Errorf("%+v", d)
	}
	if want := "/api/v1/tenants/acme/timeline?q=after%3A2026-03-01T09%3A00%3A01.001Z+before%3A2026-03-01T09%3A01%3A02.001Z"; d.Timeline != want {
		t.Errorf("timeline %s, not %s", d.Timeline, want)
	}
	f.refused(t, http.StatusBadRequest, "invalid_request", "a", "/tenants/acme/diff")
	f.refused(t, http.StatusBadRequest, "invalid_request", "b", "/tenants/acme/diff?a="+d.B.Position+"&b="+d.A.Position)
	f.refused(t, http.StatusNotFound, "tenant_not_found", "", "/tenants/acme/diff?a=2000-01-01T00:00:00Z")
}

// The denials of a random history can be explained: the rules refuse again on the state that the rows say it was. Those that tell of
// refusals long before are left out: nobody knows when those were.
func TestDenialsAreExplained(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := setup(t)
			f.busy(t, rand.New(rand.NewPCG(seed, 13)), 300)
			f.projectAll(t)
			f.archive(t)
			denials, queued := 0, 0
			for tenant, events := range projectionstest.Events(t, f.store) {
				for _, e := range events {
					denied, is := e.Data.(*domain.SeatDenied)
					if !is || denied.Count > 0 {
						continue
					}
					d := ok[api.DenialWhy](t, f, fmt.Sprintf("/tenants/%s/denials/%d/why", tenant, e.Version))
					if !d.Reproduced || len(d.Ways) == 0 || denied.Reason == domain.NoSeatAvailable && len(d.Waiting) != denied.Waiting {
						t.Errorf("%s/%d: %+v, %s", tenant, e.Version, denied, asJSON(t, d))
					}
					if denials++; denied.Waiting > 0 {
						queued++
					}
				}
			}
			t.Logf("%d denials, %d of them with a queue", denials, queued)
			if denials < 5 {
				t.Error("too few denials to say so")
			}
		})
	}
}

func TestWhy(t *testing.T) {
	f := setup(t)
	f.Name("acme", "u_ada", eventstore.UserName, "ada")
	f.Name("acme", "u_cem", eventstore.UserName, "cem")
	f.Create("acme", "lic_1", 1)
	ada := f.Acquire("acme", "lic_1", "ada")
	f.Commit()
	f.Acquire("acme", "lic_1", "cem")
	f.Commit()
	f.Acquire("acme", "lic_1", "cem") // too soon after the other for an event
	f.Commit()
	f.Do("acme", domain.HeartbeatSeats{License: "lic_1", Leases: []domain.LeaseID{ada}})
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{ada}})
	f.Commit()
	f.Now = f.Now.Add(time.Minute)
	f.Do("acme", domain.ExpireSeats{Max: 9}) // tells of it
	f.commit(t)
	f.archive(t)
	d := ok[api.DenialWhy](t, f, "/tenants/acme/denials/4/why")
	if d.Names["u_cem"] != "cem" || d.License.Seats != 1 || d.License.InUse != 1 || len(d.Holders) != 1 || d.Holders[0].User != "ada" || d.Holders[0].State != "active" {
		t.Errorf("%s", asJSON(t, d))
	}
	if got, want := asJSON(t, d.Ways), `[{"changes":[{"field":"seats","from":1,"of":"license","to":2}]},{"changes":[{"leases":["`+string(ada)+`"],"of":"leases"}]}]`; got != want {
		t.Errorf("ways: %s, not %s", got, want)
	}
	if late := ok[api.DenialWhy](t, f, "/tenants/acme/denials/7/why"); !late.Reproduced || len(late.Holders) != 1 {
		t.Errorf("a denial that was told of later: %s", asJSON(t, late))
	}
	for _, id := range []string{"3", "99", "x", "-1"} {
		f.refused(t, http.StatusNotFound, "denial_not_found", "", "/tenants/acme/denials/"+id+"/why")
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
	same("members", all[api.Member](t, f, path+"/members?"+asOf), want.Members)
	present := slices.DeleteFunc(slices.Clone(want.Members), func(m api.Member) bool { return m.Status == api.MemberStatusRemoved })
	same("present members", all[api.Member](t, f, path+"/members?status=member&"+asOf), present)
	state := ok[api.State](t, f, path+"/state?"+asOf)
	same("state", []any{state.Tenant, state.Licenses, state.Leases, state.LeasesMore}, []any{want.Tenant, want.Licenses, want.Active(), false})
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

// Who was a member, and with which role, in a page and in files; but not the name of who has been forgotten since.
func TestMembersAsOf(t *testing.T) {
	f := setup(t)
	f.example(t)
	_, owner := f.key("acme", domain.RoleOwner)
	f.Do("acme", domain.InviteMember{User: "u_ada", Role: domain.RoleMember})
	f.Do("acme", domain.InviteMember{User: "u_bob", Role: domain.RoleAuditor})
	before := f.commit(t)
	f.Do("acme", domain.RemoveMember{User: "u_ada"})
	f.Do("acme", domain.ChangeMemberRole{User: "u_bob", Role: domain.RoleBilling})
	f.Forget("acme", "u_ada")
	f.commit(t)
	f.archive(t)
	path := "/tenants/acme/members?as_of=" + before
	if got := asJSON(t, ok[api.MemberList](t, f, "/tenants/acme/members", bearer(owner)...).Items); got !=
		`[{"id":"u_ada","role":"member","status":"removed","user":""},{"id":"u_bob","role":"billing","status":"member","user":""}]` {
		t.Errorf("now %s", got)
	}
	if got := asJSON(t, ok[api.MemberList](t, f, path, bearer(owner)...).Items); got !=
		`[{"id":"u_ada","role":"member","status":"member","user":""},{"id":"u_bob","role":"auditor","status":"member","user":""}]` {
		t.Errorf("then %s", got)
	}
	if got := f.get(t, path, append(bearer(owner), "Accept", "text/csv")...).body; got != "id,user,role,status\r\nu_ada,,member,member\r\nu_bob,,auditor,member\r\n" {
		t.Errorf("as CSV %q", got)
	}
	if got := f.get(t, path+"&status=removed", append(bearer(owner), "Accept", "application/jsonl")...).body; got != "" {
		t.Errorf("as JSON lines %q", got)
	}
	f.refusedTo(t, owner, http.StatusForbidden, "forbidden", strings.Replace(path, "acme", "globex", 1))
	plain := f.memberKey("acme", "u_ada", domain.RoleMember)
	f.commit(t)
	f.refusedTo(t, plain, http.StatusForbidden, "forbidden", path)
}

func TestInstantsThatAreRefused(t *testing.T) {
	f := setup(t)
	f.example(t)
	f.archive(t)
	before := url.QueryEscape(f.Tenant("acme").CreatedAt.Add(-time.Millisecond).Format(time.RFC3339Nano))
	far := f.tokens.Token(eventstore.Position{Partition: f.store.Info().PartitionOf("acme"), Seq: 1000})
	elsewhere := f.tokens.Token(eventstore.Position{Partition: f.store.Info().PartitionOf("globex"), Seq: 1})
	for _, path := range []string{"/tenants/acme", "/tenants/acme/licenses", "/tenants/acme/licenses/lic_1", "/tenants/acme/seats", "/tenants/acme/members"} {
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

// Rows that are further than the archive wait for it: only the archive tells which of their commits were later. So does an export.
func TestWhatNeedsTheArchiveWaitsForIt(t *testing.T) {
	for name, path := range map[string]func(*fixture) string{
		"an instant": func(f *fixture) string {
			return "/tenants/acme?as_of=" + url.QueryEscape(f.Now.Format(time.RFC3339Nano))
		},
		"an export": func(*fixture) string { return "/tenants/acme/export" },
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.example(t)
			answer := make(chan reply)
			go func() { answer <- f.get(t, path(f)) }()
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
		})
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
