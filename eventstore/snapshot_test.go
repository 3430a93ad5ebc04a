package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// partition is a state, its journal and its snapshots, as a Writer has them.
type partition struct {
	t         *testing.T
	store     *eventstoretest.Store
	dir       string
	snapshots eventstore.Snapshots
	state     *eventstore.State
	inFlight  []func() // appends that are not stored yet
	now       time.Time
	ids       int
}

func newPartition(t *testing.T, dir string) *partition {
	p := &partition{t: t, store: eventstoretest.NewStore(1), dir: dir, now: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)}
	p.restart()
	return p
}

func (p *partition) stored() uint64 {
	last, _ := p.store.Journal(0).Last(p.t.Context())
	return last
}

// restart loses what is not stored, and goes on from the snapshot.
func (p *partition) restart() {
	p.t.Helper()
	if p.state != nil {
		p.snapshots.Drop()
	}
	p.inFlight = nil
	p.snapshots = eventstore.NewSnapshots(p.t, p.dir, p.store.Info(), 3000)
	var err error
	if p.state, err = p.snapshots.Load(); err != nil {
		p.t.Fatal(err)
	}
	if err := p.state.FoldUpTo(p.t.Context(), p.store.Journal(0), p.stored(), nil); err != nil {
		p.t.Fatal(err)
	}
}

// replayed is what the journal says, from its first commit.
func (p *partition) replayed() *eventstore.State {
	p.t.Helper()
	state := eventstore.NewState()
	if err := state.FoldUpTo(p.t.Context(), p.store.Journal(0), p.stored(), nil); err != nil {
		p.t.Fatal(err)
	}
	return state
}

// do decides a command and sends its commit on its way.
func (p *partition) do(tenant domain.TenantID, key string, c domain.Command) {
	p.t.Helper()
	after, record, ok := p.state.Commit(p.t, p.now, tenant, key, c)
	if ok {
		p.inFlight = append(p.inFlight, func() {
			if err := <-p.store.Journal(0).Append(after, record); err != nil {
				p.t.Fatal(err)
			}
		})
	}
}

func (p *partition) store1() {
	p.inFlight[0]()
	p.inFlight = p.inFlight[1:]
}

func (p *partition) settle() {
	for len(p.inFlight) > 0 {
		p.store1()
	}
}

func (p *partition) newID(prefix string) string {
	p.ids++
	return fmt.Sprint(prefix, p.ids)
}

// fill makes a tenant with leases.
func (p *partition) fill(tenant domain.TenantID, leases int) {
	p.t.Helper()
	license := domain.LicenseID(p.newID("lic"))
	p.do(tenant, "", domain.CreateTenant{Tenant: tenant, Name: "T"})
	p.do(tenant, "", domain.IssueLicense{License: license, Seats: leases, Policy: domain.Policy{LeaseSeconds: 60}, Key: domain.LicenseKey{ID: domain.KeyID(license)}})
	for range leases {
		id := p.newID("l")
		p.do(tenant, "k"+id, domain.AcquireSeat{License: license, Lease: domain.LeaseID(id), Holder: domain.Holder{User: domain.Pseudonym(id)}})
	}
}

// Whatever is committed, in flight, snapshotted or lost in whatever order: the state after a restart is the one that a
// replay of the whole journal gives.
func TestSnapshotAndTailAreTheJournal(t *testing.T) {
	t.Parallel()
	rounds := 0
	rapid.Check(t, func(rt *rapid.T) {
		p := newPartition(t, t.TempDir())
		defer func() { p.snapshots.Drop() }()
		held := map[domain.TenantID][]domain.LeaseID{}
		for range rapid.IntRange(1, 150).Draw(rt, "steps") {
			tenant := rapid.SampledFrom([]domain.TenantID{"a", "b", "c", "d"}).Draw(rt, "tenant")
			license := domain.LicenseID("lic-" + tenant)
			key := rapid.SampledFrom([]string{"", "", "k1", "k2"}).Draw(rt, "key")
			switch rapid.IntRange(0, 12).Draw(rt, "step") {
			case 0:
				p.do(tenant, key, domain.CreateTenant{Tenant: tenant, Name: "T"})
				if p.state.TenantHead(tenant) != (eventstore.Hash{}) && !hasLicense(p.state, tenant, license) {
					p.do(tenant, key, domain.IssueLicense{License: license, Seats: 5, Policy: domain.Policy{LeaseSeconds: 10}, Key: domain.LicenseKey{ID: domain.KeyID(license)}})
				}
			case 1, 2, 3, 4:
				id := domain.LeaseID(p.newID("l"))
				held[tenant] = append(held[tenant], id)
				user := rapid.SampledFrom([]domain.Pseudonym{"u1", "u2", "u3", "u4", "u5", "u6"}).Draw(rt, "user")
				p.do(tenant, key, domain.AcquireSeat{License: license, Lease: id, Holder: domain.Holder{User: user}, Queue: rapid.Bool().Draw(rt, "queue")})
			case 5:
				if len(held[tenant]) > 0 {
					p.do(tenant, "", domain.HeartbeatSeats{License: license, Leases: held[tenant]})
				}
			case 6:
				if len(held[tenant]) > 0 {
					p.do(tenant, "", domain.ReleaseSeats{License: license, Leases: held[tenant][:1]})
				}
			case 7:
				p.now = p.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 11 * time.Second}).Draw(rt, "pause"))
			case 8:
				p.snapshots.Advance(p.state, p.stored())
			case 9:
				p.snapshots.Rounds(p.state, p.stored())
			case 10:
				p.restart()
				if got, want := p.state.Text(), p.replayed().Text(); got != want {
					rt.Fatalf("after a restart\n%s\nthe journal says\n%s", got, want)
				}
			default:
				if len(p.inFlight) > 0 {
					p.store1()
				}
			}
		}
		p.settle()
		p.snapshots.Rounds(p.state, p.stored())
		p.restart()
		if got, want := p.state.Text(), p.replayed().Text(); got != want {
			rt.Fatalf("at the end\n%s\nthe journal says\n%s", got, want)
		}
		if _, err := os.Stat(p.snapshots.Path()); err == nil {
			rounds++
		}
	})
	if rounds == 0 {
		t.Fatal("not one snapshot was written")
	}
}

