package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/audit"
	"github.com/coditect-ai/license-ledger/projections"
)

// auditing is what an auditor waits for.
type auditing struct {
	Commits int           `json:"commits"`
	Tenants int           `json:"tenants"`
	Scan    time.Duration `json:"replay_by_scan_ns"`  // one tenant's events, reading every commit
	Indexed time.Duration `json:"replay_by_index_ns"` // the same through the archive's index, vouched for by the journal
	Events  int           `json:"events_verified"`
	Verify  time.Duration `json:"verify_ns"`
	Bare    time.Duration `json:"hash_and_decode_ns"` // of the same bytes
}

// auditCommits is how many commits a tenant's are looked for among; --scale 10 makes five million of them.
const auditCommits = 500_000

// auditTenants is how many tenants share the commits; each has as many.
const auditTenants = 200

func auditTenant(i int) domain.TenantID { return domain.TenantID(fmt.Sprintf("tenant-%03d", i)) }

// measureAudit makes a journal of many small commits, as heartbeats leave them, one tenant's each; archives it; and replays one
// tenant's events.
func measureAudit(ctx context.Context, cfg config, commits int) (a auditing, err error) {
	dir := filepath.Join(cfg.Dir, "audit")
	store, closeStore, err := scratchLedger(ctx, dir)
	if err != nil {
		return a, err
	}
	defer closeStore()
	fmt.Printf("writing %d commits of %d tenants …\n", commits, auditTenants)
	if err := writeSmallCommits(ctx, store, commits); err != nil {
		return a, err
	}
	db, closeDB, err := scratchRows(ctx, dir)
	if err != nil {
		return a, err
	}
	defer func() {
		if closeErr := closeDB(); err == nil {
			err = closeErr
		}
	}()
	fmt.Println("archiving them …")
	if err := projections.NewArchiver(db, store, slog.New(slog.DiscardHandler), nil).CatchUp(ctx); err != nil {
		return a, err
	}
	archive, err := projections.OpenArchive(ctx, db)
	if err != nil {
		return a, err
	}

	fmt.Println("replaying one tenant …")
	tenant := auditTenant(auditTenants / 2)
	journal := store.Journal(0)
	last, err := journal.Last(ctx)
	if err != nil {
		return a, err
	}
	a.Commits, a.Tenants = int(last), auditTenants
	var scans, indexed, verified, bare []time.Duration
	for range cfg.Rounds {
		var file bytes.Buffer
		replay := func(took *[]time.Duration, read func(f func(audit.Slice) error) error) error {
			file.Reset()
			x := audit.NewExporter(&file, audit.Header{Ledger: store.Info().ID, Tenant: tenant})
			state := domain.NewTenant(tenant)
			began := time.Now()
			err := read(func(s audit.Slice) error {
				for _, e := range s.Events {
					state.Apply(e.Time, e.Data)
				}
				return x.Add(s)
			})
			*took = append(*took, time.Since(began))
			if err == nil {
				_, err = x.Close()
			}
			return err
		}
		scan := audit.Source{Journal: journal, Tenant: tenant}
		fromArchive := func(ctx context.Context, f func(audit.Slice) error) (uint64, error) {
			return last, archive.ReadTenant(ctx, tenant, 0, func(s projections.TenantSlice) error {
				slice, err := s.Decode()
				if err != nil {
					return err
				}
				return f(audit.Slice{Slice: slice, Seq: s.Commit})
			})
		}
		index := audit.Source{Journal: journal, Tenant: tenant, Copied: fromArchive}
		if err := replay(&scans, func(f func(audit.Slice) error) error { return scan.Read(ctx, f) }); err != nil {
			return a, err
		}
		if err := replay(&indexed, func(f func(audit.Slice) error) error { return index.Read(ctx, f) }); err != nil {
			return a, err
		}
		var stored [][]byte
		began := time.Now()
		report, err := audit.Verify(bytes.NewReader(file.Bytes()), audit.Options{})
		verified = append(verified, time.Since(began))
		if err != nil {
			return a, err
		}
		a.Events = report.End.Events
		if _, err := audit.Verify(bytes.NewReader(file.Bytes()), audit.Options{Each: func(s audit.Slice) error {
			stored = append(stored, bytes.Clone(s.Stored))
			return nil
		}}); err != nil {
			return a, err
		}
		began = time.Now()
		var hash eventstore.Hash
		for _, slice := range stored {
			hash = hash.Next(slice)
			if _, err := (eventstore.Commit{Body: append(append([]byte{'['}, slice...), ']')}).Decode(); err != nil {
				return a, err
			}
		}
		bare = append(bare, time.Since(began))
	}
	median := func(times []time.Duration) time.Duration { return sampleOf(times, time.Second).P50 }
	a.Scan, a.Indexed, a.Verify, a.Bare = median(scans), median(indexed), median(verified), median(bare)
	return a, nil
}

// writeSmallCommits makes tenants with a license and ten leases each, and then commits of one heartbeat.
func writeSmallCommits(ctx context.Context, store eventstore.Store, commits int) error {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b, err := eventstore.NewBackfill(ctx, store, 1, at)
	if err != nil {
		return err
	}
	leases := make([][]domain.LeaseID, auditTenants)
	do := func(id domain.TenantID, c domain.Command) {
		if err == nil {
			_, err = b.Do(id, "operator", c)
		}
	}
	for i := range auditTenants {
		id := auditTenant(i)
		do(id, domain.CreateTenant{Tenant: id, Name: string(id)})
		// A lease that lasts longer than the history.
		do(id, domain.IssueLicense{License: "lic_1", Product: "cad", Seats: 10, Policy: domain.Policy{LeaseSeconds: 604_800}, Key: domain.LicenseKey{ID: domain.KeyID(id)}})
		for n := range 10 {
			lease := domain.LeaseID(fmt.Sprintf("lse_%d_%d", i, n))
			leases[i] = append(leases[i], lease)
			do(id, domain.AcquireSeat{License: "lic_1", Lease: lease, Holder: domain.Holder{
				User: b.Pseudonym(id, eventstore.UserName, fmt.Sprint("user", n)), Machine: b.Pseudonym(id, eventstore.MachineName, fmt.Sprint("ws-", n)),
			}})
		}
	}
	for i := range commits {
		if err == nil {
			at = at.Add(10 * time.Millisecond)
			err = b.Advance(at)
		}
		do(auditTenant(i%auditTenants), domain.HeartbeatSeats{License: "lic_1", Leases: leases[i%auditTenants]})
		if err != nil {
			return err
		}
	}
	return b.End()
}

// targets are the lines of the table of targets.
func (a auditing) targets() []target {
	return []target{
		{Measure: fmt.Sprintf("replay of one of %d tenants out of %d commits", a.Tenants, a.Commits), Against: "reading every commit of the partition",
			Got: float64(a.Scan) / float64(a.Indexed), Wanted: 10, Unit: "×"},
		{Measure: fmt.Sprintf("verify an export of %d events", a.Events), Against: "only hashing and decoding the same bytes", Got: float64(a.Bare) / float64(a.Verify), Wanted: 0.5, Unit: "×"},
	}
}
