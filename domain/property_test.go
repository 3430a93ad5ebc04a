package domain_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
)

// TestPropertiesOfHistories plays random commands on a tenant and on a model that is too simple to be wrong.
func TestPropertiesOfHistories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := &history{
			t: t, tenant: domain.NewTenant("acme"), now: domain.Moment{At: day}, fences: map[domain.LicenseID]uint64{},
			licenses: []domain.LicenseID{"lic1", "lic2", "lic3"},
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			h.now.At = h.now.At.Add(h.pause())
			if rapid.IntRange(0, 19).Draw(t, "take over") == 0 {
				h.takeOver()
			}
			h.play(h.command())
		}
		h.takeOver()
	})
}

// TestPropertiesOfEveryPolicy plays as many commands on licenses with every combination of the rules that say who gets a seat: a
// dozen of the combinations in each history, all of them in the whole test.
func TestPropertiesOfEveryPolicy(t *testing.T) {
	t.Parallel()
	var combinations []domain.Policy
	for _, per := range []domain.SeatPer{domain.SeatPerProcess, domain.SeatPerMachine, domain.SeatPerUser} {
		for _, overage := range []domain.Overage{domain.OverageNone, domain.OveragePercent, domain.OverageUnlimited} {
			for _, shrink := range []domain.OnShrink{domain.ShrinkDrains, domain.ShrinkEvictsNewest} {
				for _, reservations := range [][]domain.Reservation{nil, {{Name: "a", Users: []domain.Pseudonym{"alice"}, Seats: 1, Priority: 1}}} {
					for _, days := range []int{0, 1} {
						p := domain.Policy{LeaseSeconds: 10, SeatPer: per, Overage: overage, OnShrink: shrink, Reservations: reservations, BorrowDays: days}
						if overage == domain.OveragePercent {
							p.OveragePercent = 50
						}
						combinations = append(combinations, p)
					}
				}
			}
		}
	}
	const dozen = 12
	acquired := map[int]int{} // seats, by the combination
	rapid.Check(t, func(t *rapid.T) {
		first := dozen * rapid.IntRange(0, len(combinations)/dozen-1).Draw(t, "dozen")
		h := &history{t: t, tenant: domain.NewTenant("acme"), now: domain.Moment{At: day}, fences: map[domain.LicenseID]uint64{}, fixed: true}
		h.play(domain.CreateTenant{Tenant: "acme", Name: "Acme"})
		for i := range dozen {
			id := domain.LicenseID(fmt.Sprint("lic", i+1))
			h.licenses = append(h.licenses, id)
			h.play(domain.IssueLicense{
				License: id, Product: "cad", Seats: rapid.IntRange(1, 2).Draw(t, "seats"), Policy: combinations[first+i],
				Key: domain.LicenseKey{ID: domain.KeyID(id), Hash: []byte{1}},
			})
			// Whatever else is drawn, each rule is about somebody.
			h.play(domain.AcquireSeat{License: id, Lease: domain.LeaseID("first-" + id), Holder: domain.Holder{User: "alice", Machine: "ws1"}})
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			h.now.At = h.now.At.Add(h.pause())
			h.play(h.command())
		}
		h.takeOver()
		for _, e := range h.events {
			if a, ok := e.event.(*domain.SeatAcquired); ok {
				acquired[first+slices.Index(h.licenses, a.License)]++
			}
		}
	})
	for i, p := range combinations {
		if acquired[i] == 0 {
			t.Errorf("nobody acquired a seat of a license with %+v", p)
		}
	}
}

// history is a tenant, the model of it, and every event so far.
type history struct {
	licenses []domain.LicenseID // that commands are about; the first one twice as often
	fixed    bool               // the rules that say who gets a seat stay as they are
	t        *rapid.T
	tenant   *domain.Tenant
	model    model
	now      domain.Moment
	events   []dated
	fences   map[domain.LicenseID]uint64 // of the last lease
	ids      int
}

type dated struct {
	at    time.Time
	event domain.Event
}

func (h *history) play(c domain.Command) {
	want, wantCode := h.model.decide(c, h.now)
	before := h.view(h.tenant)
	events, code := h.decide(h.tenant, c)
	h.model.note(c, want, wantCode, h.now.At)
	if after := h.view(h.tenant); !reflect.DeepEqual(before, after) {
		h.fatalf(c, "Decide changed the tenant from\n%+v\nto\n%+v", before, after)
	}
	if code != wantCode || !h.same(c, events, want) {
		h.fatalf(c, "got  %s %s\nwant %s %s", code, texts(events), wantCode, texts(want))
	}
	for _, e := range events {
		h.apply(c, e)
	}
	if got, want := h.view(h.tenant), h.model.view(); !reflect.DeepEqual(got, want) {
		h.fatalf(c, "tenant is\n%+v\nmodel says\n%+v", got, want)
	}
	h.checkNextDue(c)
	if got, want := byLicense(h.tenant.Called(h.now)), h.model.called(h.now); !reflect.DeepEqual(got, want) {
		h.fatalf(c, "calls %v, want %v", got, want)
	}
	if code == "" {
		h.checkRecall(c, events)
	}
	h.checkRepeat(c, code)
}

func (h *history) apply(c domain.Command, e domain.Event) {
	if acquired, ok := e.(*domain.SeatAcquired); ok {
		l := h.model.license(acquired.License)
		running := h.model.active(acquired.License)
		if code := l.refuses(running, acquired.Holder); code != "" {
			h.fatalf(c, "seat acquired with %d of %d in use: %s", l.taken(running), l.limit(), code)
		}
		if fence := h.tenant.Version + 1; fence <= h.fences[l.id] {
			h.fatalf(c, "fence %d after %d", fence, h.fences[l.id])
		}
		h.fences[l.id] = h.tenant.Version + 1
	}
	h.checkStored(c, e)
	h.tenant.Apply(h.now.At, e)
	h.model.apply(h.now.At, e)
	h.events = append(h.events, dated{h.now.At, e})
	if got, want := h.tenant.Version, uint64(len(h.events)); got != want {
		h.fatalf(c, "version %d after %d events", got, want)
	}
}

// checkStored checks that an event comes back from JSON as it was.
func (h *history) checkStored(c domain.Command, e domain.Event) {
	text, err := json.Marshal(e)
	if err != nil {
		h.fatalf(c, "encode %T: %v", e, err)
	}
	again := domain.NewEvent(e.EventType())
	if again == nil {
		h.fatalf(c, "NewEvent does not know %s", e.EventType())
	}
	if err := json.Unmarshal(text, again); err != nil || !reflect.DeepEqual(again, e) {
		h.fatalf(c, "%s came back as %+v, %v", text, again, err)
	}
}

// checkRecall checks that the answer can be rebuilt from the events, unless it is read from the present state.
func (h *history) checkRecall(c domain.Command, events []domain.Event) {
	if len(events) == 0 {
		return
	}
	switch c.(type) {
	case domain.HeartbeatSeats, domain.ReleaseSeats, domain.ExpireSeats, domain.EvictLease, domain.ReleaseHolder, domain.LeaveQueue:
		return
	}
	want := c.Answer(h.tenant, events)
	if got, rejection, known := domain.Recall(h.tenant, events); !known || rejection != nil || !reflect.DeepEqual(got, want) {
		h.fatalf(c, "recalled %+v %v %v, want %+v", got, rejection, known, want)
	}
}

