package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// aJournal returns the commits that a Writer stored for three tenants, some of them in one commit. Lease ids hold mark, so
// that journals differ.
func aJournal(t *testing.T, mark string) []eventstore.Record {
	t.Helper()
	store := eventstoretest.NewStore(1)
	journal := store.Journal(0).(*eventstoretest.Log)
	tenants := []domain.TenantID{"acme", "beta", "gamma"}
	synctest.Test(t, func(t *testing.T) {
		l := start(t, store)
		execute := func(tenant domain.TenantID, c domain.Command) {
			_, err := l.writer.Execute(context.Background(), eventstore.Request{
				Tenant: tenant, Actor: "test", Prepare: func(eventstore.Scope) (domain.Command, error) { return c, nil },
			})
			if err != nil && !rejected(err, domain.NoSeatAvailable) { // a denial is an event too
				t.Errorf("%s: %+v: %v", tenant, c, err)
			}
		}
		for _, tenant := range tenants {
			execute(tenant, domain.CreateTenant{Tenant: tenant, Name: string(tenant)})
			execute(tenant, domain.IssueLicense{License: "lic", Product: "cad", Seats: 9, Policy: domain.Policy{LeaseSeconds: 60}, Key: domain.LicenseKey{ID: "key"}})
		}
		for round := range 2 {
			journal.Fail(eventstoretest.Held)
			var wg sync.WaitGroup
			for i := range 8 { // a full pipeline, and the rest in one commit
				for _, tenant := range tenants {
					id := fmt.Sprintf("%s-%d-%d", mark, round, i)
					wg.Go(func() {
						execute(tenant, domain.AcquireSeat{License: "lic", Lease: domain.LeaseID(id), Holder: domain.Holder{User: domain.Pseudonym(id)}})
					})
					synctest.Wait()
				}
			}
			journal.Release()
			wg.Wait()
		}
		execute("beta", domain.ReleaseSeats{License: "lic", Leases: []domain.LeaseID{domain.LeaseID(mark + "-0-0")}})
		execute("acme", domain.RenameTenant{Name: "Umbrella"})
		l.stop()
	})
	last, err := journal.Last(t.Context())
	if err != nil || last < 10 {
		t.Fatalf("journal has %d commits, %v", last, err)
	}
	var records []eventstore.Record
	shared := false
	for seq := range last {
		r, err := journal.Get(t.Context(), seq+1)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
		all := slicesOf(t, r)
		shared = shared || len(all) > 1
	}
	if !shared {
		t.Fatal("no commit holds events of several tenants")
	}
	return records
}

// fataler is a test of either kind.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func slicesOf(t fataler, r eventstore.Record) []eventstore.Slice {
	t.Helper()
	c, err := eventstore.CommitOf(r)
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Decode()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func logOf(t fataler, records []eventstore.Record) *eventstoretest.Log {
	t.Helper()
	log := eventstoretest.NewLog()
	var last eventstore.Place
	for i, r := range records {
		if err := <-log.Append(last, r); err != nil {
			t.Fatal(err)
		}
		last = eventstore.Place{Seq: uint64(i) + 1, ID: r.ID}
	}
	return log
}

// fold replays a journal and returns the state and where it ends.
func fold(t fataler, records []eventstore.Record) (*eventstore.State, error) {
	t.Helper()
	s := eventstore.NewState()
	return s, s.FoldUpTo(context.Background(), logOf(t, records), uint64(len(records)), nil)
}

