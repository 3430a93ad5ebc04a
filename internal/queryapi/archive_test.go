package queryapi

import (
	"strings"
	"testing"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/audit"
	"github.com/coditect-ai/license-ledger/projections"
)

func (f *fixture) archive(t *testing.T) {
	t.Helper()
	if err := projections.NewArchiver(f.db, f.store, f.api.log, nil).CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

func TestExport(t *testing.T) {
	f := setup(t)
	f.example(t)
	for range exportPage { // more than a page
		f.Do("acme", domain.HeartbeatSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1"}})
		f.Commit()
	}
	f.project(t)
	// Rows are there that the archive does not have yet.
	f.refused(t, 503, "projection_behind", "", "/tenants/acme/export")
	f.archive(t)

	answer := f.get(t, "/tenants/acme/export")
	if answer.status != 200 || answer.header.Get("Content-Type") != exportMedia || answer.header.Get("Ledger-Position") == "" ||
		!strings.Contains(answer.header.Get("Content-Disposition"), "acme.ledger") {
		t.Fatalf("%d %v %.200s", answer.status, answer.header, answer.body)
	}
	if strings.Contains(answer.body, "globex") || strings.Contains(answer.body, "host-1") {
		t.Error("the export holds another tenant, or a name")
	}
	journal := f.store.Journal(f.store.Info().PartitionOf("acme"))
	last, err := journal.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state := eventstore.NewState()
	if err := state.FoldUpTo(t.Context(), journal, last, nil); err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verify(strings.NewReader(answer.body), audit.Options{Tenant: "acme", Head: state.TenantHead("acme")})
	if err != nil || report.End.Version != f.Tenant("acme").Version || report.Header.Ledger != f.store.Info().ID {
		t.Errorf("%v %+v", err, report)
	}

	named, err := audit.Verify(strings.NewReader(f.get(t, "/tenants/acme/export?names=true").body), audit.Options{})
	if err != nil || len(named.Names) != 2 || named.Names[0] != (audit.Name{Pseudonym: "m_1", Text: "host-1"}) {
		t.Errorf("%v %+v", err, named.Names)
	}
	f.refused(t, 400, "invalid_request", "names", "/tenants/acme/export?names=perhaps")
	f.refused(t, 404, "tenant_not_found", "", "/tenants/umbrella/export")
}