func hasLicense(s *eventstore.State, tenant domain.TenantID, license domain.LicenseID) (has bool) {
	s.Tenants(func(t *domain.Tenant) { has = has || (t.ID == tenant && t.License(license) != nil) })
	return has
}

// snapshotted returns a partition with a snapshot, which was taken while the last commits were stored, and the file.
func snapshotted(t *testing.T) (p *partition, file string) {
	p = newPartition(t, t.TempDir())
	for _, tenant := range []domain.TenantID{"a", "b", "c"} {
		p.fill(tenant, 8)
	}
	p.settle()
	p.snapshots.Advance(p.state, p.stored())
	p.fill("d", 1) // while the round goes on
	p.settle()
	p.snapshots.Rounds(p.state, p.stored())
	file = p.snapshots.Path()
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.snapshots.Drop() })
	return p, file
}

// A start reads the tenants from the snapshot, and from the journal only what came after.
func TestStartReadsOnlyTheTail(t *testing.T) {
	t.Parallel()
	p, _ := snapshotted(t)
	p.restart()
	read := 0
	p.fill("e", 1)
	p.settle()
	state, err := p.snapshots.Load()
	if err != nil {
		t.Fatal(err)
	}
	before := state.Checkpoint.Seq
	if before < 20 {
		t.Fatalf("the snapshot is of commit %d", before)
	}
	err = state.FoldUpTo(t.Context(), p.store.Journal(0), p.stored(), func(eventstore.Checkpoint, eventstore.Commit) { read++ })
	if err != nil || uint64(read) != p.stored()-before {
		t.Fatalf("%d of %d commits were read, %v; want %d", read, p.stored(), err, p.stored()-before)
	}
}

// A snapshot that is damaged in any place is ignored from there on: the state is what the journal says.
func TestDamagedSnapshotIsIgnored(t *testing.T) {
	t.Parallel()
	p, file := snapshotted(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := p.replayed().Text()
	check := func(what string, damaged []byte) {
		t.Helper()
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		p.restart()
		if got := p.state.Text(); got != want {
			t.Fatalf("%s:\n%s\nthe journal says\n%s", what, got, want)
		}
	}
	const ledgerID = 8 + 32 // where it begins: a change there is another ledger's snapshot, which is refused
	for i := 0; i < len(whole); i += 1 + len(whole)/500 {
		if ledgerID <= i && i < ledgerID+38 {
			continue
		}
		damaged := append([]byte{}, whole...)
		damaged[i] ^= 0x10
		check(fmt.Sprint("bit flipped at ", i), damaged)
		check(fmt.Sprint("cut off at ", i), whole[:i])
	}
	check("garbage behind it", append(append([]byte{}, whole...), strings.Repeat("T", 100)...))
}

// The snapshot knows how far the journal went, and what stood there.
func TestJournalThatLostWhatTheSnapshotSawIsRefused(t *testing.T) {
	t.Parallel()
	load := func(p *partition) error {
		p.snapshots.Drop()
		state, err := p.snapshots.Load()
		if err != nil {
			return err
		}
		return state.FoldUpTo(t.Context(), p.store.Journal(0), p.stored(), nil)
	}
	t.Run("rolled back", func(t *testing.T) {
		t.Parallel()
		p, _ := snapshotted(t)
		p.store.Journal(0).(*eventstoretest.Log).Truncate(p.stored() - 1)
		if err := load(p); !errors.Is(err, eventstore.ErrChainBroken) || !strings.Contains(err.Error(), "restore") {
			t.Fatalf("%v, want ErrChainBroken and what to do", err)
		}
	})
	t.Run("another commit in the last place", func(t *testing.T) {
		t.Parallel()
		p, _ := snapshotted(t)
		p.store.Journal(0).(*eventstoretest.Log).Truncate(p.stored() - 1)
		p.state = p.replayed()
		p.do("d", "", domain.RenameTenant{Name: "another"})
		p.settle()
		if err := load(p); !errors.Is(err, eventstore.ErrChainBroken) {
			t.Fatalf("%v, want ErrChainBroken", err)
		}
	})
	t.Run("another ledger", func(t *testing.T) {
		t.Parallel()
		p, _ := snapshotted(t)
		other := p.store.Info()
		other.ID = "01935e2f-7c00-7000-8000-000000000002"
		_, err := eventstore.NewSnapshots(t, p.dir, other, 1).Load()
		if err == nil || !strings.Contains(err.Error(), other.ID) || !strings.Contains(err.Error(), p.store.Info().ID) || !strings.Contains(err.Error(), "delete the snapshot") {
			t.Fatalf("%v, want an error that names both ledgers and what to do", err)
		}
	})
}

// A round that was not finished leaves nothing behind that a later one could be mixed with.
func TestUnfinishedRoundIsForgotten(t *testing.T) {
	t.Parallel()
	p, file := snapshotted(t)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p.fill("d", 40)
	p.fill("e", 40)
	p.snapshots.Rounds(p.state, p.stored()) // the end of the round is not stored
	p.restart()                             // and never will be
	after, err := os.ReadFile(file)
	if err != nil || string(after) != string(before) {
		t.Fatalf("the snapshot has %d bytes, %v; want the %d of the last whole round", len(after), err, len(before))
	}
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		t.Fatalf("%v is left", left)
	}
}

