package domain_test

import (
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
)

// A journal that holds one of these facts is not one that this program, or an older one, wrote.
func TestApplyPanicsOnWhatCannotBe(t *testing.T) {
	t.Parallel()
	created := &domain.TenantCreated{Tenant: "acme", Name: "Acme"}
	issued := &domain.LicenseIssued{License: "lic1", Seats: 1, Policy: domain.Policy{LeaseSeconds: 600}, Key: domain.LicenseKey{ID: "key1"}}
	wide := &domain.LicenseIssued{License: "lic1", Seats: 9, Policy: domain.Policy{LeaseSeconds: 600}, Key: domain.LicenseKey{ID: "key1"}}
	acquired := func(lease domain.LeaseID, user domain.Pseudonym) domain.Event {
		return &domain.SeatAcquired{License: "lic1", Lease: lease, Holder: domain.Holder{User: user}, ExpiresAt: day.Add(time.Minute)}
	}
	released := &domain.SeatReleased{License: "lic1", Lease: "l1"}
	for name, events := range map[string][]domain.Event{
		"more leases than seats":            {created, issued, acquired("l1", "alice"), acquired("l2", "bob")},
		"a second lease of a holder":        {created, wide, acquired("l1", "alice"), acquired("l2", "alice")},
		"a lease acquired twice":            {created, wide, acquired("l1", "alice"), acquired("l1", "bob")},
		"an ended lease acquired again":     {created, wide, acquired("l1", "alice"), released, acquired("l1", "alice")},
		"a seat on no license":              {created, acquired("l1", "alice")},
		"a denial on no license":            {created, &domain.SeatDenied{License: "lic1"}},
		"a lease released twice":            {created, issued, acquired("l1", "alice"), released, released},
		"a lease expired after its release": {created, issued, acquired("l1", "alice"), released, &domain.SeatExpired{License: "lic1", Lease: "l1"}},
		"a heartbeat of an ended lease":     {created, issued, acquired("l1", "alice"), released, &domain.SeatHeartbeat{License: "lic1", Leases: []domain.LeaseID{"l1"}}},
		"a heartbeat of no lease":           {created, issued, &domain.SeatHeartbeat{License: "lic1", Leases: []domain.LeaseID{"l1"}}},
		"a change of no license":            {created, &domain.LicenseResized{License: "lic1", Seats: 1}},
		"a license issued twice":            {created, issued, issued},
		"a key issued twice":                {created, issued, &domain.LicenseIssued{License: "lic2", Key: issued.Key}},
		"a tenant created twice":            {created, created},
		"another tenant created":            {&domain.TenantCreated{Tenant: "other"}},
		"something before the tenant":       {issued},
		"an unknown event":                  {created, unknownEvent{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant, last := domain.NewTenant("acme"), len(events)-1
			for _, e := range events[:last] {
				tenant.Apply(day, e)
			}
			defer func() {
				if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "invariant broken") {
					t.Fatalf("recovered %v, want an error that says that an invariant is broken", err)
				}
			}()
			tenant.Apply(day, events[last])
			t.Fatal("applied")
		})
	}
}

// The chain of the staff holds what it read, and nothing else. No tenant can have its id.
func TestStaffIsNoTenant(t *testing.T) {
	t.Parallel()
	staff := domain.NewTenant(domain.Staff)
	for _, c := range []domain.Command{domain.RecordStaffRead{Permission: "audit.read", Reason: "x"}, domain.RecordStaffRead{Permission: "tenant.read", Reason: "y"}} {
		events, err := c.Decide(staff, domain.Moment{At: day})
		if err != nil || len(events) != 1 {
			t.Fatalf("%v, %v", events, err)
		}
		staff.Apply(day, events[0])
	}
	if staff.Version != 2 || staff.Exists() || domain.ValidTenantID(string(domain.Staff)) || !domain.HasChain(domain.Staff) {
		t.Errorf("the staff is at version %d; it exists: %v", staff.Version, staff.Exists())
	}
	for _, e := range []domain.Event{&domain.TenantCreated{Tenant: domain.Staff}, &domain.TenantRenamed{Name: "Staff"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s applied", e.EventType())
				}
			}()
			domain.NewTenant(domain.Staff).Apply(day, e)
		}()
	}
	if _, err := (domain.RecordStaffRead{Reason: "x"}).Decide(domain.NewTenant("acme"), domain.Moment{At: day}); err == nil {
		t.Error("a read of a tenant that is not there is recorded")
	}
}

