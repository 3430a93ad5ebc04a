package projections

import (
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// directory keeps read.directory: the clear text behind pseudonyms, as long as it is not forgotten. It reads the
// partition's directory, not its events.
type directory struct{}

// Name implements Projection.
func (directory) Name() string { return "directory" }

const directoryUpsert = `
	INSERT INTO read.directory (tenant_id, pseudonym, kind, text)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
	ON CONFLICT (tenant_id, pseudonym) DO UPDATE SET kind = excluded.kind, text = excluded.text`

type nameKey struct {
	tenant    domain.TenantID
	pseudonym domain.Pseudonym
}

// Apply implements Projection.
func (directory) Apply(b *Batch, q *pgx.Batch) error {
	var changes ordered[nameKey, eventstore.Name]
	for _, n := range b.Names {
		*changes.at(nameKey{n.Tenant, n.Pseudonym}) = n
	}
	var tenants, pseudonyms, kinds, texts []string
	for key, n := range changes.all() {
		tenants, pseudonyms = append(tenants, string(key.tenant)), append(pseudonyms, string(key.pseudonym))
		kinds, texts = append(kinds, string(n.Kind)), append(texts, clean(n.Text))
	}
	change(q, "names", len(texts), directoryUpsert, tenants, pseudonyms, kinds, texts)
	return nil
}