// checkRepeat checks that a command repeated at once adds nothing. A license
// is issued and a key given out once under an id, so these have no repeat, and what is done in parts goes on.
func (h *history) checkRepeat(c domain.Command, code domain.Code) {
	switch c := c.(type) {
	case domain.IssueLicense, domain.RotateKey:
		return
	case domain.ReleaseHolder:
		if c.Max < 100 {
			return
		}
	case domain.ExpireSeats:
		if c.Max < 100 {
			return
		}
	case domain.CreateTenant:
		if events, code := h.decide(h.tenant, c); code != domain.TenantExists || len(events) > 0 {
			h.fatalf(c, "repeat gave %s %s", code, texts(events))
		}
		return
	}
	events, codeAgain := h.decide(h.tenant, c)
	if codeAgain != code {
		h.fatalf(c, "refused with %q, repeated with %q", code, codeAgain)
	}
	if _, isAcquire := c.(domain.AcquireSeat); isAcquire && code != "" {
		want, wantCode := h.model.decide(c, h.now)
		h.model.note(c, want, wantCode, h.now.At)
	}
	if len(events) > 0 {
		h.fatalf(c, "repeat gave %s", texts(events))
	}
}

// checkNextDue checks that the next deadline is not late.
func (h *history) checkNextDue(c domain.Command) {
	next, ok := h.tenant.NextDue()
	var want time.Time
	for _, d := range h.model.denials {
		if due := d.at.Add(time.Minute); d.count > 0 && (want.IsZero() || due.Before(want)) {
			want = due
		}
	}
	for _, l := range h.model.leases {
		if due := h.model.runsOut(l, h.now); l.State == domain.LeaseStateActive && (want.IsZero() || due.Before(want)) {
			want = due
		}
	}
	if !want.IsZero() && (!ok || next.After(want)) {
		h.fatalf(c, "next due is %v %v, want %v or before", next, ok, want)
	}
}

// takeOver lets a new writer go on with what a replay of the events gives, which must be what the old one had.
func (h *history) takeOver() {
	replayed := domain.NewTenant("acme")
	for _, e := range h.events {
		replayed.Apply(e.at, e.event)
	}
	if got, want := h.view(replayed), h.view(h.tenant); !reflect.DeepEqual(got, want) {
		h.t.Fatalf("replayed is\n%+v\nwant\n%+v", got, want)
	}
	h.model.denials, replayed, h.tenant = nil, h.stored(replayed), h.stored(h.tenant) // how often who was refused is lost
	c := h.command()
	got, gotCode := h.decide(replayed, c)
	want, wantCode := h.decide(h.tenant, c)
	if gotCode != wantCode || !h.same(c, got, want) {
		h.fatalf(c, "replayed decides %s %s\nwant             %s %s", gotCode, texts(got), wantCode, texts(want))
	}
	h.tenant, h.now.Epoch = h.stored(replayed), h.now.At
}

// stored returns what comes back of a tenant that went through bytes.
func (h *history) stored(tenant *domain.Tenant) *domain.Tenant {
	bytes, err := tenant.AppendBinary(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	again := domain.NewTenant(tenant.ID)
	if err := again.UnmarshalBinary(bytes); err != nil {
		h.t.Fatal(err)
	}
	if got, want := h.view(again), h.view(tenant); !reflect.DeepEqual(got, want) {
		h.t.Fatalf("came back as\n%+v\nwant\n%+v", got, want)
	}
	if cut := rapid.IntRange(0, len(bytes)-1).Draw(h.t, "cut"); domain.NewTenant(tenant.ID).UnmarshalBinary(bytes[:cut]) == nil {
		h.t.Fatalf("the first %d of %d bytes are taken for a tenant", cut, len(bytes))
	}
	return again
}

// same compares what a command left. Leases that run out at one instant expire in any order.
func (h *history) same(c domain.Command, a, b []domain.Event) bool {
	endsOf := func(events []domain.Event) (ends []time.Time, leases []domain.LeaseID, rest []domain.Event) {
		for i, event := range events {
			e, ok := event.(*domain.SeatExpired)
			if !ok {
				rest = events[i:]
				break
			}
			ends = append(ends, h.model.runsOut(h.model.lease(e.License, e.Lease), h.now))
			leases = append(leases, e.Lease)
		}
		slices.Sort(leases)
		return ends, slices.Compact(leases), rest
	}
	endsA, leasesA, restA := endsOf(a)
	endsB, leasesB, restB := endsOf(b)
	if !reflect.DeepEqual(endsA, endsB) || len(leasesA) != len(leasesB) || !reflect.DeepEqual(restA, restB) {
		return false
	}
	_, inParts := c.(domain.ExpireSeats) // then it is open which of an instant come first
	return inParts || slices.Equal(leasesA, leasesB)
}

func (h *history) decide(t *domain.Tenant, c domain.Command) ([]domain.Event, domain.Code) {
	events, err := c.Decide(t, h.now)
	if err == nil {
		return events, ""
	}
	var r *domain.Rejection
	if !errors.As(err, &r) {
		h.fatalf(c, "error %v is no rejection", err)
	}
	if a, ok := c.(domain.AcquireSeat); ok && r.Code == domain.NoSeatAvailable {
		l := h.model.license(a.License)
		place, waiting := slices.Index(l.queue(), a.Holder)+1, len(l.queue())
		if estimate := h.model.estimate(l, len(l.ahead(a.Holder))+1, h.now.At); r.Position != place || r.Waiting != waiting || r.EstimateSeconds != estimate {
			h.fatalf(c, "told %d of %d in %d s, want %d of %d in %d s", r.Position, r.Waiting, r.EstimateSeconds, place, waiting, estimate)
		}
	}
	return events, r.Code
}

func (h *history) fatalf(c domain.Command, format string, args ...any) {
	for _, e := range h.events {
		h.t.Logf("%s %s", clockText(e.at), eventText(e.event))
	}
	h.t.Fatalf("%s (writer since %s) %T%+v: %s", h.now.At.Format("15:04:05.000"), clockText(h.now.Epoch), c, c, fmt.Sprintf(format, args...))
}

func texts(events []domain.Event) []string {
	var all []string
	for _, e := range events {
		all = append(all, eventText(e))
	}
	return all
}

// pause is often none or just around a deadline.
func (h *history) pause() time.Duration {
	for _, l := range h.model.leases {
		if l.State == domain.LeaseStateActive && rapid.IntRange(0, 9).Draw(h.t, "at a deadline") == 0 {
			at := h.model.runsOut(l, h.now).Add(rapid.SampledFrom([]time.Duration{-time.Millisecond, 0, 0, time.Millisecond}).Draw(h.t, "around"))
			return max(0, at.Sub(h.now.At))
		}
	}
	return rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, time.Minute}).Draw(h.t, "pause")
}

