package queryapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// instant is what a query is as of: a time, or a position. A nil instant is now.
type instant struct {
	parameter string
	time      time.Time
	positions []eventstore.Position // none: a time was given

	// What it turned out to be, once the reading has begun.
	places  []eventstore.Position // the last commit of each partition that is read
	version uint64                // of the tenant, when one is read
}

// instantOf reads an instant: a time, or a position as in Ledger-Position; nil when it is not there.
func (a *API) instantOf(p *params, name string) *instant {
	text := p.text(name)
	if text == "" {
		return nil
	}
	i := &instant{parameter: name}
	var err error
	if i.time, err = time.Parse(time.RFC3339, text); err == nil && i.time.Year() >= 1 && i.time.Year() <= 9999 {
		return i
	}
	if i.positions, err = a.tokens.Parse(text); err != nil {
		p.invalid(name, name+" must be a time such as 2026-03-01T09:00:00Z, or a position as in Ledger-Position.")
	}
	return i
}

// resolve finds the last commits of the instant. Errors: 400 when it is in the future, or of other partitions; *behindError when
// the rows or the archive are not that far.
func (i *instant) resolve(ctx context.Context, tx pgx.Tx, partitions []eventstore.Partition, stands map[eventstore.Partition]stand) error {
	i.places = nil
	for _, p := range partitions {
		place, err := i.placeIn(ctx, tx, p, stands[p])
		if err != nil {
			return err
		}
		i.places = append(i.places, eventstore.Position{Partition: p, Seq: place})
	}
	return nil
}

func (i *instant) placeIn(ctx context.Context, tx pgx.Tx, p eventstore.Partition, rows stand) (uint64, error) {
	at := i.time
	if i.positions == nil && at.After(time.Now()) && at.After(rows.time) {
		return 0, serve.Invalid(i.parameter, i.parameter+" is in the future.")
	}
	seq, archived, err := projections.PlaceAt(ctx, tx, p, at)
	if err != nil {
		return 0, err
	}
	if i.positions != nil {
		found := false
		for _, position := range i.positions {
			if position.Partition == p {
				seq, found = position.Seq, true
			}
		}
		if !found {
			return 0, serve.Invalid(i.parameter, i.parameter+" is a position that says nothing of this tenant.")
		}
	}
	switch {
	case seq > rows.seq:
		return 0, &behindError{least: eventstore.Position{Partition: p, Seq: seq}, lag: seq - rows.seq}
	// Up to where the rows are, the archive may have to say of a commit that it was later.
	case seq > archived, seq == archived && archived < rows.seq && i.positions == nil:
		return 0, &behindError{archive: true, least: eventstore.Position{Partition: p, Seq: max(seq, rows.seq)}, lag: max(seq, rows.seq) - archived}
	}
	return seq, nil
}

// begin makes the tables At of a transaction those of one tenant at the instant. Errors: 404 when there was no such tenant.
func (i *instant) begin(ctx context.Context, tx pgx.Tx, tenant domain.TenantID) (err error) {
	if i.version, err = projections.VersionAt(ctx, tx, tenant, i.places[0].Seq); err != nil {
		return err
	}
	if i.version == 0 {
		return serve.NewProblem(http.StatusNotFound, string(domain.TenantNotFound), "No such tenant at that time",
			fmt.Sprintf("There was no tenant %q then.", tenant))
	}
	return projections.AsOf(ctx, tx, tenant, i.version)
}

// beginAll makes the tables of all tenants those at the instant.
func (i *instant) beginAll(ctx context.Context, tx pgx.Tx) error {
	seqs := make([]uint64, len(i.places))
	for n, place := range i.places {
		seqs[n] = place.Seq
	}
	return projections.AsOfAll(ctx, tx, seqs)
}

// tables returns the tables of now, or those of the instant.
func (i *instant) tables(now, then string) string {
	if i == nil {
		return now
	}
	return then
}

const archiveEndsSelect = `SELECT p, (read.commit_at(p, '-infinity')).archived FROM generate_series(0, $1 - 1) AS p`

// archiveEnds returns where the archive of each partition ends.
func (a *API) archiveEnds(ctx context.Context) (map[eventstore.Partition]stand, error) {
	rows, err := a.db.Query(ctx, archiveEndsSelect, a.ledger.Partitions)
	if err != nil {
		return nil, err
	}
	ends := map[eventstore.Partition]stand{}
	var p eventstore.Partition
	var end stand
	_, err = pgx.ForEachRow(rows, []any{&p, &end.seq}, func() error { ends[p] = end; return nil })
	return ends, err
}
