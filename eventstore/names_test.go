package eventstore

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
)

// A packed table and two maps are told the same names, also again and with other texts.
func TestNameTableIsTwoMaps(t *testing.T) {
	t.Parallel()
	type textKey struct {
		tenant domain.TenantID
		kind   NameKind
		text   string
	}
	type pseudonymKey struct {
		tenant    domain.TenantID
		pseudonym domain.Pseudonym
	}
	rapid.Check(t, func(t *rapid.T) {
		table := newNameTable()
		texts, pseudonyms := map[pseudonymKey]string{}, map[textKey]domain.Pseudonym{}
		name := rapid.Custom(func(t *rapid.T) Name {
			return Name{
				Tenant:    rapid.SampledFrom([]domain.TenantID{"acme", "beta", ""}).Draw(t, "tenant"),
				Kind:      rapid.SampledFrom([]NameKind{UserName, MachineName}).Draw(t, "kind"),
				Pseudonym: rapid.SampledFrom([]domain.Pseudonym{"", "u_1", "u_2", "u_3"}).Draw(t, "pseudonym"),
				Text:      rapid.SampledFrom([]string{"", "ada", "bob", "世", strings.Repeat("long", 8000)}).Draw(t, "text"),
			}
		})
		for range rapid.IntRange(1, 30).Draw(t, "puts") {
			n := name.Draw(t, "name")
			if err := table.put(n, 1); err != nil {
				t.Fatal(err)
			}
			texts[pseudonymKey{n.Tenant, n.Pseudonym}] = n.Text
			pseudonyms[textKey{n.Tenant, n.Kind, n.Text}] = n.Pseudonym
			asked := name.Draw(t, "asked")
			if got, want := table.text(asked.Tenant, asked.Pseudonym), texts[pseudonymKey{asked.Tenant, asked.Pseudonym}]; got != want {
				t.Fatalf("%s of %s is %q, want %q", asked.Pseudonym, asked.Tenant, got, want)
			}
			if got, want := table.pseudonym(asked.Tenant, asked.Kind, asked.Text), pseudonyms[textKey{asked.Tenant, asked.Kind, asked.Text}]; got != want {
				t.Fatalf("%s %s of %s is %q, want %q", asked.Kind, asked.Text, asked.Tenant, got, want)
			}
		}
	})
}

func TestNameTableRefusesANameThatFitsInNoChunk(t *testing.T) {
	t.Parallel()
	table := newNameTable()
	if err := table.put(Name{Tenant: "acme", Kind: UserName, Pseudonym: "u_1", Text: strings.Repeat("x", nameChunk)}, 1); err == nil {
		t.Fatal("no error")
	}
}
