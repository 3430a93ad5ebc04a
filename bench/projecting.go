package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

// projecting is how fast rows are made of a journal.
type projecting struct {
	Events  int           `json:"events"`
	Decode  time.Duration `json:"read_and_decode_ns"`
	Project time.Duration `json:"project_ns"` // all read models
	// The heap in use at most, in the first and in the second half of projecting.
	HeapFirst  uint64        `json:"heap_first_half_bytes"`
	HeapSecond uint64        `json:"heap_second_half_bytes"`
	Rows       int64         `json:"rows"` // of all tables in the end
	Rebuild    time.Duration `json:"rebuild_ns"`
	Copy       time.Duration `json:"copy_ns"` // of the same rows into the same tables, with their indexes
}

// projectingEvents is how many events the history has; --scale 10 makes five million of them.
const projectingEvents = 500_000

// measureProjecting makes a history of nine heartbeats to one other event, projects it, rebuilds what was projected, and copies the same rows.
func measureProjecting(ctx context.Context, cfg config, events int) (m projecting, err error) {
	dir := filepath.Join(cfg.Dir, "projecting")
	store, closeStore, err := scratchLedger(ctx, dir)
	if err != nil {
		return m, err
	}
	defer closeStore()
	fmt.Printf("writing %d events …\n", events)
	if m.Events, err = writeMixedHistory(ctx, store, events); err != nil {
		return m, err
	}
	db, closeDB, err := scratchRows(ctx, dir)
	if err != nil {
		return m, err
	}
	defer func() {
		if closeErr := closeDB(); err == nil {
			err = closeErr
		}
	}()
	quiet := slog.New(slog.DiscardHandler)

	fmt.Println("reading and decoding them …")
	began := time.Now()
	if err := read(ctx, store, func(_ uint64, c eventstore.Commit) error {
		_, err := c.Decode()
		return err
	}); err != nil {
		return m, err
	}
	m.Decode = time.Since(began)

	fmt.Println("projecting them …")
	runtime.GC()
	watching, stop := context.WithCancel(ctx)
	heaps := make(chan []uint64)
	go func() { heaps <- watchHeap(watching) }()
	began = time.Now()
	err = projections.NewRunner(projections.Options{DB: db, Store: store, Log: quiet}).CatchUp(ctx)
	m.Project = time.Since(began)
	stop()
	samples := <-heaps
	if err != nil {
		return m, err
	}
	for i, heap := range samples {
		if i < len(samples)/2 {
			m.HeapFirst = max(m.HeapFirst, heap)
		} else {
			m.HeapSecond = max(m.HeapSecond, heap)
		}
	}

	if m.HeapFirst == 0 { // it was over at once
		m.HeapFirst = m.HeapSecond
	}

	fmt.Println("rebuilding the read models …")
	began = time.Now()
	if _, err := projections.Rebuild(ctx, projections.RebuildOptions{DB: db, Store: store, Log: quiet, NoCompare: true}); err != nil {
		return m, err
	}
	m.Rebuild = time.Since(began)

	fmt.Println("copying the same rows …")
	m.Rows, m.Copy, err = copyTables(ctx, db)
	return m, err
}

// watchHeap samples the heap in use until ctx ends.
func watchHeap(ctx context.Context) (samples []uint64) {
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		samples = append(samples, stats.HeapInuse)
		select {
		case <-ctx.Done():
			return samples
		case <-ticks.C:
		}
	}
}