func (h *history) command() domain.Command {
	t := h.t
	license := rapid.SampledFrom(append(h.licenses[:1:1], h.licenses...)).Draw(t, "license")
	someLeases := func() []domain.LeaseID {
		known := []domain.LeaseID{"unknown"}
		for _, l := range h.model.leases {
			if l.license == license || rapid.IntRange(0, 9).Draw(t, "of another license") == 0 {
				known = append(known, l.id)
			}
		}
		return rapid.SliceOfN(rapid.SampledFrom(known), 1, 4).Draw(t, "leases")
	}
	h.ids++
	id := fmt.Sprint(h.ids)
	if h.model.license(license) != nil && rapid.IntRange(0, 7).Draw(t, "of the policy") == 0 {
		return h.policyCommand(license, id, someLeases)
	}
	kind := rapid.IntRange(0, 49).Draw(t, "command")
	switch {
	case !h.model.exists && kind < 45:
		return domain.CreateTenant{Tenant: "acme", Name: "Acme"}
	case h.model.license(license) == nil && kind < 47:
		return domain.IssueLicense{
			License: license, Product: "cad", Seats: rapid.IntRange(0, 3).Draw(t, "seats"),
			Policy: h.policy(true).Of(domain.Policy{Trial: rapid.Bool().Draw(t, "trial")}),
			Key:    domain.LicenseKey{ID: domain.KeyID("key" + id), Hash: []byte{1}},
		}
	case kind < 20:
		var until time.Time
		if rapid.IntRange(0, 3).Draw(t, "borrow") == 0 {
			until = h.now.At.Add(rapid.SampledFrom([]time.Duration{time.Millisecond, 5 * time.Second, time.Minute, 24 * time.Hour, 25 * time.Hour}).Draw(t, "until"))
		}
		return domain.AcquireSeat{
			BorrowUntil: until, License: license, Lease: domain.LeaseID("l" + id), Holder: h.holder(),
			Queue:    rapid.IntRange(0, 2).Draw(t, "queue") == 0,
			Features: rapid.SampledFrom([][]string{nil, nil, nil, {"cam"}, {"cam", "sim"}}).Draw(t, "features"),
		}
	case kind < 22:
		return domain.LeaveQueue{License: license, Holder: h.holder(), Cause: domain.DequeuedByCaller}
	case kind < 31:
		leases, fence := someLeases(), uint64(0)
		if rapid.IntRange(0, 5).Draw(t, "with a fence") == 0 {
			leases, fence = leases[:1], uint64(rapid.IntRange(1, 9).Draw(t, "fence"))
		}
		return domain.HeartbeatSeats{License: license, Leases: leases, Fence: fence}
	case kind < 36:
		leases, fence := someLeases(), uint64(0)
		if rapid.IntRange(0, 5).Draw(t, "with a fence") == 0 {
			leases, fence = leases[:1], uint64(rapid.IntRange(1, 9).Draw(t, "fence"))
		}
		return domain.ReleaseSeats{License: license, Leases: leases, Fence: fence}
	case kind < 39:
		return domain.ExpireSeats{Max: rapid.SampledFrom([]int{1, 2, 100}).Draw(t, "max")}
	case kind < 42:
		return domain.ChangeLicense{License: license, Seats: new(rapid.IntRange(0, 3).Draw(t, "seats"))}
	case kind < 43:
		return domain.SuspendLicense{License: license, Reason: "r"}
	case kind < 45:
		return domain.ReinstateLicense{License: license, Reason: "r"}
	case kind < 46:
		return domain.SuspendTenant{Reason: "r"}
	case kind < 48:
		return domain.ReinstateTenant{Reason: "r"}
	case kind < 49:
		return domain.RenameTenant{Name: rapid.SampledFrom([]string{"Acme", "Umbrella"}).Draw(t, "name")}
	}
	return domain.RevokeLicense{License: license, Reason: "r"}
}

func (h *history) holder() domain.Holder {
	return domain.Holder{
		User:    rapid.SampledFrom([]domain.Pseudonym{"alice", "bob", "carol"}).Draw(h.t, "user"),
		Machine: rapid.SampledFrom([]domain.Pseudonym{"desk", "desk", "lab"}).Draw(h.t, "machine"),
		Process: rapid.SampledFrom([]domain.Pseudonym{"", "", "p"}).Draw(h.t, "process"),
	}
}

// policy draws a change of a policy, or a whole one.
func (h *history) policy(whole bool) domain.PolicyChange {
	t := h.t
	var c domain.PolicyChange
	some := func() bool { return rapid.IntRange(0, 3).Draw(t, "say") == 0 }
	if whole || some() {
		c.LeaseSeconds = new(rapid.SampledFrom([]int{1, 3, 10, 30}).Draw(t, "lease"))
	}
	if some() {
		c.SeatPer = new(rapid.SampledFrom([]domain.SeatPer{domain.SeatPerProcess, domain.SeatPerMachine, domain.SeatPerUser}).Draw(t, "per"))
	}
	if some() {
		c.Overage = new(rapid.SampledFrom([]domain.Overage{domain.OverageNone, domain.OveragePercent, domain.OverageUnlimited}).Draw(t, "overage"))
		if *c.Overage == domain.OveragePercent {
			c.OveragePercent = new(rapid.SampledFrom([]int{34, 50, 100}).Draw(t, "percent"))
		}
	}
	if some() {
		c.ReviveSeconds = new(rapid.SampledFrom([]int{0, 1, 10}).Draw(t, "revive"))
	}
	if some() {
		c.MaxPerUser = new(rapid.IntRange(0, 2).Draw(t, "per user"))
	}
	if some() {
		c.MaxPerMachine = new(rapid.IntRange(0, 2).Draw(t, "per machine"))
	}
	if some() {
		c.Reservations = new(rapid.SampledFrom([][]domain.Reservation{
			{},
			{{Name: "a", Users: []domain.Pseudonym{"alice"}, Seats: 1}},
			{{Name: "ab", Users: []domain.Pseudonym{"bob", "alice"}, Seats: 2, Priority: 1}},
			{{Name: "a", Users: []domain.Pseudonym{"alice"}, Seats: 1}, {Name: "c", Users: []domain.Pseudonym{"carol"}, Seats: 1}},
			{{Name: "a", Users: []domain.Pseudonym{"alice"}}, {Name: "c", Users: []domain.Pseudonym{"alice"}}},
		}).Draw(t, "reservations"))
	}
	if some() {
		c.BorrowDays = new(rapid.IntRange(0, 1).Draw(t, "borrow"))
	}
	if some() {
		c.BorrowMax = new(rapid.IntRange(0, 2).Draw(t, "borrow max"))
	}
	if some() {
		c.BorrowLowWater = new(rapid.IntRange(0, 2).Draw(t, "low water"))
	}
	if some() {
		c.Features = new(rapid.SampledFrom([][]string{nil, {"cam"}, {"sim", "cam"}}).Draw(t, "features"))
	}
	if some() {
		c.OnShrink = new(rapid.SampledFrom([]domain.OnShrink{domain.ShrinkDrains, domain.ShrinkEvictsNewest}).Draw(t, "shrink"))
	}
	if rapid.IntRange(0, 11).Draw(t, "starts") == 0 {
		c.StartsAt = new(day.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "at")) * time.Second))
	}
	if rapid.IntRange(0, 11).Draw(t, "expires") == 0 {
		c.ExpiresAt = new(day.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "at")) * time.Second))
	}
	return c
}

func (h *history) policyCommand(license domain.LicenseID, id string, someLeases func() []domain.LeaseID) domain.Command {
	t := h.t
	switch rapid.IntRange(0, 9).Draw(t, "policy command") {
	case 0:
		c := domain.RenewLicense{License: license}
		if rapid.Bool().Draw(t, "ends") {
			c.ExpiresAt = day.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "at")) * time.Second)
		}
		return c
	case 1:
		return domain.ConvertTrial{License: license}
	case 2:
		return domain.RotateKey{License: license, Key: domain.LicenseKey{ID: domain.KeyID("key" + id), Hash: []byte{1}}, Overlap: time.Minute}
	case 3:
		return domain.EvictLease{License: license, Lease: someLeases()[0], Reason: "r"}
	case 4:
		c := domain.ReleaseHolder{Max: rapid.SampledFrom([]int{1, 100}).Draw(t, "max")}
		if rapid.Bool().Draw(t, "of a user") {
			c.User = "alice"
		} else {
			c.Machine = "lab"
		}
		return c
	}
	change := h.policy(false)
	if h.fixed {
		change.SeatPer, change.Overage, change.OveragePercent, change.OnShrink, change.Reservations, change.BorrowDays = nil, nil, nil, nil, nil, nil
	}
	return domain.ChangeLicense{License: license, Policy: change}
}

