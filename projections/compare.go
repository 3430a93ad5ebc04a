package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// Difference is a row that is not what the journal says.
type Difference struct {
	Row     string // which, for example "lease acme/lse_1"
	Journal string // what a fold of the journal gives; empty when there should be no row
	Rows    string // what the row says; empty when there is none
}

// Compare folds the journal from its first commit to where the read models stand and compares the result with all rows of
// tenants, licenses, seat_counts, leases, audit_entries and usage_…. It reads the rows in one snapshot, so that a projector may
// run meanwhile, and holds everything in memory.
//
// Errors: eventstore.ErrChainBroken; when the projections of a partition stand at different places; when the journal
// breaks an invariant of the domain.
func Compare(ctx context.Context, db *pgxpool.Pool, store eventstore.Store) ([]Difference, error) {
	var stands map[eventstore.Partition]eventstore.Checkpoint
	var rows map[string]string
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, db, snapshot, func(tx pgx.Tx) (err error) {
		if stands, err = standsOf(ctx, tx); err == nil {
			rows, err = readRows(ctx, tx)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	folded := map[string]string{}
	for p, at := range stands {
		if err := foldRows(ctx, store.Journal(p), at, folded); err != nil {
			return nil, fmt.Errorf("compare partition %d: %w", p, err)
		}
	}
	var differences []Difference
	for _, name := range slices.Sorted(maps.Keys(union(folded, rows))) {
		if folded[name] != rows[name] {
			differences = append(differences, Difference{Row: name, Journal: folded[name], Rows: rows[name]})
		}
	}
	return differences, nil
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func standsOf(ctx context.Context, tx pgx.Tx) (map[eventstore.Partition]eventstore.Checkpoint, error) {
	rows, err := tx.Query(ctx, `SELECT partition, seq, hash FROM read.checkpoints`)
	if err != nil {
		return nil, err
	}
	stands := map[eventstore.Partition]eventstore.Checkpoint{}
	var p eventstore.Partition
	var at eventstore.Checkpoint
	var hash []byte
	_, err = pgx.ForEachRow(rows, []any{&p, &at.Seq, &hash}, func() error {
		at.Hash = eventstore.Hash(hash)
		if other, ok := stands[p]; ok && other != at {
			return fmt.Errorf("projections of partition %d stand at %d and %d; let them catch up first", p, other.Seq, at.Seq)
		}
		stands[p] = at
		return nil
	})
	return stands, err
}

// The text of a row; both sides write it with the same functions.

func tenantText(name, status string, createdAt time.Time, version uint64) string {
	return fmt.Sprintf("name=%q status=%s created_at=%s version=%d", name, status, timeText(createdAt), version)
}

func licenseText(product, status string, policy domain.Policy, leaseSeconds int, seatPer string, issuedAt time.Time) string {
	text, err := policyJSON(policy)
	if err != nil {
		text = []byte(err.Error())
	}
	return fmt.Sprintf("product=%q status=%s policy=%s lease_seconds=%d seat_per=%s issued_at=%s", product, status, text, leaseSeconds, seatPer, timeText(issuedAt))
}

func countText(seats, inUse int) string { return fmt.Sprintf("seats=%d in_use=%d", seats, inUse) }

func leaseText(l domain.Lease) string {
	return fmt.Sprintf("license=%s fence=%d user=%s machine=%s process=%s overage=%t borrowed=%t state=%s acquired_at=%s expires_at=%s ended_at=%s",
		l.License, l.Fence, l.Holder.User, l.Holder.Machine, l.Holder.Process, l.Overage, l.Borrowed, l.State,
		timeText(l.AcquiredAt), timeText(l.ExpiresAt), timeText(l.EndedAt))
}

func auditText(place Place, event string) string {
	return fmt.Sprintf("%d.%d %s", place.Seq, place.Index, event)
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// readRows returns every row as text, by name.
func readRows(ctx context.Context, tx pgx.Tx) (map[string]string, error) {
	found := map[string]string{}
	var tenant, id, text, status, seatPer string
	var at time.Time
	var version uint64
	var seats, inUse int
	var policy []byte
	var lease domain.Lease
	var endedAt *time.Time
	var place Place
	for _, table := range []struct {
		sql   string
		into  []any
		named func()
	}{
		{
			`SELECT tenant_id, name, status, created_at, version FROM read.tenants`,
			[]any{&tenant, &text, &status, &at, &version},
			func() { found["tenant "+tenant] = tenantText(text, status, at, version) },
		}, {
			`SELECT tenant_id, license_id, product, status, policy, lease_seconds, seat_per, issued_at FROM read.licenses`,
			[]any{&tenant, &id, &text, &status, &policy, &seats, &seatPer, &at},
			func() {
				var p domain.Policy
				if err := json.Unmarshal(policy, &p); err != nil {
					text += err.Error()
				}
				found["license "+tenant+"/"+id] = licenseText(text, status, p, seats, seatPer, at)
			},
		}, {
			`SELECT tenant_id, license_id, seats, in_use FROM read.seat_counts`,
			[]any{&tenant, &id, &seats, &inUse},
			func() { found["seat count "+tenant+"/"+id] = countText(seats, inUse) },
		}, {
			`SELECT tenant_id, lease_id, license_id, fence, "user", machine, process, overage, borrowed, state, acquired_at, expires_at, ended_at FROM read.leases`,
			[]any{
				&tenant, &lease.ID, &lease.License, &lease.Fence, &lease.Holder.User, &lease.Holder.Machine, &lease.Holder.Process,
				&lease.Overage, &lease.Borrowed, &lease.State, &lease.AcquiredAt, &lease.ExpiresAt, &endedAt,
			},
			func() {
				lease.EndedAt = time.Time{}
				if endedAt != nil {
					lease.EndedAt = *endedAt
				}
				found["lease "+tenant+"/"+string(lease.ID)] = leaseText(lease)
			},
		}, {
			`SELECT tenant_id, version, seq, index, event FROM read.audit_entries`,
			[]any{&tenant, &version, &place.Seq, &place.Index, &text},
			func() { found[fmt.Sprintf("audit entry %s/%d", tenant, version)] = auditText(place, text) },
		},
	} {
		rows, err := tx.Query(ctx, table.sql)
		if err != nil {
			return nil, err
		}
		if _, err := pgx.ForEachRow(rows, table.into, func() error { table.named(); return nil }); err != nil {
			return nil, err
		}
	}
	return found, readUsageRows(ctx, tx, found)
}

// foldRows adds to folded what the rows of a partition have to be at a place of its journal.
func foldRows(ctx context.Context, journal eventstore.Log, at eventstore.Checkpoint, folded map[string]string) error {
	last, err := journal.Last(ctx)
	if err != nil {
		return err
	}
	if last < at.Seq {
		return fmt.Errorf("%w: the rows stand at commit %d, but it ends at %d", eventstore.ErrChainBroken, at.Seq, last)
	}
	state := eventstore.NewState()
	// A tenant's own fold forgets leases that ended long ago; the rows keep them all.
	all := map[leaseKey]*domain.Lease{}
	usage := newUsageHistory()
	var undecoded error
	err = state.FoldUpTo(ctx, journal, at.Seq, func(at eventstore.Checkpoint, c eventstore.Commit) {
		commit, err := decode(at, c)
		if err != nil {
			undecoded = err
		}
		b := Batch{Commits: []Commit{commit}}
		for place, e := range b.Events() {
			foldLease(all, e)
			usage.add(e)
			if _, ok := e.Data.(*domain.SeatHeartbeat); !ok {
				folded[fmt.Sprintf("audit entry %s/%d", e.Tenant, e.Version)] = auditText(place, string(e.Raw))
			}
		}
	})
	switch {
	case err != nil:
		return err
	case undecoded != nil:
		return undecoded
	case state.Checkpoint != at:
		return fmt.Errorf("%w: its commit %d is not the one that the rows stand at", eventstore.ErrChainBroken, at.Seq)
	}
	usage.rows(folded)
	usage.leaseRows(folded)
	state.Tenants(func(t *domain.Tenant) {
		folded["tenant "+string(t.ID)] = tenantText(clean(t.Name), string(t.Status), t.CreatedAt, t.Version)
		t.Licenses(func(l *domain.License) {
			name := string(t.ID) + "/" + string(l.ID)
			folded["license "+name] = licenseText(clean(l.Product), string(l.Status), l.Policy, l.LeaseSeconds, string(l.SeatPer), l.IssuedAt)
			folded["seat count "+name] = countText(l.Seats, l.InUse)
		})
	})
	for key, l := range all {
		folded["lease "+string(key.tenant)+"/"+string(key.lease)] = leaseText(*l)
	}
	return nil
}

func foldLease(all map[leaseKey]*domain.Lease, event eventstore.Event) {
	end := func(l *domain.Lease, state domain.LeaseState) { l.State, l.EndedAt = state, event.Time }
	switch e := event.Data.(type) {
	case *domain.SeatAcquired:
		all[leaseKey{event.Tenant, e.Lease}] = &domain.Lease{
			ID: e.Lease, License: e.License, Fence: event.Version, Holder: e.Holder,
			State: domain.LeaseStateActive, Overage: e.Overage, Borrowed: e.Borrowed, AcquiredAt: event.Time, ExpiresAt: e.ExpiresAt,
		}
	case *domain.SeatRevived:
		for _, id := range e.Leases {
			l := all[leaseKey{event.Tenant, id}]
			l.State, l.Borrowed, l.ExpiresAt, l.EndedAt = domain.LeaseStateActive, false, e.ExpiresAt, time.Time{}
		}
	case *domain.SeatEvicted:
		for _, id := range e.Leases {
			end(all[leaseKey{event.Tenant, id}], domain.LeaseStateEvicted)
		}
	case *domain.SeatHeartbeat:
		for _, id := range e.Leases {
			l := all[leaseKey{event.Tenant, id}]
			l.Borrowed, l.ExpiresAt = false, e.ExpiresAt
		}
	case *domain.SeatBorrowed:
		l := all[leaseKey{event.Tenant, e.Lease}]
		l.Borrowed, l.ExpiresAt = true, e.ExpiresAt
	case *domain.SeatReleased:
		end(all[leaseKey{event.Tenant, e.Lease}], domain.LeaseStateReleased)
	case *domain.SeatExpired:
		end(all[leaseKey{event.Tenant, e.Lease}], domain.LeaseStateExpired)
	case *domain.LicenseRevoked:
		for key, l := range all {
			if key.tenant == event.Tenant && l.License == e.License && l.State == domain.LeaseStateActive {
				end(l, domain.LeaseStateRevoked)
			}
		}
	}
}
