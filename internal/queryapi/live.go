package queryapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// liveChange is api.LiveChange, and liveSnapshot api.LiveSnapshot, with the events as stored.
type (
	liveChange struct {
		projections.ChangedRows
		Position string `json:"position"`
	}
	liveSnapshot struct {
		Tenant     api.Tenant        `json:"tenant"`
		Licenses   []api.License     `json:"licenses"`
		Leases     []api.Lease       `json:"leases"`
		LeasesMore bool              `json:"leases_more"`
		Events     []jsontext.Value  `json:"events"`
		Names      map[string]string `json:"names"`
		Position   string            `json:"position"`
		Time       time.Time         `json:"time"`

		version uint64 // of the tenant
	}
)

const (
	// writeTimeout is how long a frame may take to get out. A reader that stands still longer is cut off.
	writeTimeout = 10 * time.Second
	// flushTimeout is how long a subscription may take to be known to the NATS server.
	flushTimeout = 2 * time.Second
)

// streamLive answers with server-sent events until the client goes or the server stops.
func (a *API) streamLive(w http.ResponseWriter, r *http.Request) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	// Subscribed first, and only then the rows are read: whatever changes between is among the changes.
	changes, err := a.hub.join(tenant)
	if err != nil {
		return fmt.Errorf("subscribe to the changes of a tenant: %w", err)
	}
	defer a.hub.leave(tenant, changes)
	connected := a.hub.nats.StatusChanged(nats.CONNECTED)
	defer a.hub.nats.RemoveStatusListener(connected)
	if err := a.hub.nats.FlushTimeout(flushTimeout); err != nil {
		// The rows are good without NATS; until it is back each ping brings them up to date.
		a.log.WarnContext(r.Context(), "live stream without changes", "error", err)
	}
	first, err := a.begin(r.Context(), tenant, r.Header.Get("Last-Event-ID"), changes)
	if err != nil {
		return err
	}
	changes.recent = nil
	a.metrics.streams.Inc()
	defer a.metrics.streams.Dec()
	s := stream{API: a, tenant: tenant, changes: changes, connected: connected, w: w, control: http.NewResponseController(w)}
	if err := s.run(r.Context(), first); err != nil && r.Context().Err() == nil {
		// The answer has begun: all that is left is to end it. The client connects again, and goes on.
		a.log.InfoContext(r.Context(), "live stream ended", "request_id", serve.RequestID(r.Context()), "error", err)
	}
	return nil
}

// beginning is what a stream begins with: a snapshot, or, for a client that has all up to a version, what came after that.
type beginning struct {
	snapshot *liveSnapshot // nil: it goes on
	version  uint64        // that the client has
	missed   []change
	position string // which the rows reflect
}

// begin decides what a stream begins with. Errors: 404 tenant_not_found.
func (a *API) begin(ctx context.Context, tenant domain.TenantID, lastEventID string, changes *reader) (b beginning, err error) {
	var known bool
	if b.version, known = a.lastSeen(tenant, lastEventID); known {
		var now uint64
		now, b.position, err = a.versionNow(ctx, tenant)
		if err != nil {
			return b, err
		}
		if b.version == now {
			a.metrics.resumed.WithLabelValues("nothing").Inc()
			return b, nil
		}
		missed, kept := changes.since(b.version)
		if kept && now > b.version && missed[len(missed)-1].version >= now {
			a.metrics.resumed.WithLabelValues("some").Inc()
			b.missed = missed
			return b, nil
		}
		a.metrics.resumed.WithLabelValues("too_much").Inc()
	}
	if b.snapshot, err = a.snapshot(ctx, tenant); err == nil {
		b.position = b.snapshot.Position
	}
	return b, err
}

// eventID is the id of a snapshot or a change: the position, and the version of the tenant, which says what comes next.
func eventID(position string, version uint64) string {
	return position + ":" + strconv.FormatUint(version, 10)
}

// lastSeen reads an eventID that a client sends back: false when it is none of this ledger and tenant, or promises nothing.
func (a *API) lastSeen(tenant domain.TenantID, id string) (uint64, bool) {
	position, text, _ := strings.Cut(id, ":")
	at, err := a.tokens.Parse(position)
	if err != nil || len(at) != 1 || at[0].Partition != a.ledger.PartitionOf(tenant) {
		return 0, false
	}
	version, err := strconv.ParseUint(text, 10, 64)
	return version, err == nil && version > 0
}

// versionNow returns the tenant's version in the rows and the position they reflect; version 0 while a read model is rebuilt.
// Errors: 404 tenant_not_found.
func (a *API) versionNow(ctx context.Context, tenant domain.TenantID) (version uint64, position string, err error) {
	partition := a.ledger.PartitionOf(tenant)
	err = a.readOnce(ctx, reading{
		partitions: []eventstore.Partition{partition},
		reflects:   func(now reflects) { position = now.Position },
		rows: func(ctx context.Context, tx pgx.Tx) error {
			err := tx.QueryRow(ctx, versionSelect, tenant).Scan(&version)
			if errors.Is(err, pgx.ErrNoRows) {
				return noTenant(tenant)
			}
			if err != nil {
				return err
			}
			var at time.Time
			var together bool
			err = tx.QueryRow(ctx, commitTimeSelect, a.ledger.ID, partition).Scan(&at, &together)
			if !together {
				version = 0
			}
			return err
		},
	})
	return version, position, err
}

