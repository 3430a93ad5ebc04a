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
// tenants, licenses, seat_counts, leases, audit_entries, audit_entries_of_feature, denials, history, queue, seat_ends, members, tenant_keys and usage_…. It reads
// the rows in one snapshot, so that a projector may
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

func licenseText(product, status string, policy domain.Policy, leaseSeconds int, seatPer string, issuedAt time.Time, transfer fields) string {
	text, err := policyJSON(policy)
	if err != nil {
		text = []byte(err.Error())
	}
	return fmt.Sprintf("product=%q status=%s policy=%s lease_seconds=%d seat_per=%s issued_at=%s transfer=%s", product, status, text, leaseSeconds, seatPer, timeText(issuedAt), fieldsText(transfer))
}

func countText(seats, inUse int) string { return fmt.Sprintf("seats=%d in_use=%d", seats, inUse) }

func leaseText(l domain.Lease, version uint64, held string, renewed uint64, heartbeats int, features []string) string {
	return fmt.Sprintf("license=%s version=%d moved_fence=%d user=%s machine=%s process=%s overage=%t borrowed=%t state=%s acquired_at=%s expires_at=%s ended_at=%s "+
		"held=%s renewed=%d heartbeats=%d features=%q",
		l.License, version, l.Fence, l.Holder.User, l.Holder.Machine, l.Holder.Process, l.Overage, l.Borrowed, l.State,
		timeText(l.AcquiredAt), timeText(l.ExpiresAt), timeText(l.EndedAt), held, renewed, heartbeats, features)
}

// stateText is what is true of a tenant, a license or a member from a version on, until is the version from which on it is not; 0: it is.
func stateText(at time.Time, until uint64, untilAt time.Time, state fields) string {
	return fmt.Sprintf("at=%s until=%d until_at=%s %s", timeText(at), until, timeText(untilAt), fieldsText(state))
}