// view is all that can be seen of a tenant, so that two can be compared. NextDue is left out: it may be early.
type view struct {
	Name       string
	Status     domain.TenantStatus
	Version    uint64
	SeatsInUse int
	Licenses   map[domain.LicenseID]licenseView
	Queues     map[domain.LicenseID][]domain.Holder
}

type licenseView struct {
	Seats, InUse int
	Borrowed     int
	Policy       string
	Key, OldKey  domain.KeyID
	Status       domain.LicenseStatus
	Active       []domain.LeaseID // sorted
	Leases       map[domain.LeaseID]leaseView
}

type leaseView struct {
	Holder                       domain.Holder
	State                        domain.LeaseState
	Fence                        uint64
	Overage, Borrowed            bool
	AcquiredAt, ExpiresAt, Ended time.Time
}

func (h *history) view(t *domain.Tenant) view {
	v := view{Name: t.Name, Status: t.Status, Version: t.Version, SeatsInUse: t.SeatsInUse, Licenses: map[domain.LicenseID]licenseView{}}
	t.Licenses(func(l *domain.License) {
		if t.License(l.ID) != l || t.LicenseByKey(l.Key.ID) != l || (l.OldKey.ID != "" && t.LicenseByKey(l.OldKey.ID) != l) {
			h.t.Fatalf("license %s is not found by its id or its key", l.ID)
		}
		lv := licenseView{Seats: l.Seats, InUse: l.InUse, Borrowed: l.Borrowed, Policy: policyText(l.Policy), Key: l.Key.ID, OldKey: l.OldKey.ID, Status: l.Status, Leases: map[domain.LeaseID]leaseView{}}
		l.Leases(func(lease domain.Lease) { lv.Active = append(lv.Active, lease.ID) })
		slices.Sort(lv.Active)
		for _, m := range h.model.leases {
			if lease, ok := l.Lease(m.id); ok {
				lv.Leases[m.id] = leaseView{lease.Holder, lease.State, lease.Fence, lease.Overage, lease.Borrowed, lease.AcquiredAt, lease.ExpiresAt, lease.EndedAt}
			}
		}
		v.Licenses[l.ID] = lv
	})
	v.Queues = byLicense(t.Waiters())
	return v
}

func byLicense(waiters []domain.Waiter) map[domain.LicenseID][]domain.Holder {
	of := map[domain.LicenseID][]domain.Holder{}
	for _, w := range waiters {
		of[w.License] = append(of[w.License], w.Holder)
	}
	return of
}

// model is the rules once more, as plainly as can be: lists, no heaps, no counters.
type model struct {
	exists, suspended bool
	name              string
	version           uint64
	licenses          []*modelLicense
	leases            []*modelLease
	denials           []*modelDenials
	refused           *domain.SeatDenied // by the last decision, whether it is recorded or not; nil: who waits was told its place
	ended             []*modelLease      // in the order of their ends
}

// modelDenials are the refusals of one holder by one license.
type modelDenials struct {
	license domain.LicenseID
	holder  domain.Holder
	at      time.Time          // of the last event
	count   int                // since
	last    *domain.SeatDenied // of those
}

func (m *model) denied(license domain.LicenseID, h domain.Holder) *modelDenials {
	for _, d := range m.denials {
		if d.license == license && d.holder == h {
			return d
		}
	}
	return nil
}

// note counts a refusal that left no event.
func (m *model) note(c domain.Command, events []domain.Event, code domain.Code, now time.Time) {
	acquire, ok := c.(domain.AcquireSeat)
	if !ok || code == "" || len(events) > 0 || !m.exists || m.license(acquire.License) == nil || m.refused == nil {
		return
	}
	d := m.denied(acquire.License, acquire.Holder)
	d.last = m.refused
	d.count++
}

type modelLicense struct {
	id          domain.LicenseID
	seats       int
	policy      domain.Policy
	status      domain.LicenseStatus
	key, oldKey domain.KeyID
	evictFrom   uint64               // seats taken from here on no longer fit; 0: all do
	waiting     []*domain.SeatQueued // as they came
}

type modelLease struct {
	id      domain.LeaseID
	license domain.LicenseID
	seat    uint64 // the fence of the lease that took its seat
	leaseView
}

// seatOf is what the leases of one seat have in common.
func (l *modelLicense) seatOf(h domain.Holder) any {
	switch l.policy.SeatPer {
	case domain.SeatPerUser:
		return h.User
	case domain.SeatPerMachine:
		return h.Machine
	}
	return h
}

func (l *modelLicense) taken(running []*modelLease) int {
	seats := map[any]bool{}
	for _, lease := range running {
		seats[l.seatOf(lease.Holder)] = true
	}
	return len(seats)
}

func (l *modelLicense) limit() int {
	switch l.policy.Overage {
	case domain.OveragePercent:
		return l.seats + l.seats*l.policy.OveragePercent/100
	case domain.OverageUnlimited:
		return 1 << 60
	}
	return l.seats
}

func (l *modelLicense) shares(running []*modelLease, h domain.Holder) bool {
	return slices.ContainsFunc(running, func(r *modelLease) bool { return l.seatOf(r.Holder) == l.seatOf(h) })
}

// refuses says why a holder gets no lease beside those that run.
func (l *modelLicense) refuses(running []*modelLease, h domain.Holder) domain.Code {
	users, machines := 0, 0
	for _, r := range running {
		if r.Holder.User == h.User {
			users++
		}
		if r.Holder.Machine == h.Machine {
			machines++
		}
	}
	switch {
	case l.policy.MaxPerUser > 0 && users >= l.policy.MaxPerUser:
		return domain.UserLimitReached
	case l.policy.MaxPerMachine > 0 && machines >= l.policy.MaxPerMachine:
		return domain.MachineLimitReached
	case !l.shares(running, h) && l.limit()-l.taken(running) <= l.kept(running, h.User):
		return domain.NoSeatAvailable
	}
	return ""
}

// kept is how many free seats a user cannot have, because they are kept for others; none when one is kept for the user, too.
func (l *modelLicense) kept(running []*modelLease, user domain.Pseudonym) int {
	kept, mine := 0, false
	for _, r := range l.policy.Reservations {
		var theirs []*modelLease
		for _, lease := range running {
			if slices.Contains(r.Users, lease.Holder.User) {
				theirs = append(theirs, lease)
			}
		}
		free := max(0, r.Seats-l.taken(theirs))
		kept += free
		mine = mine || (free > 0 && slices.Contains(r.Users, user))
	}
	if mine {
		return 0
	}
	return kept
}

// borrowEnd is until when a lease can be borrowed.
func (l *modelLicense) borrowEnd(now time.Time) time.Time {
	end := now.AddDate(0, 0, l.policy.BorrowDays)
	if e := l.policy.ExpiresAt; !e.IsZero() && l.policy.GraceDays == 0 && e.Before(end) {
		return e
	}
	return end
}