// writeMixedHistory makes tenants whose programs acquire and release, and renew their leases nine times as often. A commit has 20 events. It
// returns how many events there are.
func writeMixedHistory(ctx context.Context, store eventstore.Store, events int) (int, error) {
	const tenants, seats, perCommit = 50, 40, 20
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b, err := eventstore.NewBackfill(ctx, store, 1, at)
	if err != nil {
		return 0, err
	}
	held := make([][]domain.LeaseID, tenants)
	acquired := 0
	do := func(id domain.TenantID, c domain.Command) {
		if err == nil {
			_, err = b.Do(id, "bench", c)
		}
	}
	acquire := func(i int) {
		acquired++
		lease := domain.LeaseID(fmt.Sprintf("lse_%09d", acquired))
		id := auditTenant(i)
		do(id, domain.AcquireSeat{License: "lic_1", Lease: lease, Holder: domain.Holder{
			User:    b.Pseudonym(id, eventstore.UserName, fmt.Sprint("user", acquired%1000)),
			Machine: b.Pseudonym(id, eventstore.MachineName, fmt.Sprint("ws-", acquired)),
		}})
		held[i] = append(held[i], lease)
	}
	for i := range tenants {
		id := auditTenant(i)
		do(id, domain.CreateTenant{Tenant: id, Name: string(id)})
		do(id, domain.IssueLicense{License: "lic_1", Product: "cad", Seats: seats + 1, Policy: domain.Policy{LeaseSeconds: 604_800}, Key: domain.LicenseKey{ID: domain.KeyID(id)}})
		for range seats {
			acquire(i)
		}
	}
	for i := 0; err == nil && b.Events() < int64(events); i++ {
		at = at.Add(100 * time.Millisecond)
		if err = b.Advance(at); err != nil {
			break
		}
		tenant := i % tenants
		acquire(tenant)
		do(auditTenant(tenant), domain.ReleaseSeats{License: "lic_1", Leases: held[tenant][:1]})
		held[tenant] = held[tenant][1:]
		for n := range perCommit - 2 {
			of := (tenant + n) % tenants
			do(auditTenant(of), domain.HeartbeatSeats{License: "lic_1", Leases: held[of][i%seats : i%seats+1]})
		}
	}
	if err != nil {
		return 0, err
	}
	return int(b.Events()), b.End()
}

// copyTables copies all rows of the read models into empty tables like theirs, with all indexes.
func copyTables(ctx context.Context, db *pgxpool.Pool) (rows int64, took time.Duration, err error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Release()
	found, err := conn.Query(ctx, `SELECT relname FROM pg_class WHERE relnamespace = 'read'::regnamespace AND relkind = 'r' AND relname <> 'checkpoints'`)
	if err != nil {
		return 0, 0, err
	}
	var tables []string
	for found.Next() {
		var table string
		if err := found.Scan(&table); err != nil {
			return 0, 0, err
		}
		tables = append(tables, table)
	}
	if _, err := conn.Exec(ctx, `CREATE SCHEMA copied`); err != nil {
		return 0, 0, err
	}
	for _, table := range tables {
		if _, err := conn.Exec(ctx, fmt.Sprintf(`CREATE TABLE copied.%s (LIKE read.%s INCLUDING ALL)`, table, table)); err != nil {
			return 0, 0, err
		}
		var columns string // those that are not generated
		if err := conn.QueryRow(ctx, `SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
			WHERE attrelid = format('read.%I', $1::text)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`, table).Scan(&columns); err != nil {
			return 0, 0, err
		}
		var data bytes.Buffer
		if _, err := conn.Conn().PgConn().CopyTo(ctx, &data, fmt.Sprintf(`COPY read.%s (%s) TO STDOUT`, table, columns)); err != nil {
			return 0, 0, err
		}
		began := time.Now()
		tag, err := conn.Conn().PgConn().CopyFrom(ctx, &data, fmt.Sprintf(`COPY copied.%s (%s) FROM STDIN`, table, columns))
		if err != nil {
			return 0, 0, err
		}
		took += time.Since(began)
		rows += tag.RowsAffected()
	}
	return rows, took, nil
}

// targets are the lines of the table of targets.
func (m projecting) targets() []target {
	return []target{
		{Measure: fmt.Sprintf("projecting %d events, 9 heartbeats : 1 other, all read models", m.Events), Against: "only reading and decoding them",
			Got: float64(m.Decode) / float64(m.Project), Wanted: 0.5, Unit: "×"},
		{Measure: fmt.Sprintf("rebuilding %d rows of them", m.Rows), Against: "a bare COPY of the same rows, indexes included", Got: float64(m.Copy) / float64(m.Rebuild), Wanted: 0.5, Unit: "×"},
		{Measure: "heap of the projector, second half", Against: "the first half", Got: float64(m.HeapSecond) / float64(m.HeapFirst), Wanted: 1.25, Most: true, Unit: "×"},
	}
}