// stream is one live stream.
type stream struct {
	*API
	tenant    domain.TenantID
	changes   *reader
	connected <-chan nats.Status
	w         http.ResponseWriter
	control   *http.ResponseController
	version   uint64 // of the tenant, that the client has
}

func (s *stream) run(ctx context.Context, first beginning) error {
	header := s.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	header.Set("Ledger-Position", first.position)
	if err := s.write([]byte("retry: 2000\n\n")); err != nil {
		return err
	}
	if err := s.first(first); err != nil {
		return err
	}
	pings := time.NewTicker(s.ping)
	defer pings.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-serve.Stopping(ctx):
			return nil
		case c := <-s.changes.changes:
			switch {
			case c.version <= s.version: // in the snapshot already
			case c.prevVersion != s.version:
				err = s.again(ctx, "gap")
			default:
				err = s.pass(c)
			}
		case <-s.changes.missed:
			err = s.again(ctx, "slow")
		case <-s.connected:
			err = s.again(ctx, "reconnect")
		case <-pings.C:
			err = s.check(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// first writes what the stream begins with, and a ping where that is nothing: the client is to hear that it is up to date.
func (s *stream) first(b beginning) error {
	if b.snapshot != nil {
		return s.writeSnapshot(b.snapshot, "start")
	}
	s.version = b.version
	for _, c := range b.missed {
		if err := s.pass(c); err != nil {
			return err
		}
	}
	return s.write(pingFrame)
}

// pass passes on the next change.
func (s *stream) pass(c change) error {
	s.version = c.version
	return s.write(c.frame)
}

// again sends a snapshot in place of what was or may have been missed.
func (s *stream) again(ctx context.Context, reason string) error {
	snapshot, err := s.snapshot(ctx, s.tenant)
	if err != nil {
		return err
	}
	return s.writeSnapshot(snapshot, reason)
}

const versionSelect = `SELECT version FROM read.tenants WHERE tenant_id = $1`

// check sends a ping, after it made sure that the client has what the rows have: the last change before a silence may
// have been lost, when the projector died just before it published.
func (s *stream) check(ctx context.Context) error {
	var version uint64
	if err := s.db.QueryRow(ctx, versionSelect, s.tenant).Scan(&version); err != nil {
		return err
	}
	if version != s.version {
		if err := s.again(ctx, "ping"); err != nil {
			return err
		}
	}
	return s.write(pingFrame)
}

var pingFrame = []byte("event: ping\ndata:\n\n")

func (s *stream) writeSnapshot(snapshot *liveSnapshot, reason string) error {
	frame, err := frameOf("snapshot", eventID(snapshot.Position, snapshot.version), snapshot)
	if err != nil {
		return err
	}
	s.version = snapshot.version
	s.metrics.snapshots.WithLabelValues(reason).Inc()
	return s.write(frame)
}

func (s *stream) write(frame []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.stalled)); err != nil {
		return err
	}
	if _, err := s.w.Write(frame); err != nil {
		return err
	}
	return s.control.Flush()
}

// frameOf returns a server-sent event.
func frameOf(event, id string, data any) ([]byte, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	var frame bytes.Buffer
	fmt.Fprintf(&frame, "id: %s\nevent: %s\ndata: %s\n\n", id, event, text)
	return frame.Bytes(), nil
}

// snapshotLeasesMax and snapshotEventsMax are the contract of LiveSnapshot.
const (
	snapshotLeasesMax = 200
	snapshotEventsMax = 50
)

const commitTimeSelect = `
	SELECT min(commit_time), min(seq) = max(seq) FROM read.checkpoints WHERE ledger_id = $1 AND partition = $2`

// snapshot reads what a live stream begins with. Errors: 404 tenant_not_found.
func (a *API) snapshot(ctx context.Context, tenant domain.TenantID) (*liveSnapshot, error) {
	s := &liveSnapshot{}
	partition := a.ledger.PartitionOf(tenant)
	err := a.readOnce(ctx, reading{
		partitions: []eventstore.Partition{partition},
		reflects:   func(now reflects) { s.Position = now.Position },
		rows: func(ctx context.Context, tx pgx.Tx) error {
			if err := readSnapshot(ctx, tx, tenant, s); err != nil {
				return err
			}
			var together bool
			if err := tx.QueryRow(ctx, commitTimeSelect, a.ledger.ID, partition).Scan(&s.Time, &together); err != nil {
				return err
			}
			if !together {
				// A read model is being rebuilt, and no change will tell of its rows: version 0 asks for a snapshot each time.
				s.version = 0
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	s.Time = s.Time.UTC()
	return s, nil
}

func readSnapshot(ctx context.Context, tx pgx.Tx, tenant domain.TenantID, s *liveSnapshot) (err error) {
	if s.Tenant, s.version, err = selectTenant(ctx, tx, tenant, nil); err != nil {
		return err
	}
	if s.Licenses, err = selectLicenses(ctx, tx, tenant, nil); err != nil {
		return err
	}
	if s.Leases, err = selectActiveLeases(ctx, tx, tenant, snapshotLeasesMax+1, nil); err != nil {
		return err
	}
	if len(s.Leases) > snapshotLeasesMax {
		s.Leases, s.LeasesMore = s.Leases[:snapshotLeasesMax], true
	}
	if s.Events, err = selectLatest(ctx, tx, tenant, snapshotEventsMax); err != nil {
		return err
	}
	s.Names, err = selectNames(ctx, tx, tenant, s.Events)
	return err
}