// borrowMost is how many leases can be borrowed.
func (l *modelLicense) borrowMost() int {
	most := 1<<63 - 1
	if l.policy.BorrowLowWater > 0 {
		most = max(0, l.seats-l.policy.BorrowLowWater)
	}
	if l.policy.BorrowMax > 0 {
		most = min(most, l.policy.BorrowMax)
	}
	return most
}

// queue is who waits, in the order in which they get seats.
func (l *modelLicense) queue() []domain.Holder {
	var queue []domain.Holder
	for priority := 9; priority >= 0; priority-- {
		for _, e := range l.waiting {
			if e.Priority == priority {
				queue = append(queue, e.Holder)
			}
		}
	}
	return queue
}

// ahead is who gets a seat before a holder.
func (l *modelLicense) ahead(h domain.Holder) []domain.Holder {
	if queue := l.queue(); slices.Contains(queue, h) {
		return queue[:slices.Index(queue, h)]
	}
	with := *l
	with.waiting = append(slices.Clone(l.waiting), &domain.SeatQueued{Holder: h, Priority: l.priority(h)})
	queue := with.queue()
	return queue[:slices.Index(queue, h)]
}

func (l *modelLicense) priority(h domain.Holder) int {
	for _, r := range l.policy.Reservations {
		if slices.Contains(r.Users, h.User) {
			return r.Priority
		}
	}
	return 0
}

// serve gives seats to those who wait, and returns who got one, and the leases then.
func (l *modelLicense) serve(queue []domain.Holder, running []*modelLease) (got []domain.Holder, then []*modelLease) {
	then = slices.Clone(running)
	for _, h := range queue {
		if l.refuses(then, h) == "" {
			got = append(got, h)
			then = append(then, &modelLease{leaseView: leaseView{Holder: h}})
		}
	}
	return got, then
}

// turn is refuses, once those who came before have their seats.
func (l *modelLicense) turn(running []*modelLease, h domain.Holder) domain.Code {
	code := l.refuses(running, h)
	if _, then := l.serve(l.ahead(h), running); code == "" && l.refuses(then, h) != "" {
		return domain.NoSeatAvailable
	}
	return code
}

// called is who of the queues gets a seat now, or a refusal.
func (m *model) called(now domain.Moment) map[domain.LicenseID][]domain.Holder {
	called := map[domain.LicenseID][]domain.Holder{}
	for _, l := range m.licenses {
		got := l.queue()
		if over, _ := l.notValid(now.At); over == "" && !m.suspended && l.status == domain.LicenseActive {
			got, _ = l.serve(got, m.active(l.id))
		}
		if len(got) > 0 {
			called[l.id] = got
		}
	}
	return called
}

// estimate is when so many seats are free.
func (m *model) estimate(l *modelLicense, seats int, now time.Time) int {
	var ended []*modelLease
	for _, lease := range m.ended {
		if lease.license == l.id {
			ended = append(ended, lease)
		}
	}
	if len(ended) == 0 {
		return 0
	}
	ended = ended[max(0, len(ended)-32):]
	each := now.Sub(ended[0].Ended).Seconds() / float64(len(ended))
	return max(1, int(math.Ceil(each*float64(seats)-1e-6)))
}

func borrowed(leases []*modelLease) int {
	n := 0
	for _, l := range leases {
		if l.Borrowed {
			n++
		}
	}
	return n
}

func (l *modelLicense) notValid(now time.Time) (domain.Code, time.Time) {
	switch {
	case now.Before(l.policy.StartsAt):
		return domain.LicenseNotStarted, l.policy.StartsAt
	case !l.policy.ExpiresAt.IsZero() && !now.Before(l.policy.ExpiresAt):
		return domain.LicenseExpired, l.policy.ExpiresAt
	}
	return "", time.Time{}
}

// until is how long a lease runs from now; grace is whole days, which these histories do not last.
func (l *modelLicense) until(now time.Time) time.Time {
	until := now.Add(time.Duration(l.policy.LeaseSeconds) * time.Second)
	if end := l.policy.ExpiresAt; !end.IsZero() && l.policy.GraceDays == 0 && end.Before(until) {
		return end
	}
	return until
}

// shrink notes which seats no longer fit.
func (m *model) shrink(l *modelLicense) {
	l.evictFrom = 0
	var seats []uint64
	for _, lease := range m.active(l.id) {
		seats = append(seats, lease.seat)
	}
	slices.Sort(seats)
	if seats = slices.Compact(seats); len(seats) > l.limit() {
		l.evictFrom = seats[l.limit()]
	}
}

// sit gives a lease the seat that it shares, or one of its own.
func (m *model) sit(lease *modelLease) {
	lease.seat = lease.Fence
	l := m.license(lease.license)
	for _, other := range m.active(l.id) {
		if other != lease && l.seatOf(other.Holder) == l.seatOf(lease.Holder) {
			lease.seat = other.seat
		}
	}
}

func (m *model) license(id domain.LicenseID) *modelLicense {
	for _, l := range m.licenses {
		if l.id == id {
			return l
		}
	}
	return nil
}

func (m *model) lease(license domain.LicenseID, id domain.LeaseID) *modelLease {
	for _, l := range m.leases {
		if l.license == license && l.id == id {
			return l
		}
	}
	return nil
}

func (m *model) active(license domain.LicenseID) []*modelLease {
	var active []*modelLease
	for _, l := range m.leases {
		if l.license == license && l.State == domain.LeaseStateActive {
			active = append(active, l)
		}
	}
	return active
}

// runsOut is the end of a lease, or a third of its length after the take-over.
func (m *model) runsOut(l *modelLease, now domain.Moment) time.Time {
	grace := now.Epoch.Add(max(time.Second, time.Duration(m.license(l.license).policy.LeaseSeconds/3)*time.Second))
	if grace.After(l.ExpiresAt) {
		return grace
	}
	return l.ExpiresAt
}

// overdue returns the leases that ran out, by their end.
func (m *model) overdue(now domain.Moment) []*modelLease {
	var overdue []*modelLease
	for _, l := range m.leases {
		if l.State == domain.LeaseStateActive && !now.At.Before(m.runsOut(l, now)) {
			overdue = append(overdue, l)
		}
	}
	slices.SortFunc(overdue, func(a, b *modelLease) int {
		return cmp.Or(m.runsOut(a, now).Compare(m.runsOut(b, now)), cmp.Compare(a.id, b.id))
	})
	return overdue
}

