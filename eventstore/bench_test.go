package eventstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
)

// typicalCommit is what a busy Writer stores: of each of 10 tenants 10 acquires, a heartbeat of 20 leases and 10 releases.
func typicalCommit(tb testing.TB) Commit {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	b := newCommitBuilder(exampleSource, at)
	for i := range 10 {
		t := &tenantState{Tenant: domain.NewTenant(domain.TenantID(fmt.Sprint("tenant-", i)))}
		beat := &domain.SeatHeartbeat{License: "lic_0123456789abcdef", ExpiresAt: at.Add(time.Hour)}
		events := []domain.Event{
			&domain.TenantCreated{Tenant: t.ID, Name: "Acme"},
			&domain.LicenseIssued{License: beat.License, Product: "cad", Seats: 1000, Policy: domain.Policy{LeaseSeconds: 3600}, Key: domain.LicenseKey{ID: "key", Hash: make([]byte, 32)}},
		}
		for n := range 20 {
			lease := domain.LeaseID(fmt.Sprintf("lse_%016d", n))
			beat.Leases = append(beat.Leases, lease)
			events = append(events, &domain.SeatAcquired{
				License: beat.License, Lease: lease, ExpiresAt: at.Add(time.Hour),
				Holder: domain.Holder{User: domain.Pseudonym(fmt.Sprintf("u_%016d", n)), Machine: domain.Pseudonym(fmt.Sprintf("m_%016d", n))},
			})
		}
		events = append(events, beat)
		for _, lease := range beat.Leases[:10] {
			events = append(events, &domain.SeatReleased{License: beat.License, Lease: lease})
		}
		if err := b.add(t, events, attributes{actor: "key:0123456789abcdef", command: newID()}); err != nil {
			tb.Fatal(err)
		}
	}
	p, _ := b.seal(NewState(), 1, 0)
	c, err := CommitOf(p.record)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// How fast a commit is read: what a start without a snapshot, the projector and an auditor do with every one.
func BenchmarkDecode(b *testing.B) {
	c := typicalCommit(b)
	slices, err := c.Decode()
	if err != nil {
		b.Fatal(err)
	}
	events := 0
	for _, s := range slices {
		events += len(s.Events)
	}
	b.SetBytes(int64(len(c.Body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Decode(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// How fast events are written.
func BenchmarkAppendEvent(b *testing.B) {
	c := typicalCommit(b)
	slices, err := c.Decode()
	if err != nil {
		b.Fatal(err)
	}
	var buffer []byte
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		buffer = buffer[:0]
		for _, s := range slices {
			for _, e := range s.Events {
				if buffer, err = appendEvent(buffer, exampleSource, e); err != nil {
					b.Fatal(err)
				}
				n++
			}
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
