package eventstore_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// pseudonymOf does what a Writer does: look, else add, and after a conflict load and look again.
func pseudonymOf(t *testing.T, d *eventstore.Directory, tenant domain.TenantID, kind eventstore.NameKind, text string, fresh func() domain.Pseudonym) domain.Pseudonym {
	for {
		if known := d.Pseudonym(tenant, kind, text); known != "" {
			return known
		}
		p := fresh()
		err := d.Add([]eventstore.Name{{Tenant: tenant, Pseudonym: p, Kind: kind, Text: text}})
		switch {
		case err == nil:
			return p
		case !errors.Is(err, eventstore.ErrConflict):
			t.Errorf("add: %v", err)
			return ""
		}
		if err := d.Load(t.Context()); err != nil {
			t.Error(err)
			return ""
		}
	}
}

func TestConflictingNamesEndInOnePseudonym(t *testing.T) {
	t.Parallel()
	log := eventstoretest.NewLog()
	a, b := eventstore.NewDirectory(log), eventstore.NewDirectory(log)
	name := eventstore.Name{Tenant: "acme", Pseudonym: "user_a", Kind: eventstore.UserName, Text: "ada"}
	if err := a.Add([]eventstore.Name{name}); err != nil {
		t.Fatal(err)
	}
	name.Pseudonym = "user_b"
	if err := b.Add([]eventstore.Name{name}); !errors.Is(err, eventstore.ErrConflict) {
		t.Fatalf("add = %v, want ErrConflict", err)
	}
	if got := b.Pseudonym("acme", eventstore.UserName, "ada"); got != "" || b.Seq() != 0 {
		t.Fatalf("what was refused is known as %q at %d", got, b.Seq())
	}
	if err := b.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.Pseudonym("acme", eventstore.UserName, "ada"); got != "user_a" || b.Seq() != a.Seq() {
		t.Fatalf("after the load ada is %q at %d, want user_a at %d", got, b.Seq(), a.Seq())
	}
}

func TestTwoDirectoriesNeverGiveOneTextTwoPseudonyms(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		log := eventstoretest.NewLog()
		texts := rapid.SliceOfN(rapid.SampledFrom([]string{"ada", "bob", "ADA", "", " ada", "世"}), 1, 12).Draw(rt, "texts")
		var mu sync.Mutex
		fresh := func() func() domain.Pseudonym {
			n := 0
			return func() domain.Pseudonym {
				mu.Lock()
				defer mu.Unlock()
				n++
				return domain.Pseudonym(fmt.Sprint("p", n))
			}
		}()
		got := make([]map[string]domain.Pseudonym, 2)
		var wg sync.WaitGroup
		for i := range got {
			got[i] = map[string]domain.Pseudonym{}
			wg.Go(func() {
				d := eventstore.NewDirectory(log)
				for _, text := range texts {
					got[i][text] = pseudonymOf(t, d, "acme", eventstore.UserName, text, fresh)
				}
			})
		}
		wg.Wait()
		restarted := eventstore.NewDirectory(log)
		if err := restarted.Load(t.Context()); err != nil {
			rt.Fatal(err)
		}
		used := map[domain.Pseudonym]string{}
		for _, text := range texts {
			a, b, c := got[0][text], got[1][text], restarted.Pseudonym("acme", eventstore.UserName, text)
			if a == "" || a != b || a != c {
				rt.Fatalf("%q is %s, %s and after a restart %s", text, a, b, c)
			}
			if before, taken := used[a]; taken && before != text {
				rt.Fatalf("%s stands for %q and %q", a, before, text)
			}
			used[a] = text
			if back := restarted.Text("acme", a); back != text {
				rt.Fatalf("%s stands for %q, want %q", a, back, text)
			}
		}
	})
}

// The same text is another name in another tenant, or of another kind: nobody can compare across them.
func TestNamesAreApartByTenantAndKind(t *testing.T) {
	t.Parallel()
	log := eventstoretest.NewLog()
	d := eventstore.NewDirectory(log)
	names := []eventstore.Name{
		{Tenant: "acme", Pseudonym: "p1", Kind: eventstore.UserName, Text: "build"},
		{Tenant: "acme", Pseudonym: "p2", Kind: eventstore.MachineName, Text: "build"},
		{Tenant: "acme", Pseudonym: "p3", Kind: eventstore.ProcessName, Text: "build"},
		{Tenant: "beta", Pseudonym: "p4", Kind: eventstore.UserName, Text: "build"},
	}
	if err := d.Add(names); err != nil {
		t.Fatal(err)
	}
	restarted := eventstore.NewDirectory(log)
	if err := restarted.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, directory := range []*eventstore.Directory{d, restarted} {
		for _, n := range names {
			if got := directory.Pseudonym(n.Tenant, n.Kind, n.Text); got != n.Pseudonym {
				t.Errorf("%s %s of %s is %s, want %s", n.Kind, n.Text, n.Tenant, got, n.Pseudonym)
			}
			if got := directory.Text(n.Tenant, n.Pseudonym); got != n.Text {
				t.Errorf("%s of %s stands for %q, want %q", n.Pseudonym, n.Tenant, got, n.Text)
			}
		}
		if got := directory.Text("beta", "p1"); got != "" {
			t.Errorf("beta can read acme's p1: %q", got)
		}
		if got := directory.Seq(); got != 1 {
			t.Errorf("directory is at %d, want 1", got)
		}
	}
}

// An append whose outcome stays open is known to nobody before it was read back.
func TestNamesOfUnknownOutcomeAreReadBack(t *testing.T) {
	t.Parallel()
	for fault, want := range map[eventstoretest.Fault]domain.Pseudonym{eventstoretest.StoredUnanswered: "p1", eventstoretest.LostUnanswered: ""} {
		log := eventstoretest.NewLog()
		d := eventstore.NewDirectory(log)
		log.Fail(fault)
		if err := d.Add([]eventstore.Name{{Tenant: "acme", Pseudonym: "p1", Kind: eventstore.UserName, Text: "ada"}}); err == nil {
			t.Fatal("an open outcome was taken for stored")
		}
		if got := d.Pseudonym("acme", eventstore.UserName, "ada"); got != "" {
			t.Fatalf("ada is %s before that is stored", got)
		}
		if err := d.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := d.Pseudonym("acme", eventstore.UserName, "ada"); got != want {
			t.Fatalf("fault %d: ada is %q, want %q", fault, got, want)
		}
	}
}

func TestDamagedDirectoryIsNotLoaded(t *testing.T) {
	t.Parallel()
	log := eventstoretest.NewLog()
	if err := eventstore.NewDirectory(log).Add([]eventstore.Name{{Tenant: "acme", Pseudonym: "p1", Kind: eventstore.UserName, Text: "ada"}}); err != nil {
		t.Fatal(err)
	}
	log.Replace(1, func(r *eventstore.Record) { r.Body = r.Body[1:] })
	if err := eventstore.NewDirectory(log).Load(t.Context()); err == nil {
		t.Fatal("loaded")
	}
}