func (m *model) decide(c domain.Command, now domain.Moment) ([]domain.Event, domain.Code) {
	if c, ok := c.(domain.CreateTenant); ok {
		if m.exists {
			return nil, domain.TenantExists
		}
		return []domain.Event{&domain.TenantCreated{Tenant: c.Tenant, Name: c.Name}}, ""
	}
	expire, isExpire := c.(domain.ExpireSeats)
	if !m.exists && !isExpire {
		return nil, domain.TenantNotFound
	}
	switch c := c.(type) {
	case domain.RenameTenant:
		return one(c.Name != m.name, &domain.TenantRenamed{Name: c.Name, Was: m.name})
	case domain.SuspendTenant:
		return one(!m.suspended, &domain.TenantSuspended{Reason: c.Reason})
	case domain.ReinstateTenant:
		return one(m.suspended, &domain.TenantReinstated{Reason: c.Reason})
	case domain.IssueLicense:
		if contradicts(c.Policy) || reserved(c.Policy) > c.Seats {
			return nil, domain.PolicyInvalid
		}
		return one(true, &domain.LicenseIssued{License: c.License, Product: c.Product, Seats: c.Seats, Policy: c.Policy, Key: c.Key})
	}
	var events []domain.Event
	overdue := m.overdue(now)
	if isExpire {
		overdue = overdue[:min(len(overdue), expire.Max)]
	}
	for _, l := range overdue {
		events = append(events, &domain.SeatExpired{License: l.license, Lease: l.id})
	}
	if isExpire {
		var of []*modelDenials
		for _, d := range m.denials {
			if d.count > 0 && !now.At.Before(d.at.Add(time.Minute)) {
				of = append(of, d)
			}
		}
		for _, d := range of[:min(len(of), expire.Max-len(overdue))] {
			e := *d.last
			e.Count = d.count
			events = append(events, &e)
		}
		return events, ""
	}
	if c, ok := c.(domain.ReleaseHolder); ok {
		var leases []*modelLease
		for _, l := range m.leases {
			if l.State == domain.LeaseStateActive && (l.Holder.User == c.User || l.Holder.Machine == c.Machine) && now.At.Before(m.runsOut(l, now)) {
				leases = append(leases, l)
			}
		}
		slices.SortStableFunc(leases, func(a, b *modelLease) int {
			return cmp.Or(cmp.Compare(a.license, b.license), cmp.Compare(a.Fence, b.Fence))
		})
		for _, l := range leases[:min(c.Max, len(leases))] {
			events = append(events, &domain.SeatReleased{License: l.license, Lease: l.id})
		}
		return events, ""
	}
	license := m.license(licenseOf(c))
	if license == nil {
		return nil, domain.LicenseNotFound
	}
	if change, code, isChange := m.change(license, c, now); isChange {
		return change, code
	}
	return m.seat(license, c, now, events)
}

func licenseOf(c domain.Command) domain.LicenseID {
	return domain.LicenseID(reflect.ValueOf(c).FieldByName("License").String())
}

func (m *model) change(l *modelLicense, c domain.Command, now domain.Moment) ([]domain.Event, domain.Code, bool) {
	var events []domain.Event
	var code domain.Code
	switch c := c.(type) {
	case domain.ChangeLicense:
		if policy := c.Policy.Of(l.policy); policyText(policy) != policyText(l.policy) {
			seats := l.seats
			if c.Seats != nil {
				seats = *c.Seats
			}
			if code = domain.PolicyInvalid; !contradicts(policy) && (c.Policy.Reservations == nil || reserved(policy) <= seats) {
				events, code = one(true, &domain.PolicyChanged{License: l.id, Policy: policy, Was: l.policy})
			}
		}
		if c.Seats != nil && code == "" && *c.Seats != l.seats {
			events = append(events, &domain.LicenseResized{License: l.id, Seats: *c.Seats, Was: l.seats})
		}
	case domain.RenewLicense:
		policy := l.policy
		policy.ExpiresAt = c.ExpiresAt
		if code = domain.PolicyInvalid; !contradicts(policy) || c.ExpiresAt.Equal(l.policy.ExpiresAt) {
			events, code = one(!c.ExpiresAt.Equal(l.policy.ExpiresAt), &domain.LicenseRenewed{License: l.id, ExpiresAt: c.ExpiresAt, Was: l.policy.ExpiresAt})
		}
	case domain.ConvertTrial:
		events, code = one(l.policy.Trial, &domain.TrialConverted{License: l.id})
	case domain.RotateKey:
		events, code = one(true, &domain.LicenseKeyRotated{License: l.id, Key: c.Key, OldKey: l.key, OldUntil: now.At.Add(c.Overlap)})
	case domain.SuspendLicense:
		events, code = one(l.status != domain.LicenseOnSuspense, &domain.LicenseSuspended{License: l.id, Reason: c.Reason})
	case domain.ReinstateLicense:
		events, code = one(l.status != domain.LicenseActive, &domain.LicenseReinstated{License: l.id, Reason: c.Reason})
	case domain.RevokeLicense:
		events, code = one(l.status != domain.LicenseOver, &domain.LicenseRevoked{License: l.id, Reason: c.Reason})
		return events, code, true
	default:
		return nil, "", false
	}
	if l.status == domain.LicenseOver {
		return nil, domain.LicenseUnchangeable, true
	}
	return events, code, true
}

func reserved(p domain.Policy) int {
	seats := 0
	for _, r := range p.Reservations {
		seats += r.Seats
	}
	return seats
}

func contradicts(p domain.Policy) bool {
	var users []domain.Pseudonym
	for _, r := range p.Reservations {
		users = append(users, r.Users...)
	}
	slices.Sort(users)
	if len(slices.Compact(slices.Clone(users))) < len(users) {
		return true
	}
	return !p.StartsAt.IsZero() && !p.ExpiresAt.IsZero() && !p.ExpiresAt.After(p.StartsAt)
}

func one(happens bool, e domain.Event) ([]domain.Event, domain.Code) {
	if happens {
		return []domain.Event{e}, ""
	}
	return nil, ""
}

