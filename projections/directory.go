package projections

import (
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// directory keeps read.directory: the clear text behind pseudonyms, as long as it is not forgotten: of who was there is no row. It reads the
// partition's directory, not its events.
type directory struct{}

// Name implements Projection.
func (directory) Name() string { return "directory" }

const directoryUpsert = `
	INSERT INTO read.directory (tenant_id, pseudonym, kind, text)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
	ON CONFLICT (tenant_id, pseudonym) DO UPDATE SET kind = excluded.kind, text = excluded.text`

// There may be no row: what was erased since was never read.
const directoryDelete = `
	DELETE FROM read.directory d
	USING unnest($1::text[], $2::text[]) AS c (tenant_id, pseudonym)
	WHERE d.tenant_id = c.tenant_id AND d.pseudonym = c.pseudonym`

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
	// A pseudonym that was forgotten never gets a name again, so these come last.
	var forgottenTenants, forgotten []string
	for _, f := range b.Forgotten {
		forgottenTenants, forgotten = append(forgottenTenants, string(f.Tenant)), append(forgotten, string(f.Pseudonym))
	}
	if len(forgotten) > 0 {
		q.Queue(directoryDelete, forgottenTenants, forgotten)
	}
	return nil
}