type unknownEvent struct{}

func (unknownEvent) EventType() string    { return "unknown" }
func (unknownEvent) EventSubject() string { return "" }

// No command shortens a lease today, but an event may; then the next deadline has to come earlier.
func TestHeartbeatMayShortenALease(t *testing.T) {
	t.Parallel()
	tenant := domain.NewTenant("acme")
	tenant.Apply(day, &domain.TenantCreated{Tenant: "acme"})
	tenant.Apply(day, &domain.LicenseIssued{License: "lic1", Seats: 2, Policy: domain.Policy{LeaseSeconds: 600}})
	for _, id := range []domain.LeaseID{"l1", "l2"} {
		tenant.Apply(day, &domain.SeatAcquired{License: "lic1", Lease: id, Holder: domain.Holder{User: domain.Pseudonym(id)}, ExpiresAt: day.Add(600 * time.Second)})
	}
	end := day.Add(60 * time.Second)
	tenant.Apply(day, &domain.SeatHeartbeat{License: "lic1", Leases: []domain.LeaseID{"l2"}, ExpiresAt: end})
	if next, ok := tenant.NextDue(); !ok || next.After(end) {
		t.Fatalf("next due %v %v, want %v or before", next, ok, end)
	}
	events, err := domain.ExpireSeats{Max: 9}.Decide(tenant, domain.Moment{At: end})
	if len(events) != 1 || events[0].(*domain.SeatExpired).Lease != "l2" || err != nil {
		t.Fatalf("expired %v %v, want l2", texts(events), err)
	}
}

func TestValidTenantID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"acme": true, "a": true, "a-1": true, "007": true, "a--b": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "-": false, "a_b": false, "Acme": false, "a.b": false, "a b": false, "ä": false,
		"a\n": false, strings.Repeat("a", 64): false,
	} {
		if got := domain.ValidTenantID(id); got != want {
			t.Errorf("ValidTenantID(%q) = %v", id, got)
		}
	}
}

// A client paces itself by the suggested heartbeat: two may be lost before the lease runs out.
func TestHeartbeatIsAThirdOfTheLease(t *testing.T) {
	t.Parallel()
	for lease, want := range map[int]int{1: 1, 2: 1, 3: 1, 5: 1, 6: 2, 30: 10, 300: 100} {
		if got := (&domain.Policy{LeaseSeconds: lease}).SuggestedHeartbeat(); got != want {
			t.Errorf("lease of %d s: heartbeat every %d s, want %d", lease, got, want)
		}
	}
}

// Bytes that nobody wrote are an error, or some tenant, but never a panic: a damaged cache must not end the service.
func FuzzUnmarshalTenant(f *testing.F) {
	tenant := domain.NewTenant("acme")
	tenant.Apply(day, &domain.TenantCreated{Tenant: "acme", Name: "Acme"})
	tenant.Apply(day, &domain.LicenseIssued{License: "lic1", Seats: 2, Policy: domain.Policy{LeaseSeconds: 600}, Key: domain.LicenseKey{ID: "key1", Hash: []byte{1}}})
	for _, id := range []domain.LeaseID{"l1", "l2"} {
		tenant.Apply(day, &domain.SeatAcquired{License: "lic1", Lease: id, Holder: domain.Holder{User: domain.Pseudonym(id)}, ExpiresAt: day.Add(time.Minute)})
	}
	tenant.Apply(day, &domain.SeatReleased{License: "lic1", Lease: "l1"})
	bytes, err := tenant.AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes)
	f.Fuzz(func(t *testing.T, bytes []byte) {
		again := domain.NewTenant("acme")
		if again.UnmarshalBinary(bytes) != nil {
			return
		}
		again.NextDue()
		again.Licenses(func(l *domain.License) { l.Leases(func(domain.Lease) {}) })
	})
}