// seat decides a seat command after events expired what ran out.
func (m *model) seat(l *modelLicense, c domain.Command, now domain.Moment, events []domain.Event) ([]domain.Event, domain.Code) {
	var off domain.Code
	switch {
	case m.suspended:
		off = domain.TenantIsOff
	case l.status == domain.LicenseOver:
		off = domain.LicenseIsGone
	case l.status == domain.LicenseOnSuspense:
		off = domain.LicenseIsOff
	}
	var running []*modelLease
	for _, lease := range m.active(l.id) {
		if now.At.Before(m.runsOut(lease, now)) {
			running = append(running, lease)
		}
	}
	named := func(ids []domain.LeaseID) []domain.LeaseID {
		var found []domain.LeaseID
		for _, id := range ids {
			if slices.ContainsFunc(running, func(r *modelLease) bool { return r.id == id }) && !slices.Contains(found, id) {
				found = append(found, id)
			}
		}
		return found
	}
	isExpired := func(lease *modelLease) bool { // or does now
		return lease.State == domain.LeaseStateExpired || (lease.State == domain.LeaseStateActive && !now.At.Before(m.runsOut(lease, now)))
	}
	switch c := c.(type) {
	case domain.AcquireSeat:
		held := slices.ContainsFunc(running, func(r *modelLease) bool { return r.Holder == c.Holder })
		denied := &domain.SeatDenied{License: l.id, Holder: c.Holder, Reason: off, Seats: l.seats, InUse: l.taken(running)}
		if off == "" {
			for _, f := range c.Features {
				if denied.Feature == "" && !slices.Contains(l.policy.Features, f) {
					denied.Reason, denied.Feature = domain.FeatureNotEntitled, f
				}
			}
		}
		var lease *modelLease
		for _, r := range running {
			if r.Holder == c.Holder {
				lease = r
			}
		}
		borrows := !c.BorrowUntil.IsZero()
		if denied.Reason == "" {
			if held && (!borrows || !c.BorrowUntil.After(lease.ExpiresAt)) {
				return nil, ""
			}
			denied.Reason, denied.ValidAt = l.notValid(now.At)
		}
		if denied.Reason == "" && borrows {
			switch {
			case l.policy.BorrowDays == 0:
				denied.Reason = domain.BorrowNotAllowed
			case c.BorrowUntil.After(l.borrowEnd(now.At)):
				denied.Reason, denied.ValidAt = domain.BorrowTooLong, l.borrowEnd(now.At)
			case (!held || !lease.Borrowed) && borrowed(running) >= l.borrowMost():
				denied.Reason, denied.Limit = domain.BorrowLimitReached, l.borrowMost()
			}
		}
		if denied.Reason == "" && !held {
			denied.Reason = l.turn(running, c.Holder)
		}
		waits := slices.Contains(l.queue(), c.Holder)
		if denied.Reason == domain.NoSeatAvailable && c.Queue {
			if waits {
				return nil, ""
			}
			return append(events, &domain.SeatQueued{License: l.id, Holder: c.Holder, Priority: l.priority(c.Holder), Position: len(l.ahead(c.Holder)) + 1}), ""
		}
		if denied.Reason == domain.NoSeatAvailable && waits {
			m.refused = nil
			return nil, denied.Reason
		}
		switch denied.Reason {
		case "":
			if held {
				return append(events, &domain.SeatBorrowed{License: l.id, Lease: lease.id, ExpiresAt: c.BorrowUntil}), ""
			}
			end := l.until(now.At)
			if borrows {
				end = c.BorrowUntil
			}
			overage := !l.shares(running, c.Holder) && l.taken(running) >= l.seats
			return append(events, &domain.SeatAcquired{
				License: l.id, Lease: c.Lease, Holder: c.Holder, ExpiresAt: end, Overage: overage, Borrowed: borrows, Features: c.Features,
			}), ""
		case domain.UserLimitReached:
			denied.Limit = l.policy.MaxPerUser
		case domain.MachineLimitReached:
			denied.Limit = l.policy.MaxPerMachine
		case domain.NoSeatAvailable:
			wait := time.Duration(l.policy.LeaseSeconds) * time.Second
			for _, lease := range running {
				wait = min(wait, m.runsOut(lease, now).Sub(now.At))
			}
			denied.RetryAfterSeconds = max(1, int((wait + time.Second - 1).Truncate(time.Second).Seconds()))
			denied.Reserved = min(max(0, l.limit()-l.taken(running)), l.kept(running, c.Holder.User))
			denied.Waiting = len(l.waiting)
			denied.EstimateSeconds = m.estimate(l, len(l.ahead(c.Holder))+1, now.At)
		}
		if waits {
			events = append(events, &domain.SeatDequeued{License: l.id, Holder: c.Holder, Cause: domain.DequeuedByRefusal, Reason: denied.Reason})
		}
		m.refused = denied
		if d := m.denied(l.id, c.Holder); d != nil {
			if now.At.Before(d.at.Add(time.Minute)) && !waits {
				return nil, denied.Reason
			}
			if d.count > 0 || now.At.Before(d.at.Add(time.Minute)) {
				denied.Count = d.count + 1
			}
		}
		return append(events, denied), denied.Reason
	case domain.HeartbeatSeats:
		if off != "" && off != domain.LicenseIsGone {
			return nil, off
		}
		end := l.until(now.At)
		var evicted, revived, renewed, seen []domain.LeaseID
		for _, id := range c.Leases {
			lease := m.lease(l.id, id)
			if lease == nil || slices.Contains(seen, id) || (c.Fence != 0 && c.Fence != lease.Fence) {
				continue
			}
			seen = append(seen, id)
			if slices.Contains(running, lease) {
				switch {
				case l.policy.OnShrink == domain.ShrinkEvictsNewest && l.evictFrom != 0 && lease.seat >= l.evictFrom && l.taken(running) > l.limit():
					evicted = append(evicted, id)
					running = slices.DeleteFunc(running, func(r *modelLease) bool { return r == lease })
				case !lease.ExpiresAt.Equal(end) && end.After(now.At) && (!lease.Borrowed || end.After(lease.ExpiresAt)):
					renewed = append(renewed, id)
				}
				continue
			}
			ended := lease.Ended
			if lease.State == domain.LeaseStateActive {
				ended = now.At
			}
			late := now.At.Sub(ended) > time.Duration(l.policy.ReviveSeconds)*time.Second
			over, _ := l.notValid(now.At)
			holds := slices.ContainsFunc(running, func(r *modelLease) bool { return r.Holder == lease.Holder })
			if off == "" && l.policy.ReviveSeconds > 0 && isExpired(lease) && !late && over == "" && !holds && l.turn(running, lease.Holder) == "" {
				revived = append(revived, id)
				running = append(running, lease)
				if slices.Contains(l.queue(), lease.Holder) {
					events = append(events, &domain.SeatDequeued{License: l.id, Holder: lease.Holder, Cause: domain.DequeuedByRevival})
				}
			}
		}
		if len(evicted) > 0 {
			events = append(events, &domain.SeatEvicted{License: l.id, Leases: evicted, Cause: domain.EvictedByShrink})
		}
		if len(revived) > 0 {
			events = append(events, &domain.SeatRevived{License: l.id, Leases: revived, ExpiresAt: end})
		}
		if len(renewed) > 0 {
			events = append(events, &domain.SeatHeartbeat{License: l.id, Leases: renewed, ExpiresAt: end})
		}
	case domain.LeaveQueue:
		if slices.Contains(l.queue(), c.Holder) {
			return []domain.Event{&domain.SeatDequeued{License: l.id, Holder: c.Holder, Cause: c.Cause}}, ""
		}
		return nil, ""
	case domain.EvictLease:
		if ids := named([]domain.LeaseID{c.Lease}); len(ids) > 0 {
			events = append(events, &domain.SeatEvicted{License: l.id, Leases: ids, Cause: domain.EvictedByOperator, Reason: c.Reason})
		}
	case domain.ReleaseSeats:
		for _, id := range named(c.Leases) {
			if c.Fence == 0 || m.lease(l.id, id).Fence == c.Fence {
				events = append(events, &domain.SeatReleased{License: l.id, Lease: id})
			}
		}
	}
	return events, ""
}

