package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// aLedger returns a partition with the histories of acme and globex, whose events share commits.
func aLedger(t testing.TB, rounds int) *eventstoretest.Store {
	t.Helper()
	store := eventstoretest.NewStore(1)
	h := projectionstest.NewHistory(t, store)
	h.Create("globex", "lic_g", 2)
	h.Create("acme", "lic_a", 3)
	h.Commit()
	for i := range rounds {
		user := fmt.Sprint("user", i%7)
		lease := h.Acquire("acme", "lic_a", user)
		h.Acquire("globex", "lic_g", user)
		h.Commit()
		h.Do("globex", domain.HeartbeatSeats{License: "lic_g", Leases: []domain.LeaseID{lease}})
		if i%3 == 2 {
			h.Do("acme", domain.ReleaseSeats{License: "lic_a", Leases: []domain.LeaseID{lease}})
			h.Do("acme", domain.ChangeLicense{License: "lic_a", Seats: new(3 + i)})
		}
		h.Commit()
	}
	return store
}

func exported(t testing.TB, store eventstore.Store, tenant domain.TenantID) ([]byte, End) {
	t.Helper()
	var file bytes.Buffer
	x := NewExporter(&file, Header{Ledger: store.Info().ID, Tenant: tenant, ExportedAt: time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)})
	if err := (Source{Journal: store.Journal(0), Tenant: tenant}).Read(t.Context(), x.Add); err != nil {
		t.Fatal(err)
	}
	if err := x.Name(Name{Pseudonym: "u_user0", Text: "Ada <ada@example.com>"}); err != nil {
		t.Fatal(err)
	}
	end, err := x.Close()
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), end
}

func verify(file []byte, o Options) (Report, error) { return Verify(bytes.NewReader(file), o) }

// wrongAt returns the line that Verify names; 0 when it finds nothing wrong.
func wrongAt(t testing.TB, file []byte) int {
	t.Helper()
	_, err := verify(file, Options{})
	if err == nil {
		return 0
	}
	var bad *BadError
	if !errors.As(err, &bad) {
		t.Fatalf("not a BadError: %v", err)
	}
	return bad.Line
}

