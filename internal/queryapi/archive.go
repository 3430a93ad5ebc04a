package queryapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/audit"
	"github.com/coditect-ai/license-ledger/projections"
)

// exportMedia is the media type of an export: JSON, an object a line.
const exportMedia = string(formatJSONL)

// exportPause is how long a client of an export may take to read a page of it.
const exportPause = 30 * time.Second

// exportTenant writes all events of a tenant as a file that proves itself. It reads the archive page by page, each in a transaction of
// its own: what was archived does not change, and a slow client keeps no transaction open.
func (a *API) exportTenant(w http.ResponseWriter, r *http.Request) error {
	p := paramsOf(r)
	names := p.flag("names")
	if err := p.done(); err != nil {
		return err
	}
	end, err := a.exports.begin(r.Context())
	if err != nil {
		return err
	}
	defer end()
	tenant, version, err := a.archivedVersion(w, r)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 256<<10)
	x := audit.NewExporter(out, audit.Header{
		Ledger: a.ledger.ID, Tenant: tenant, Partition: uint16(a.ledger.PartitionOf(tenant)), ExportedAt: time.Now().UTC().Truncate(time.Second),
	})
	w.Header().Set("Content-Type", exportMedia)
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s.ledger"`, tenant))
	if err := a.exportTo(w, r, x, out, tenant, version, names != nil && *names); err != nil {
		// Too late for another status: a file without its end is known as cut off.
		a.log.ErrorContext(r.Context(), "export cut off", "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

func (a *API) exportTo(w http.ResponseWriter, r *http.Request, x *audit.Exporter, out *bufio.Writer, tenant domain.TenantID, upTo uint64, withNames bool) error {
	control := http.NewResponseController(w)
	seen := map[domain.Pseudonym]bool{}
	for after := uint64(0); after < upTo; {
		page, err := a.archived(r.Context(), tenant, after)
		switch {
		case err != nil:
			return err
		case len(page) == 0:
			return fmt.Errorf("the archive of %s ends at version %d, before %d", tenant, after, upTo)
		}
		for _, stored := range page {
			slice, err := stored.Decode()
			if err != nil {
				return err
			}
			for _, e := range slice.Events {
				for _, p := range domain.Pseudonyms(e.Data) {
					seen[p] = true
				}
			}
			if err := x.Add(audit.Slice{Slice: slice, Seq: stored.Commit}); err != nil {
				return err
			}
			after = stored.Last
		}
		if err := control.SetWriteDeadline(time.Now().Add(exportPause)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	if withNames {
		names, err := a.textsOf(r.Context(), tenant, slices.Collect(maps.Keys(seen)))
		if err == nil {
			err = audit.AddNames(x, seen, func(p domain.Pseudonym) string { return names[string(p)] })
		}
		if err != nil {
			return err
		}
	}
	if _, err := x.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// tenantsStandSelect finds the commit that the rows of tenants reflect: their versions are those after it.
const tenantsStandSelect = `SELECT seq FROM read.checkpoints WHERE projection = 'tenants' AND ledger_id = $1 AND partition = $2`

// archivedVersion returns the tenant and the version it stands at, up to which its export goes. The archive is a projection of its
// own: it waits until that is there, too. Errors: those of readTenant.
func (a *API) archivedVersion(w http.ResponseWriter, r *http.Request) (tenant domain.TenantID, version uint64, err error) {
	_, err = a.readTenant(w, r, func(ctx context.Context, tx pgx.Tx, id domain.TenantID) (err error) {
		tenant = id
		if _, version, err = selectTenant(ctx, tx, id, nil); err != nil {
			return err
		}
		archived, err := projections.ArchivedTo(ctx, tx, id)
		if err != nil || archived >= version {
			return err
		}
		least := eventstore.Position{Partition: a.ledger.PartitionOf(id)}
		if err := tx.QueryRow(ctx, tenantsStandSelect, a.ledger.ID, least.Partition).Scan(&least.Seq); err != nil {
			return err
		}
		_, end, err := projections.PlaceAt(ctx, tx, least.Partition, time.Time{})
		if err != nil {
			return err
		}
		return &behindError{archive: true, least: least, lag: least.Seq - end}
	})
	return tenant, version, err
}

// exportPage is how many slices are read at once.
const exportPage = 500

func (a *API) archived(ctx context.Context, tenant domain.TenantID, after uint64) (page []projections.TenantSlice, err error) {
	err = pgx.BeginTxFunc(ctx, a.db, snapshotOf(tenant), func(tx pgx.Tx) error {
		page, err = projections.ReadSlices(ctx, tx, tenant, after, exportPage)
		return err
	})
	return page, err
}

// textsOf returns what pseudonyms stand for, as far as it is known.
func (a *API) textsOf(ctx context.Context, tenant domain.TenantID, pseudonyms []domain.Pseudonym) (texts map[string]string, err error) {
	err = pgx.BeginTxFunc(ctx, a.db, snapshotOf(tenant), func(tx pgx.Tx) error {
		texts, err = selectTexts(ctx, tx, tenant, pseudonyms)
		return err
	})
	return texts, err
}