func (m *model) apply(at time.Time, event domain.Event) {
	m.version++
	end := func(l *modelLease, state domain.LeaseState) {
		l.State, l.Ended = state, at
		m.ended = append(m.ended, l)
	}
	leave := func(license domain.LicenseID, h domain.Holder) {
		l := m.license(license)
		l.waiting = slices.DeleteFunc(l.waiting, func(e *domain.SeatQueued) bool { return e.Holder == h })
	}
	switch e := event.(type) {
	case *domain.TenantCreated:
		m.exists, m.name = true, e.Name
	case *domain.TenantRenamed:
		m.name = e.Name
	case *domain.TenantSuspended:
		m.suspended = true
	case *domain.TenantReinstated:
		m.suspended = false
	case *domain.LicenseIssued:
		m.licenses = append(m.licenses, &modelLicense{id: e.License, seats: e.Seats, policy: e.Policy, status: domain.LicenseActive, key: e.Key.ID})
	case *domain.LicenseResized:
		m.license(e.License).seats = e.Seats
		m.shrink(m.license(e.License))
	case *domain.PolicyChanged:
		l := m.license(e.License)
		l.policy = e.Policy
		for _, lease := range m.active(l.id) { // they are in the order of their fences
			lease.seat = lease.Fence
			for _, other := range m.active(l.id) {
				if l.seatOf(other.Holder) == l.seatOf(lease.Holder) {
					lease.seat = min(lease.seat, other.Fence)
				}
			}
		}
		m.shrink(l)
	case *domain.LicenseRenewed:
		m.license(e.License).policy.ExpiresAt = e.ExpiresAt
	case *domain.TrialConverted:
		m.license(e.License).policy.Trial = false
	case *domain.LicenseKeyRotated:
		l := m.license(e.License)
		l.key, l.oldKey = e.Key.ID, l.key
	case *domain.LicenseSuspended:
		m.license(e.License).status = domain.LicenseOnSuspense
	case *domain.LicenseReinstated:
		m.license(e.License).status = domain.LicenseActive
	case *domain.LicenseRevoked:
		for _, l := range m.active(e.License) {
			end(l, domain.LeaseStateRevoked)
		}
		m.license(e.License).status = domain.LicenseOver
	case *domain.SeatAcquired:
		lease := &modelLease{id: e.Lease, license: e.License, leaseView: leaseView{
			Holder: e.Holder, State: domain.LeaseStateActive, Fence: m.version, Overage: e.Overage, Borrowed: e.Borrowed, AcquiredAt: at, ExpiresAt: e.ExpiresAt,
		}}
		m.leases = append(m.leases, lease)
		m.sit(lease)
		leave(e.License, e.Holder)
	case *domain.SeatQueued:
		m.license(e.License).waiting = append(m.license(e.License).waiting, e)
	case *domain.SeatDequeued:
		leave(e.License, e.Holder)
	case *domain.SeatRevived:
		for _, id := range e.Leases {
			lease := m.lease(e.License, id)
			lease.State, lease.ExpiresAt, lease.Ended, lease.Borrowed = domain.LeaseStateActive, e.ExpiresAt, time.Time{}, false
			m.ended = slices.DeleteFunc(m.ended, func(l *modelLease) bool { return l == lease })
			m.sit(lease)
		}
	case *domain.SeatEvicted:
		for _, id := range e.Leases {
			end(m.lease(e.License, id), domain.LeaseStateEvicted)
		}
	case *domain.SeatHeartbeat:
		for _, id := range e.Leases {
			lease := m.lease(e.License, id)
			lease.ExpiresAt, lease.Borrowed = e.ExpiresAt, false
		}
	case *domain.SeatBorrowed:
		lease := m.lease(e.License, e.Lease)
		lease.ExpiresAt, lease.Borrowed = e.ExpiresAt, true
	case *domain.SeatDenied:
		m.denials = slices.DeleteFunc(m.denials, func(d *modelDenials) bool { return d.license == e.License && d.holder == e.Holder })
		m.denials = append(m.denials, &modelDenials{license: e.License, holder: e.Holder, at: at})
	case *domain.SeatReleased:
		end(m.lease(e.License, e.Lease), domain.LeaseStateReleased)
	case *domain.SeatExpired:
		end(m.lease(e.License, e.Lease), domain.LeaseStateExpired)
	}
}

func (m *model) view() view {
	v := view{Name: m.name, Version: m.version, Licenses: map[domain.LicenseID]licenseView{}, Queues: map[domain.LicenseID][]domain.Holder{}}
	if m.exists {
		v.Status = domain.TenantActive
	}
	if m.suspended {
		v.Status = domain.TenantOnSuspense
	}
	for _, l := range m.licenses {
		if len(l.waiting) > 0 {
			v.Queues[l.id] = l.queue()
		}
		lv := licenseView{Seats: l.seats, Policy: policyText(l.policy), Key: l.key, OldKey: l.oldKey, Status: l.status, Leases: map[domain.LeaseID]leaseView{}}
		for _, lease := range m.leases {
			if lease.license == l.id {
				lv.Leases[lease.id] = lease.leaseView
			}
		}
		for _, lease := range m.active(l.id) {
			lv.Active = append(lv.Active, lease.id)
		}
		slices.Sort(lv.Active)
		lv.InUse, lv.Borrowed = l.taken(m.active(l.id)), borrowed(m.active(l.id))
		v.SeatsInUse += lv.InUse
		v.Licenses[l.id] = lv
	}
	return v
}

// What is remembered of ended leases depends on the events alone, also when more end at once than are remembered.
func TestReplayRemembersTheSameLeases(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const seats = 300
		live, replayed := domain.NewTenant("acme"), domain.NewTenant("acme")
		now := domain.Moment{At: day}
		apply := func(e domain.Event) {
			live.Apply(now.At, e)
			replayed.Apply(now.At, e)
		}
		do := func(c domain.Command) {
			events, _ := c.Decide(live, now)
			for _, e := range events {
				apply(e)
			}
		}
		id := func(i int) domain.LeaseID { return domain.LeaseID(fmt.Sprint("l", i)) }
		apply(&domain.TenantCreated{Tenant: "acme"})
		apply(&domain.LicenseIssued{License: "lic1", Seats: seats, Policy: domain.Policy{LeaseSeconds: 1000}})
		for i := range seats {
			now.At = now.At.Add(time.Second)
			do(domain.AcquireSeat{License: "lic1", Lease: id(i), Holder: domain.Holder{User: domain.Pseudonym(id(i))}})
		}
		now.At = day.Add(900 * time.Second)
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, seats-1), 0, seats).Draw(t, "renewed") {
			do(domain.HeartbeatSeats{License: "lic1", Leases: []domain.LeaseID{id(i)}})
		}
		do(domain.ChangeLicense{License: "lic1", Seats: new(0)})
		now.At = now.At.Add(time.Duration(rapid.IntRange(0, 140).Draw(t, "later")) * time.Second)
		do(domain.AcquireSeat{License: "lic1", Lease: "more", Holder: domain.Holder{User: "more"}})
		do(domain.RevokeLicense{License: "lic1"})
		for i := range seats {
			a, known := live.License("lic1").Lease(id(i))
			b, knownToo := replayed.License("lic1").Lease(id(i))
			if known != knownToo || a.State != b.State {
				t.Fatalf("lease %d: %v %s, replayed %v %s", i, known, a.State, knownToo, b.State)
			}
		}
	})
}

// However leases are renewed and given back, they expire by their ends.
func TestLeasesExpireInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const seats = 40
		tenant, now := domain.NewTenant("acme"), domain.Moment{At: day}
		tenant.Apply(day, &domain.TenantCreated{Tenant: "acme"})
		tenant.Apply(day, &domain.LicenseIssued{License: "lic1", Seats: seats, Policy: domain.Policy{LeaseSeconds: 1000}})
		end := map[domain.LeaseID]int{}
		for _, i := range rapid.Permutation(numbers(seats)).Draw(t, "ends") {
			id := domain.LeaseID(fmt.Sprint("l", i))
			end[id] = i
			tenant.Apply(day, &domain.SeatAcquired{
				License: "lic1", Lease: id, Holder: domain.Holder{User: domain.Pseudonym(id)}, ExpiresAt: day.Add(time.Duration(i) * time.Second),
			})
		}
		for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, seats-1), 0, seats, rapid.ID[int]).Draw(t, "changed") {
			id := domain.LeaseID(fmt.Sprint("l", i))
			if rapid.Bool().Draw(t, "renewed") {
				end[id] = i + rapid.IntRange(0, 100).Draw(t, "by")
				tenant.Apply(day, &domain.SeatHeartbeat{License: "lic1", Leases: []domain.LeaseID{id}, ExpiresAt: day.Add(time.Duration(end[id]) * time.Second)})
			} else {
				delete(end, id)
				tenant.Apply(day, &domain.SeatReleased{License: "lic1", Lease: id})
			}
		}
		last := 0
		for now.At = day.Add(time.Hour); len(end) > 0; {
			events, _ := domain.ExpireSeats{Max: 1}.Decide(tenant, now)
			expired := events[0].(*domain.SeatExpired).Lease
			if at, active := end[expired]; !active || at < last {
				t.Fatalf("%s, which ends at %d, expired after one that ends at %d; still active: %v", expired, at, last, end)
			}
			last = end[expired]
			delete(end, expired)
			tenant.Apply(now.At, events[0])
		}
	})
}

func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}