func mustFold(t fataler, records []eventstore.Record) *eventstore.State {
	t.Helper()
	s, err := fold(t, records)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// catchUp reads what there is after from and returns how many commits that were; nil means that nothing was wrong.
func catchUp(t fataler, records []eventstore.Record, from eventstore.Checkpoint) (int, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // what is stored is read all the same
	n := 0
	err := eventstore.ReadCommits(ctx, logOf(t, records), from, func(eventstore.Checkpoint, eventstore.Commit) error { n++; return nil })
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return n, err
}

// damaged returns the journal with one record changed.
func damaged(records []eventstore.Record, i int, change func(*eventstore.Record)) []eventstore.Record {
	records = slices.Clone(records)
	r := eventstore.Record{Header: maps.Clone(records[i].Header), Body: slices.Clone(records[i].Body)}
	change(&r)
	records[i] = r
	return records
}

// Any other byte in a body shows in the next commit at the latest. In the last commit there is no next one: then it shows
// to whoever knows the head, as every checkpoint of a reader does.
func TestAChangedByteIsFound(t *testing.T) {
	t.Parallel()
	records := aJournal(t, "l")
	head := mustFold(t, records).Checkpoint
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.OneOf(rapid.IntRange(0, len(records)-1), rapid.Just(len(records)-1)).Draw(t, "commit")
		at := rapid.IntRange(0, len(records[i].Body)-1).Draw(t, "byte")
		with := rapid.ByteRange(1, 255).Draw(t, "xor")
		changed := damaged(records, i, func(r *eventstore.Record) { r.Body[at] ^= with })
		s, err := fold(t, changed)
		if i < len(records)-1 && err == nil {
			t.Fatalf("a change in commit %d of %d was folded", i+1, len(records))
		}
		if err == nil && s.Checkpoint == head {
			t.Fatal("another last commit has the same hash")
		}
		if _, err := catchUp(t, changed, eventstore.Checkpoint{}); i < len(records)-1 && !errors.Is(err, eventstore.ErrChainBroken) {
			t.Fatalf("a change in commit %d of %d: read = %v, want ErrChainBroken", i+1, len(records), err)
		}
		if _, err := catchUp(t, changed, head); i == len(records)-1 && !errors.Is(err, eventstore.ErrChainBroken) {
			t.Fatalf("a change in the last commit: read from the head = %v, want ErrChainBroken", err)
		}
	})
}

// A link that says anything else is found at once, in the last commit too.
func TestAChangedLinkIsFound(t *testing.T) {
	t.Parallel()
	records := aJournal(t, "l")
	const link = "Ledger-Prev"
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(records)-1).Draw(t, "commit")
		text := []byte(records[i].Header[link])
		text[rapid.IntRange(0, len(text)-1).Draw(t, "byte")] ^= rapid.ByteRange(1, 255).Draw(t, "xor")
		changed := damaged(records, i, func(r *eventstore.Record) { r.Header[link] = string(text) })
		if _, err := fold(t, changed); err == nil {
			t.Fatalf("link %s of commit %d was accepted for %s", text, i+1, records[i].Header[link])
		}
	})
}

func TestMissingSwappedAndRepeatedCommitsAreFound(t *testing.T) {
	t.Parallel()
	records, others := aJournal(t, "l"), aJournal(t, "other")
	n := len(records)
	rapid.Check(t, func(t *rapid.T) {
		i, j := rapid.IntRange(0, n-2).Draw(t, "commit"), rapid.IntRange(0, n-1).Draw(t, "place")
		changed := slices.Clone(records)
		what := rapid.SampledFrom([]string{"missing", "swapped", "repeated", "from another journal"}).Draw(t, "what")
		switch what {
		case "missing": // not the last: that is a rollback
			changed = slices.Delete(changed, i, i+1)
		case "swapped":
			if i == j {
				j = n - 1
			}
			changed[i], changed[j] = changed[j], changed[i]
		case "repeated":
			changed = slices.Insert(changed, j, changed[i])
		default:
			changed[j] = others[min(j, len(others)-1)]
		}
		if _, err := fold(t, changed); !errors.Is(err, eventstore.ErrChainBroken) {
			t.Fatalf("commit %d %s (%d): fold = %v, want ErrChainBroken", i+1, what, j+1, err)
		}
		if _, err := catchUp(t, changed, eventstore.Checkpoint{}); !errors.Is(err, eventstore.ErrChainBroken) {
			t.Fatalf("commit %d %s (%d): read = %v, want ErrChainBroken", i+1, what, j+1, err)
		}
	})
}