// However long it goes on, the file is at most about twice what is up to date, and a round of changes.
func TestSnapshotFileDoesNotGrow(t *testing.T) {
	t.Parallel()
	p, file := snapshotted(t)
	var largest int64
	for range 50 {
		p.now = p.now.Add(time.Second)
		for range 20 {
			p.do("a", "", domain.RenameTenant{Name: p.newID("name")})
		}
		p.settle()
		p.snapshots.Rounds(p.state, p.stored())
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, info.Size())
	}
	p.restart()
	if got, want := p.state.Text(), p.replayed().Text(); got != want {
		t.Fatalf("after a restart\n%s\nthe journal says\n%s", got, want)
	}
	fresh := newPartition(t, t.TempDir())
	for _, tenant := range []domain.TenantID{"a", "b", "c"} {
		fresh.fill(tenant, 8)
	}
	fresh.settle()
	fresh.snapshots.Rounds(fresh.state, fresh.stored())
	fresh.snapshots.Drop()
	info, err := os.Stat(fresh.snapshots.Path())
	if err != nil {
		t.Fatal(err)
	}
	if largest > 4*info.Size() {
		t.Fatalf("the file grew to %d bytes, and a fresh one has %d", largest, info.Size())
	}
}

// A Writer that starts from a snapshot answers as the one before, also to a repeated Idempotency-Key, and reads less.
func TestWriterStartsFromItsSnapshot(t *testing.T) {
	t.Parallel()
	store, dir := eventstoretest.NewStore(1), t.TempDir()
	var logs strings.Builder
	run := func() (*eventstore.Writer, func()) {
		logs.Reset()
		w, err := eventstore.NewWriter(eventstore.WriterConfig{
			Store: store, Log: slog.New(slog.NewTextHandler(&logs, nil)), Metrics: eventstore.NewWriterMetrics(prometheus.NewRegistry()), Alone: true,
			Snapshots: dir, SnapshotEvery: 2000,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		<-w.Leading()
		return w, func() {
			stop()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	w, stop := run()
	l := &ledger{t: t, store: store, writer: w}
	l.license(50, 300)
	key := &eventstore.Idempotency{Key: "k", Fingerprint: "f"}
	first, err := l.keyed(acquire("ada"), key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		l.must(acquire(fmt.Sprint("user", i)))
	}
	file := filepath.Join(dir, "partition-00.snapshot")
	for deadline := time.Now().Add(time.Minute); ; { // a round ends by itself, after the last command
		if _, err := os.Stat(file); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	stop()

	w, stop = run()
	defer stop()
	l.writer = w
	again, err := l.keyed(domain.AcquireSeat{License: "lic", Lease: "other", Holder: domain.Holder{User: "ada", Machine: "m"}}, key)
	if err != nil || again.Lease.ID != first.Lease.ID || !again.Created {
		t.Fatalf("repeated after the restart: %+v %v, want %+v", again.Lease, err, first.Lease)
	}
	answer := l.must(domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{"lease-user0", "lease-user39"}})
	for _, o := range answer.Leases {
		if o.Rejected != nil {
			t.Fatalf("%s after the restart: %v", o.ID, o.Rejected)
		}
	}
	if !strings.Contains(logs.String(), "from_snapshot=") || strings.Contains(logs.String(), "from_snapshot=0") {
		t.Fatalf("did not start from the snapshot:\n%s", logs.String())
	}
}