// fieldsText is fields without those that are null: what is not said is not so.
func fieldsText(of fields) string {
	said := fields{}
	text, err := json.Marshal(of) // sorted by name
	if err == nil {
		err = json.Unmarshal(text, &said)
	}
	maps.DeleteFunc(said, func(_ string, value any) bool { return value == nil })
	if err == nil {
		text, err = json.Marshal(said)
	}
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func stateName(tenant, kind, id string, version uint64) string {
	return fmt.Sprintf("history %s/%s/%s/%d", tenant, kind, id, version)
}

func auditText(place Place, event string, about domain.Holder) string {
	return fmt.Sprintf("%d.%d about %s at %s: %s", place.Seq, place.Index, about.User, about.Machine, event)
}

func ofFeatureName(tenant, feature string, version uint64) string {
	return fmt.Sprintf("audit entry %s/%d of feature %q", tenant, version, feature)
}

func denialText(at time.Time, d domain.SeatDenied) string {
	return fmt.Sprintf("at=%s license=%s user=%s machine=%s process=%s reason=%s count=%d seats=%d in_use=%d",
		timeText(at), d.License, d.User, d.Machine, d.Process, d.Reason, max(d.Count, 1), d.Seats, d.InUse)
}

func memberText(role string, removed bool) string {
	return fmt.Sprintf("role=%s removed=%t", role, removed)
}

func keyText(name, role, member string, hash []byte, createdAt time.Time, until *time.Time) string {
	text := fmt.Sprintf("name=%q role=%s member=%s hash=%x created_at=%s", name, role, member, hash, timeText(createdAt))
	if until != nil {
		text += " until=" + timeText(*until)
	}
	return text
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
	var denied domain.SeatDenied
	var endedAt *time.Time
	var heldText, kind string
	var renewed uint64
	var until *uint64
	var place Place
	var user, role string
	var hash []byte
	var features []string
	var transfer fields
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
			`SELECT tenant_id, license_id, product, status, policy, lease_seconds, seat_per, issued_at, transfer FROM read.licenses`,
			[]any{&tenant, &id, &text, &status, &policy, &seats, &seatPer, &at, &transfer},
			func() {
				var p domain.Policy
				if err := json.Unmarshal(policy, &p); err != nil {
					text += err.Error()
				}
				found["license "+tenant+"/"+id] = licenseText(text, status, p, seats, seatPer, at, transfer)
				transfer = nil
			},
		}, {
			`SELECT tenant_id, license_id, seats, in_use FROM read.seat_counts`,
			[]any{&tenant, &id, &seats, &inUse},
			func() { found["seat count "+tenant+"/"+id] = countText(seats, inUse) },
		}, {
			`SELECT tenant_id, lease_id, license_id, fence, "user", machine, process, overage, borrowed, state, acquired_at, expires_at, ended_at,
				held::text, renewed, heartbeats, coalesce(moved_fence, 0), features FROM read.leases`,
			[]any{
				&tenant, &lease.ID, &lease.License, &version, &lease.Holder.User, &lease.Holder.Machine, &lease.Holder.Process,
				&lease.Overage, &lease.Borrowed, &lease.State, &lease.AcquiredAt, &lease.ExpiresAt, &endedAt,
				&heldText, &renewed, &inUse, &lease.Fence, &features,
			},
			func() {
				lease.EndedAt = orZero(endedAt)
				found["lease "+tenant+"/"+string(lease.ID)] = leaseText(lease, version, heldText, renewed, inUse, features)
				features = nil
			},
		}, {
			`SELECT tenant_id, version, seq, index, event, "user", machine FROM read.audit_entries`,
			[]any{&tenant, &version, &place.Seq, &place.Index, &text, &lease.Holder.User, &lease.Holder.Machine},
			func() {
				found[fmt.Sprintf("audit entry %s/%d", tenant, version)] = auditText(place, text, lease.Holder)
			},
		}, {
			`SELECT tenant_id, feature, version FROM read.audit_entries_of_feature`,
			[]any{&tenant, &text, &version},
			func() { found[ofFeatureName(tenant, text, version)] = "there" },
		}, {
			`SELECT tenant_id, version, time, license_id, "user", machine, process, reason, count, seats, in_use FROM read.denials`,
			[]any{&tenant, &version, &at, &denied.License, &denied.User, &denied.Machine, &denied.Process, &denied.Reason, &denied.Count, &denied.Seats, &denied.InUse},
			func() { found[fmt.Sprintf("denial %s/%d", tenant, version)] = denialText(at, denied) },
		}, {
			`SELECT tenant_id, "user", role, removed_at FROM read.members`,
			[]any{&tenant, &user, &role, &endedAt},
			func() { found["member "+tenant+"/"+user] = memberText(role, endedAt != nil) },
		}, {
			`SELECT tenant_id, key_id, name, role, member, hash, created_at, until FROM read.tenant_keys`,
			[]any{&tenant, &id, &text, &role, &user, &hash, &at, &endedAt},
			func() { found["key "+tenant+"/"+id] = keyText(text, role, user, hash, at, endedAt) },
		}, {
			`SELECT tenant_id, kind, id, version, at, until_version, until_at, state FROM read.history`,
			[]any{&tenant, &kind, &id, &version, &at, &until, &endedAt, &policy},
			func() {
				var state fields
				if err := json.Unmarshal(policy, &state); err != nil {
					state = fields{"error": err.Error()}
				}
				found[stateName(tenant, kind, id, version)] = stateText(at, orZero(until), orZero(endedAt), state)
			},
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
	if err := readQueueRows(ctx, tx, found); err != nil {
		return nil, err
	}
	return found, readUsageRows(ctx, tx, found)
}

func orZero[T any](value *T) (zero T) {
	if value == nil {
		return zero
	}
	return *value
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
	all := map[leaseKey]*foldedLease{}
	past := pastFold{folded: folded, tenants: map[domain.TenantID]*domain.Tenant{}, present: map[pastKey]presentState{}}
	usage := newUsageHistory()
	queue := newQueueFold()
	var undecoded error
	err = state.FoldUpTo(ctx, journal, at.Seq, func(at eventstore.Checkpoint, c eventstore.Commit) {
		commit, err := decode(at, c)
		if err != nil {
			undecoded = err
		}
		b := Batch{Commits: []Commit{commit}}
		for place, e := range b.Events() {
			foldLease(all, e)
			past.fold(e)
			usage.add(e)
			queue.add(e)
			if _, ok := e.Data.(*domain.SeatHeartbeat); !ok {
				whom, features := aboutOf(all, e)
				folded[fmt.Sprintf("audit entry %s/%d", e.Tenant, e.Version)] = auditText(place, string(e.Raw), whom)
				for _, feature := range features {
					folded[ofFeatureName(string(e.Tenant), feature, e.Version)] = "there"
				}
			}
			if denied, ok := e.Data.(*domain.SeatDenied); ok {
				folded[fmt.Sprintf("denial %s/%d", e.Tenant, e.Version)] = denialText(e.Time, *denied)
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
	queue.endRows(folded)
	state.Tenants(func(t *domain.Tenant) {
		folded["tenant "+string(t.ID)] = tenantText(clean(t.Name), string(t.Status), t.CreatedAt, t.Version)
		queue.rows(t, folded)
		t.Licenses(func(l *domain.License) {
			name := string(t.ID) + "/" + string(l.ID)
			folded["license "+name] = licenseText(clean(l.Product), string(l.Status), l.Policy, l.LeaseSeconds, string(l.SeatPer), l.IssuedAt, transferState(l.LicenseInfo))
			folded["seat count "+name] = countText(l.Seats, l.InUse)
		})
		t.Members(func(m domain.Member) {
			folded["member "+string(t.ID)+"/"+clean(m.User)] = memberText(string(m.Role), m.Removed)
		})
		t.TenantKeys(func(k domain.TenantKey) {
			folded["key "+string(t.ID)+"/"+clean(k.ID)] = keyText(clean(k.Name), string(k.Role), clean(k.Member), k.Hash, k.CreatedAt, present(k.Until))
		})
	})
	for key, l := range all {
		folded["lease "+string(key.tenant)+"/"+string(key.lease)] = leaseText(l.Lease, l.version, l.held.String(), l.renewed, l.heartbeats, l.features)
	}
	past.end()
	return nil
}

// aboutOf returns whom and which features an event is about; of a lease, when it is one, those that it was acquired with. Leases are those
// after the event.
func aboutOf(leases map[leaseKey]*foldedLease, e *eventstore.Event) (whom domain.Holder, features []string) {
	if user := text(e.Data, "User"); user != "" {
		return domain.Holder{User: domain.Pseudonym(user), Machine: domain.Pseudonym(text(e.Data, "Machine"))}, theFeatures(e.Data)
	}
	if l := leases[leaseKey{e.Tenant, domain.LeaseID(theLease(e.Data))}]; l != nil {
		return l.Holder, l.features
	}
	return domain.Holder{}, theFeatures(e.Data)
}

// foldedLease is a lease and what its row tells of its past.
type foldedLease struct {
	domain.Lease // its fence only where that is not the version
	version      uint64
	held         held
	renewed      uint64
	heartbeats   int
	features     []string
}

func (l *foldedLease) begin(e *eventstore.Event) {
	l.State, l.EndedAt = domain.LeaseStateActive, time.Time{}
	l.held = append(l.held, span{from: e.Version})
}

func (l *foldedLease) renew(e *eventstore.Event, expiresAt time.Time, borrowed bool) {
	l.Borrowed, l.ExpiresAt, l.renewed = borrowed, expiresAt, e.Version
}

func (l *foldedLease) end(e *eventstore.Event, state domain.LeaseState) {
	l.State, l.EndedAt = state, e.Time
	l.held[len(l.held)-1].until = e.Version
}

func foldLease(all map[leaseKey]*foldedLease, event *eventstore.Event) {
	at := func(id domain.LeaseID) *foldedLease { return all[leaseKey{event.Tenant, id}] }
	switch e := event.Data.(type) {
	case *domain.SeatAcquired:
		l := &foldedLease{Lease: domain.Lease{
			ID: e.Lease, License: e.License, Fence: e.Fence, Holder: e.Holder, Overage: e.Overage, AcquiredAt: event.Time,
		}, version: event.Version, features: featuresOf(e)}
		if e.Arrived() {
			l.AcquiredAt = e.AcquiredAt
		}
		l.begin(event)
		l.renew(event, e.ExpiresAt, e.Borrowed)
		all[leaseKey{event.Tenant, e.Lease}] = l
	case *domain.SeatRevived:
		for _, id := range e.Leases {
			at(id).begin(event)
			at(id).renew(event, e.ExpiresAt, false)
		}
	case *domain.SeatEvicted:
		for _, id := range e.Leases {
			at(id).end(event, domain.LeaseStateEvicted)
		}
	case *domain.SeatHeartbeat:
		for _, id := range e.Leases {
			at(id).renew(event, e.ExpiresAt, false)
			at(id).heartbeats++
		}
	case *domain.SeatBorrowed:
		at(e.Lease).renew(event, e.ExpiresAt, true)
	case *domain.SeatReleased:
		at(e.Lease).end(event, domain.LeaseStateReleased)
	case *domain.SeatExpired:
		at(e.Lease).end(event, domain.LeaseStateExpired)
	case *domain.LicenseRevoked:
		for key, l := range all {
			if key.tenant == event.Tenant && l.License == e.License && l.State == domain.LeaseStateActive {
				l.end(event, e.LeasesEnd())
			}
		}
	}
}

// pastFold writes the rows of read.history from what the domain says a tenant, its licenses and its members are after each event.
type pastFold struct {
	folded  map[string]string
	tenants map[domain.TenantID]*domain.Tenant
	present map[pastKey]presentState
}

type pastKey struct{ tenant, kind, id string }

type presentState struct {
	version uint64
	at      time.Time
	state   fields
}

func (f *pastFold) fold(e *eventstore.Event) {
	t := f.tenants[e.Tenant]
	if t == nil {
		t = domain.NewTenant(e.Tenant)
		f.tenants[e.Tenant] = t
	}
	t.Apply(e.Time, e.Data)
	kind, id, _, err := historyOf(e)
	var state fields
	switch {
	case err != nil:
		state = fields{"error": err.Error()}
	case kind == historyOfTenant:
		state = fields{"name": clean(t.Name), "status": t.Status}
	case kind == historyOfLicense:
		l := t.License(domain.LicenseID(id))
		if state, err = licenseState(clean(l.Product), l.Status, l.Seats, l.Policy); err != nil {
			state = fields{"error": err.Error()}
		}
		maps.Copy(state, transferState(l.LicenseInfo))
	case kind == historyOfMember:
		m, _ := t.Member(domain.Pseudonym(e.Data.EventSubject()))
		state = memberState(m.Role, m.Removed)
	default:
		return
	}
	key := pastKey{string(e.Tenant), kind, id}
	f.close(key, e.Version, e.Time)
	f.present[key] = presentState{e.Version, e.Time, state}
}

// close writes the row of what was true until a version; 0: it is.
func (f *pastFold) close(key pastKey, until uint64, untilAt time.Time) {
	if p, ok := f.present[key]; ok {
		f.folded[stateName(key.tenant, key.kind, key.id, p.version)] = stateText(p.at, until, untilAt, p.state)
	}
}

func (f *pastFold) end() {
	for key := range f.present {
		f.close(key, 0, time.Time{})
	}
}
