package audit

import (
	"bytes"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// BenchmarkVerify against only hashing and decoding the same slices: "ratio" is how much of that rate remains.
func BenchmarkVerify(b *testing.B) {
	file := aBusyExport(b, 2000)
	var slices [][]byte
	if _, err := verify(file, Options{Each: func(s Slice) error { slices = append(slices, bytes.Clone(s.Stored)); return nil }}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(file)))
	var verifying, bare time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := verify(file, Options{}); err != nil {
			b.Fatal(err)
		}
		verifying += time.Since(began)
		began = time.Now()
		var hash eventstore.Hash
		for _, stored := range slices {
			hash = hash.Next(stored)
			if _, err := (eventstore.Commit{Body: append(append([]byte("["), stored...), ']')}).Decode(); err != nil {
				b.Fatal(err)
			}
		}
		bare += time.Since(began)
	}
	b.ReportMetric(float64(bare)/float64(verifying), "ratio")
}

// aBusyExport is of a tenant with nine heartbeats to one other event.
func aBusyExport(t testing.TB, rounds int) []byte {
	t.Helper()
	store := eventstoretest.NewStore(1)
	h := projectionstest.NewHistory(t, store)
	h.Create("acme", "lic_a", 1000)
	var leases []domain.LeaseID
	for i := range rounds {
		if leases = append(leases, h.Acquire("acme", "lic_a", string(rune('a'+i%26))+"@m"+string(rune('a'+i/26%26)))); len(leases) > 20 {
			h.Do("acme", domain.ReleaseSeats{License: "lic_a", Leases: leases[:1]})
			leases = leases[1:]
		}
		for range 9 {
			h.Do("acme", domain.HeartbeatSeats{License: "lic_a", Leases: leases})
			h.Commit()
		}
	}
	file, _ := exported(t, store, "acme")
	return file
}