func TestReadingOnFromACheckpoint(t *testing.T) {
	t.Parallel()
	records, others := aJournal(t, "l"), aJournal(t, "other")
	n := min(len(records), len(others))
	records, others = records[:n], others[:n]
	at := mustFold(t, records[:n-3]).Checkpoint
	if got, want := at.Seq, uint64(n-3); got != want {
		t.Fatalf("checkpoint %d, want %d", got, want)
	}
	mixed := slices.Concat(records[:n-4], others[n-4:])
	for name, c := range map[string]struct {
		records []eventstore.Record
		from    eventstore.Checkpoint
		read    int
		want    []string // parts of the message; none when all is well
	}{
		"nothing new":          {records: records[:n-3], from: at},
		"three new":            {records: records, from: at, read: 3},
		"all":                  {records: records, read: n},
		"an empty journal":     {},
		"rolled back":          {records: records[:n-5], from: at, want: []string{fmt.Sprintf("ends at %d, but was read up to %d", n-5, n-3), "rolled back", "restore"}},
		"emptied":              {from: at, want: []string{fmt.Sprintf("ends at 0, but was read up to %d", n-3)}},
		"rolled back, then on": {records: mixed, from: at, want: []string{fmt.Sprintf("commit %d has the hash", n-3), at.Hash.String(), "another journal stands in its place"}},
		"swapped, as long":     {records: others[:n-3], from: at, want: []string{fmt.Sprintf("commit %d has the hash", n-3), "another journal stands in its place"}},
		"swapped, longer":      {records: others, from: at, want: []string{"another journal stands in its place"}},
		"a gap behind it": {
			records: slices.Concat(records[:n-3], records[n-2:]), from: at,
			want: []string{fmt.Sprintf("commit %d follows a commit with the hash", n-2), at.Hash.String()},
		},
		"a journal that begins in the middle": {records: records[1:], want: []string{"commit 1 follows a commit with the hash"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read, err := catchUp(t, c.records, c.from)
			if len(c.want) == 0 {
				if err != nil || read != c.read {
					t.Fatalf("read %d commits, %v; want %d", read, err, c.read)
				}
				return
			}
			if !errors.Is(err, eventstore.ErrChainBroken) || read > 0 {
				t.Fatalf("read %d commits, %v; want ErrChainBroken", read, err)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

// The chain of a tenant can be followed with nothing but its slices, and no other tenant's events move it.
func TestTenantChainFollowsFromSlices(t *testing.T) {
	t.Parallel()
	records := aJournal(t, "l")
	heads := map[domain.TenantID]eventstore.Hash{}
	versions := map[domain.TenantID]uint64{}
	for _, r := range records {
		for _, s := range slicesOf(t, r) {
			if s.Tenant == "" {
				continue
			}
			if got, want := *s.Events[0].Prev, heads[s.Tenant]; got != want {
				t.Fatalf("slice of %s after version %d has prev %s, want %s", s.Tenant, versions[s.Tenant], got, want)
			}
			heads[s.Tenant] = s.Head()
			for _, e := range s.Events {
				if versions[s.Tenant]++; e.Version != versions[s.Tenant] {
					t.Fatalf("version %d of %s, want %d", e.Version, s.Tenant, versions[s.Tenant])
				}
			}
		}
	}
	state := mustFold(t, records)
	for tenant, head := range heads {
		if got := state.TenantHead(tenant); got != head {
			t.Errorf("head of %s is %s, its slices give %s", tenant, got, head)
		}
	}
	if len(heads) != 3 || state.TenantHead("nobody") != (eventstore.Hash{}) {
		t.Errorf("heads of %d tenants, want 3, and none of nobody", len(heads))
	}
}

// A forger may link the commits anew; then the tenants' own chains still tell.
func TestARelinkedJournalBreaksTheTenantChain(t *testing.T) {
	t.Parallel()
	records := aJournal(t, "l")
	victim := slices.IndexFunc(records, func(r eventstore.Record) bool { return strings.Contains(string(r.Body), `"lease":"l-0-0"`) })
	forged := damaged(records, victim, func(r *eventstore.Record) {
		r.Body = []byte(strings.Replace(string(r.Body), `"actor":"test"`, `"actor":"tess"`, 1))
	})
	var prev eventstore.Hash
	for i := range forged {
		c, err := eventstore.CommitOf(forged[i])
		if err != nil {
			t.Fatal(err)
		}
		c.Prev = prev
		forged[i], prev = c.Record(), c.Hash()
	}
	if n, err := catchUp(t, forged, eventstore.Checkpoint{}); n != len(records) || err != nil {
		t.Fatalf("read %d commits, %v; the links are whole", n, err)
	}
	if _, err := fold(t, forged); !errors.Is(err, eventstore.ErrChainBroken) {
		t.Fatalf("fold = %v, want ErrChainBroken", err)
	}
}

// Of a writer that lost its place nothing more may be stored: not the commit that lost, and not those it had sent behind
// it, though the place that they expect is free again once the newer writer's commit fills the gap.
func TestNothingBehindALostCommitIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := eventstoretest.NewStore(1)
		older := start(t, store)
		older.license(5, 300)
		journal := store.Journal(0).(*eventstoretest.Log)
		journal.Fail(eventstoretest.Held)
		var wg sync.WaitGroup
		wg.Go(func() { start(t, store) }) // its take-over is on its way first
		synctest.Wait()
		for _, user := range []string{"ada", "bob"} { // two commits in flight behind it
			wg.Go(func() { older.must(acquire(user)) })
			synctest.Wait()
		}
		if err := journal.AwaitHeld(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		journal.Release()
		wg.Wait()
		if got := strings.Count(older.types(), "seat.acquired"); got != 2 { // types checks the chain
			t.Errorf("%d seats acquired, want 2", got)
		}
	})
}
