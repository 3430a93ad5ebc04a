package projections_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

// people makes acme with ada and bob, whose names share a record of the directory, at work.
func (f fixture) people() {
	f.Names(eventstore.Name{Tenant: "acme", Pseudonym: "u_ada", Kind: eventstore.UserName, Text: "ada"},
		eventstore.Name{Tenant: "acme", Pseudonym: "u_bob", Kind: eventstore.UserName, Text: "bob"})
	f.Create("acme", "lic_1", 9)
	f.Acquire("acme", "lic_1", "ada")
	f.Acquire("acme", "lic_1", "bob")
	f.Commit()
}

const namesKept = `SELECT string_agg(text, ' ' ORDER BY text) FROM read.directory`

func TestForgottenNamesLeaveTheRows(t *testing.T) {
	f := setup(t)
	f.people()
	f.project(t, projections.Options{})
	mustBe(t, "who is known", f.value(t, namesKept), "ada bob")
	leases := f.value(t, `SELECT jsonb_agg(to_jsonb(l)) FROM read.leases l`)
	f.Forget("acme", "u_ada")
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "who is known", f.value(t, namesKept), "bob")
	mustBe(t, "leases", f.value(t, `SELECT jsonb_agg(to_jsonb(l)) FROM read.leases l`), leases)
	f.checkSame(t)

	// What replaced the record is replaced in its turn.
	f.Name("acme", "u_eve", eventstore.UserName, "eve")
	f.Forget("acme", "u_bob")
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "who is known", f.value(t, namesKept), "eve")
}

// While the rows are built anew, everybody who is left is known from their first event on, and nobody else ever is.
func TestARebuildNeverSeesWhoWasForgotten(t *testing.T) {
	f := setup(t)
	f.people()
	f.Names(eventstore.Name{Tenant: "acme", Pseudonym: "u_eve", Kind: eventstore.UserName, Text: "eve"},
		eventstore.Name{Tenant: "acme", Pseudonym: "u_dan", Kind: eventstore.UserName, Text: "dan"})
	f.Forget("acme", "u_ada")
	f.Commit()
	f.Acquire("acme", "lic_1", "dan")
	f.Commit()
	f.Forget("acme", "u_eve")
	f.Commit()
	var told []string
	f.project(t, projections.Options{BatchMax: 1, Publish: func(_ domain.TenantID, payload []byte) error {
		var c struct {
			Names     map[string]string
			Forgotten []string
			Renamed   bool
		}
		err := json.Unmarshal(payload, &c)
		told = append(told, fmt.Sprint(c.Names, c.Forgotten, c.Renamed))
		return err
	}})
	want := []string{
		"map[u_bob:bob] [u_ada m_1] false", // m_1 has no name in this test
		"map[] [u_ada] true",
		"map[u_dan:dan] [m_1] false",
		"map[] [u_eve] true",
	}
	mustBe(t, "what live readers are told", fmt.Sprint(told), fmt.Sprint(want))
	mustBe(t, "who is known", f.value(t, namesKept), "bob dan")
}

// Many records at once are read in another way than few.
func TestForgottenNamesAmongMany(t *testing.T) {
	f := setup(t)
	f.people()
	for i := range 50 {
		f.Name("acme", domain.Pseudonym(fmt.Sprint("u_", i)), eventstore.UserName, fmt.Sprint("name", i))
	}
	for _, gone := range []int{0, 20, 21, 49} {
		f.Forget("acme", domain.Pseudonym(fmt.Sprint("u_", gone)))
	}
	f.Forget("acme", "u_ada")
	f.Commit()
	f.project(t, projections.Options{})
	mustBe(t, "names", f.value(t, `SELECT count(*) FROM read.directory`), "47")
	mustBe(t, "who is known", f.value(t, `SELECT string_agg(text, ' ' ORDER BY text) FROM read.directory WHERE text ~ 'b|a$|[02]$|21|49'`),
		"bob name10 name12 name2 name22 name30 name32 name40 name42")
	f.checkSame(t)

	if err := f.store.Directory(0).Erase(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.Exec(t.Context(), emptyAll); err != nil {
		t.Fatal(err)
	}
	mustBeBroken(t, f.run(t, projections.Options{}))
}

// A record that is missing without a word was not forgotten but lost.
func TestALostRecordOfTheDirectoryStops(t *testing.T) {
	f := setup(t)
	f.people()
	f.Name("acme", "u_eve", eventstore.UserName, "eve")
	f.Do("acme", domain.RenameTenant{Name: "other"})
	f.Commit()
	if err := f.store.Directory(0).Erase(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	mustBeBroken(t, f.run(t, projections.Options{}))
}