func TestAnExportHoldsTheEventsOfItsTenant(t *testing.T) {
	t.Parallel()
	store := aLedger(t, 20)
	file, end := exported(t, store, "acme")
	if bytes.Contains(file, []byte("globex")) {
		t.Error("the export of acme names globex")
	}
	state := eventstore.NewState()
	last, err := store.Journal(0).Last(t.Context())
	if err == nil {
		err = state.FoldUpTo(t.Context(), store.Journal(0), last, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	var events int
	report, err := verify(file, Options{Tenant: "acme", Head: state.TenantHead("acme"), Each: func(s Slice) error { events += len(s.Events); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if report.End != end || events != end.Events || report.Tenant.Version != end.Version || len(report.Names) != 1 {
		t.Errorf("report %+v, %d events; the exporter said %+v", report, events, end)
	}
	state.Tenants(func(live *domain.Tenant) {
		if live.ID != "acme" {
			return
		}
		want, err := live.AppendBinary(nil)
		got, err2 := report.Tenant.AppendBinary(nil)
		if err != nil || err2 != nil || !bytes.Equal(want, got) {
			t.Errorf("the file's events add up to another state than the journal's (%v, %v)", err, err2)
		}
	})
	if _, err := verify(file, Options{Tenant: "globex"}); err == nil {
		t.Error("taken for an export of globex")
	}
	if _, err := verify(file, Options{Head: state.TenantHead("globex")}); err == nil {
		t.Error("another head at the end is found right")
	}
}

func TestAnExportOfNothingIsOne(t *testing.T) {
	t.Parallel()
	file, _ := exported(t, aLedger(t, 1), "acme")
	var empty bytes.Buffer
	if _, err := NewExporter(&empty, Header{Ledger: "l", Tenant: "acme"}).Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := verify(empty.Bytes(), Options{}); err != nil || report.End != (End{}) {
		t.Errorf("%+v, %v", report, err)
	}
	if line := wrongAt(t, nil); line != 1 {
		t.Errorf("an empty file is wrong at line %d", line)
	}
	if line := wrongAt(t, append(file, '\n')); line == 0 {
		t.Error("what follows the end is not seen")
	}
}

// A part of a history begins where the one before it ends.
func TestAPartOfAHistoryIsVerified(t *testing.T) {
	t.Parallel()
	store := aLedger(t, 10)
	var parts [2]bytes.Buffer
	exporters := [2]*Exporter{}
	for i := range parts {
		exporters[i] = NewExporter(&parts[i], Header{Ledger: "l", Tenant: "acme"})
	}
	err := Source{Journal: store.Journal(0), Tenant: "acme"}.Read(t.Context(), func(s Slice) error {
		if s.Seq <= 7 {
			return exporters[0].Add(s)
		}
		return exporters[1].Add(s)
	})
	if err != nil {
		t.Fatal(err)
	}
	var reports [2]Report
	for i, x := range exporters {
		if _, err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if reports[i], err = verify(parts[i].Bytes(), Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if reports[1].Header.Head != reports[0].End.Head || reports[1].Header.After != reports[0].End.Version || reports[1].Tenant != nil {
		t.Errorf("the second part begins at %+v, the first ends at %+v", reports[1].Header, reports[0].End)
	}
}

// One flipped bit anywhere is found, in its line.
func TestEveryFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	file, _ := exported(t, aLedger(t, 12), "acme")
	flips := 10_000
	if testing.Short() {
		flips = 500
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range flips {
		at, bit := random.IntN(len(file)), random.IntN(8)
		damaged := bytes.Clone(file)
		damaged[at] ^= 1 << bit
		want := 1 + bytes.Count(file[:at], []byte("\n"))
		got := wrongAt(t, damaged)
		// A new or lost end of line makes two lines of one, or one of two.
		if got != want && !(got == want+1 && damaged[at] == '\n') {
			t.Fatalf("bit %d of byte %d, in line %d (%q): line %d is named", bit, at, want, file[max(0, at-20):min(len(file), at+20)], got)
		}
	}
}

// Lines that are left out, repeated, put elsewhere or cut off are found where they should be.
func TestLinesOutOfPlaceAreFound(t *testing.T) {
	t.Parallel()
	file, _ := exported(t, aLedger(t, 12), "acme")
	lines := bytes.SplitAfter(file, []byte("\n"))
	lines = lines[:len(lines)-1]
	for i := range lines {
		for what, changed := range map[string][][]byte{
			"left out": slices.Concat(lines[:i], lines[i+1:]),
			"repeated": slices.Concat(lines[:i+1], lines[i:]),
			"cut off":  lines[:i],
		} {
			want := i + 1
			if what == "repeated" {
				want++
			}
			if got := wrongAt(t, bytes.Join(changed, nil)); got != want {
				t.Errorf("line %d %s: line %d is named", i+1, what, got)
			}
		}
		for j := range i {
			swapped := slices.Clone(lines)
			swapped[i], swapped[j] = lines[j], lines[i]
			if got := wrongAt(t, bytes.Join(swapped, nil)); got != j+1 {
				t.Errorf("lines %d and %d swapped: line %d is named", j+1, i+1, got)
			}
		}
	}
}

// forge makes new sums for changed lines, and a new end: what somebody does who knows the format.
func forge(t testing.TB, lines [][]byte) []byte {
	t.Helper()
	var file []byte
	var sum eventstore.Hash
	for _, line := range lines {
		sealed, next := sealed(bytes.Clone(line[:len(line)-1-sumLen]), sum)
		file, sum = append(file, sealed...), next
	}
	return file
}

// Who makes new sums cannot make the chain fit: every change of a stored event, and every slice left out, repeated or moved,
// shows by the tenant's own chain, up to the last slice; and the last one by a head from elsewhere.
func TestAForgedExportDoesNotPass(t *testing.T) {
	t.Parallel()
	store := aLedger(t, 12)
	file, end := exported(t, store, "acme")
	lines := bytes.SplitAfter(file, []byte("\n"))
	lines = lines[:len(lines)-1]
	if got := wrongAt(t, forge(t, lines)); got != 0 {
		t.Fatalf("new sums for what was not changed: line %d is named", got)
	}
	first, last := 1, len(lines)-3 // the slices, by index
	for i := first; i <= last; i++ {
		want := i + 1
		if i == last {
			want = len(lines) - 1 // the end, which counts the slices
		}
		if got := wrongAt(t, forge(t, slices.Concat(lines[:i], lines[i+1:]))); got != want {
			t.Errorf("slice of line %d left out: line %d is named, not %d", i+1, got, want)
		}
		if got := wrongAt(t, forge(t, slices.Concat(lines[:i+1], lines[i:]))); got != i+2 {
			t.Errorf("slice of line %d repeated: line %d is named", i+1, got)
		}
		for j := first; j < i; j++ {
			swapped := slices.Clone(lines)
			swapped[i], swapped[j] = lines[j], lines[i]
			if got := wrongAt(t, forge(t, swapped)); got != j+1 {
				t.Errorf("slices of lines %d and %d swapped: line %d is named", j+1, i+1, got)
			}
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		i := first + random.IntN(last-first+1)
		changed := slices.Clone(lines)
		line := bytes.Clone(lines[i])
		events := bytes.Index(line, []byte(`"events":[`)) + len(`"events":[`)
		line[events+random.IntN(len(line)-sumLen-2-events)] ^= 1 << random.IntN(8)
		changed[i] = line
		if got := wrongAt(t, forge(t, changed)); got != i+1 {
			t.Fatalf("an event of line %d changed: line %d is named", i+1, got)
		}
	}

	// The events after a lease are left out, and the end is made to fit: the file is right in itself, and another head tells.
	var shorter bytes.Buffer
	x := NewExporter(&shorter, Header{Ledger: "l", Tenant: "acme"})
	err := Source{Journal: store.Journal(0), Tenant: "acme"}.Read(t.Context(), func(s Slice) error {
		if s.Seq < end.Seq {
			return x.Add(s)
		}
		return nil
	})
	if err == nil {
		_, err = x.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(shorter.Bytes(), Options{}); err != nil {
		t.Errorf("a history that was cut at its end passes by itself, as the package says; got %v", err)
	}
	if _, err := verify(shorter.Bytes(), Options{Head: end.Head}); err == nil {
		t.Error("a history that was cut at its end passes against the head of the whole")
	}
}

// A history with one holder too many cannot be written by the ledger; if one were, no export of it passes.
func TestAnOversoldSeatDoesNotPass(t *testing.T) {
	t.Parallel()
	store := eventstoretest.NewStore(1)
	h := projectionstest.NewHistory(t, store)
	h.Create("acme", "lic_a", 1)
	h.Acquire("acme", "lic_a", "ada")
	h.Commit()
	journal, err := store.Journal(0).Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := eventstore.CommitOf(journal)
	if err != nil {
		t.Fatal(err)
	}
	slice, err := whole.Decode()
	if err != nil {
		t.Fatal(err)
	}
	acquired := slice[0].Events[2]
	second := strings.NewReplacer("acme-3", "acme-4", `"version":"3"`, `"version":"4"`, "lse_1", "lse_2", "u_ada", "u_bob").Replace(string(acquired.Raw))
	body := []byte("[" + string(slice[0].Stored) + "," + second + "]")
	forged, err := eventstore.Commit{Body: body}.Decode()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	x := NewExporter(&file, Header{Ledger: "l", Tenant: "acme"})
	if err := x.Add(Slice{forged[0], 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(file.Bytes(), Options{}); err == nil || !strings.Contains(err.Error(), "cannot have happened") {
		t.Errorf("two holders of one seat: %v", err)
	}
}

func TestTheExporterRefusesABrokenChain(t *testing.T) {
	t.Parallel()
	var all []Slice
	err := Source{Journal: aLedger(t, 5).Journal(0), Tenant: "acme"}.Read(t.Context(), func(s Slice) error { all = append(all, s); return nil })
	if err != nil {
		t.Fatal(err)
	}
	x := NewExporter(io.Discard, Header{Tenant: "acme"})
	if err := errors.Join(x.Add(all[0]), x.Add(all[1])); err != nil {
		t.Fatal(err)
	}
	for _, s := range []Slice{all[1], all[3]} {
		if err := x.Add(s); !errors.Is(err, eventstore.ErrChainBroken) {
			t.Errorf("commit %d after commit %d: %v", s.Seq, all[1].Seq, err)
		}
	}
	if err := NewExporter(io.Discard, Header{Tenant: "globex"}).Add(all[0]); err == nil {
		t.Error("an event of acme in an export of globex")
	}
}

// With a copy, only what is new is read from the journal, and the last commit that the copy has: which tells of a copy in which a
// byte is another one, a slice is missing, or that is of another ledger.
func TestASourceWithACopy(t *testing.T) {
	t.Parallel()
	store := aLedger(t, 40)
	journal := store.Journal(0)
	var all []Slice
	if err := (Source{Journal: journal, Tenant: "acme"}).Read(t.Context(), func(s Slice) error { all = append(all, s); return nil }); err != nil {
		t.Fatal(err)
	}
	last, err := journal.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	copied := func(copy []Slice, upTo uint64) func(context.Context, func(Slice) error) (uint64, error) {
		return func(_ context.Context, f func(Slice) error) (uint64, error) {
			for _, s := range copy {
				if s.Seq <= upTo {
					if err := f(s); err != nil {
						return 0, err
					}
				}
			}
			return upTo, nil
		}
	}
	for _, upTo := range []uint64{0, 1, 20, last} {
		counted := &counting{Log: journal}
		var got []uint64
		source := Source{Journal: counted, Tenant: "acme", Copied: copied(all, upTo)}
		if err := source.Read(t.Context(), func(s Slice) error { got = append(got, s.Seq); return nil }); err != nil || len(got) != len(all) {
			t.Fatalf("copied up to %d: %v, read %d of %d", upTo, err, len(got), len(all))
		}
		if most := int(last-upTo) + 1; counted.read > most {
			t.Errorf("copied up to %d of %d: %d commits were read one by one", upTo, last, counted.read)
		}
	}

	// From the sixth slice on it is another history, whole in itself: its links were made anew.
	forged := slices.Clone(all)
	head := *forged[5].Events[0].Prev
	for i := 5; i < len(forged); i++ {
		stored := bytes.ReplaceAll(forged[i].Stored, []byte("u_user"), []byte("u_uzer"))
		stored = bytes.Replace(stored, []byte(forged[i].Events[0].Prev.String()), []byte(head.String()), 1)
		made, err := eventstore.Commit{Body: append(append([]byte{'['}, stored...), ']')}.Decode()
		if err != nil {
			t.Fatal(err)
		}
		forged[i] = Slice{made[0], forged[i].Seq}
		head = made[0].Head()
	}
	lastChanged := copyOf(t, journal, func(seq uint64, c *eventstore.Commit) {
		if seq == all[len(all)-1].Seq {
			c.Body = bytes.ReplaceAll(c.Body, []byte(`"operator"`), []byte(`"operated"`))
		}
	})
	for what, source := range map[string]Source{
		"a slice is left out of the copy":         {Journal: journal, Copied: copied(slices.Delete(slices.Clone(all), 5, 6), last)},
		"the copy is made anew from the sixth on": {Journal: journal, Copied: copied(forged, last)},
		"the journal has another last commit":     {Journal: lastChanged, Copied: copied(all, last)},
		"the journal lost its end":                {Journal: eventstoretest.NewStore(1).Journal(0), Copied: copied(all, last)},
	} {
		source.Tenant = "acme"
		if err := source.Read(t.Context(), func(Slice) error { return nil }); !errors.Is(err, eventstore.ErrChainBroken) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// counting counts what is read of a log in order.
type counting struct {
	eventstore.Log
	read int
}

func (c *counting) Read(ctx context.Context, after uint64, f func(uint64, eventstore.Record) error) error {
	return c.Log.Read(ctx, after, func(seq uint64, r eventstore.Record) error { c.read++; return f(seq, r) })
}

func FuzzVerify(f *testing.F) {
	file, _ := exported(f, aLedger(f, 3), "acme")
	f.Add(file)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, err := verify(file, Options{}); err != nil {
			wrongAt(t, file)
		}
	})
}
