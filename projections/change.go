package projections

import (
	"context"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// Change is what one batch changed for one tenant, as live readers are told. Licenses and leases are whole rows as after
// the batch. A license is listed, too, when only its queue changed.
type Change struct {
	ChangedRows
	Partition eventstore.Partition `json:"partition"`
	Seq       uint64               `json:"seq"` // of the last commit of the batch
	// PrevVersion is the tenant's version before the batch and Version the one after: a reader that stands elsewhere than
	// at PrevVersion missed something. Sequences can not tell that, because not every commit is about every tenant.
	PrevVersion uint64 `json:"prev_version"`
	Version     uint64 `json:"version"`
	// Renamed says that names are others now, or gone, also in rows and events that are not listed.
	Renamed bool `json:"renamed,omitzero"`
}

// ChangedRows is the part of a Change that is shown as it is.
type ChangedRows struct {
	Tenant   *api.Tenant   `json:"tenant,omitzero"` // nil when it did not change
	Licenses []api.License `json:"licenses"`
	Leases   []api.Lease   `json:"leases"`
	// LeasesMore says that more leases changed than are listed.
	LeasesMore bool             `json:"leases_more"`
	Events     []jsontext.Value `json:"events"` // the newest, as stored, oldest first; no heartbeats
	// Names is the text of the pseudonyms in Events, and Forgotten those that have none any more.
	Names     map[string]string `json:"names"`
	Forgotten []string          `json:"forgotten"`
	Time      time.Time         `json:"time"` // of the last commit
}

// The largest lists of a Change. They keep it far below the megabyte that a message may have.
const (
	ChangeLeasesMax = 200
	ChangeEventsMax = 50
)

// Publisher tells whoever listens to the tenant. A lost payload is found and made good by its readers.
type Publisher func(tenant domain.TenantID, payload []byte) error

// LiveSubject is where the changes of a tenant are published.
func LiveSubject(tenant domain.TenantID) string { return "live." + string(tenant) }

// NATSPublisher publishes to LiveSubject.
func NATSPublisher(nc *nats.Conn) Publisher {
	return func(tenant domain.TenantID, payload []byte) error { return nc.Publish(LiveSubject(tenant), payload) }
}

// changes collects the Changes of a batch: first what to look at, then, when the queued queries have run, the rows.
type changes struct {
	tenants  ordered[domain.TenantID, Change]
	own      ordered[domain.TenantID, struct{}] // tenants whose own row changed
	licenses ordered[licenseKey, struct{}]
	revoked  ordered[licenseKey, struct{}] // licenses all of whose leases ended at once
	leases   ordered[leaseKey, struct{}]
	names    ordered[nameKey, struct{}]
}

func changesOf(b *Batch) (*changes, error) {
	c := &changes{}
	last := b.Last()
	var renewed ordered[leaseKey, struct{}]
	for _, event := range b.Events() {
		t := c.tenants.at(event.Tenant)
		if t.Version == 0 {
			*t = Change{Partition: b.Partition, Seq: last.At.Seq, PrevVersion: event.Version - 1, ChangedRows: ChangedRows{
				Licenses: []api.License{}, Leases: []api.Lease{}, Events: []jsontext.Value{}, Names: map[string]string{}, Forgotten: []string{}, Time: last.Time,
			}}
		}
		t.Version = event.Version
		if e, ok := event.Data.(*domain.SeatHeartbeat); ok {
			for _, id := range e.Leases {
				renewed.at(leaseKey{event.Tenant, id})
			}
			continue
		}
		if _, ok := event.Data.(*domain.PersonForgotten); ok {
			t.Renamed = true
		}
		t.Events = append(t.Events, event.Raw)
		c.look(event.Tenant, event.Data)
	}
	// Leases that were only renewed come last: when the list is cut, they are what is left out.
	for key := range renewed.all() {
		c.leases.at(key)
	}
	for tenant, t := range c.tenants.all() {
		t.Events = t.Events[max(0, len(t.Events)-ChangeEventsMax):]
		pseudonyms, err := Pseudonyms(t.Events)
		if err != nil {
			return nil, err
		}
		for _, p := range pseudonyms {
			c.names.at(nameKey{tenant, p})
		}
	}
	return c, nil
}

// look notes the rows that an event changes, and the licenses whose queue it changes.
func (c *changes) look(tenant domain.TenantID, event domain.Event) {
	license := func(id domain.LicenseID) { c.licenses.at(licenseKey{tenant, id}) }
	lease := func(id domain.LeaseID) { c.leases.at(leaseKey{tenant, id}) }
	switch e := event.(type) {
	case *domain.TenantCreated, *domain.TenantRenamed, *domain.TenantSuspended, *domain.TenantReinstated:
		c.own.at(tenant)
	case *domain.LicenseIssued:
		license(e.License)
	case *domain.LicenseResized:
		license(e.License)
	case *domain.PolicyChanged:
		license(e.License)
	case *domain.LicenseRenewed:
		license(e.License)
	case *domain.TrialConverted:
		license(e.License)
	case *domain.LicenseSuspended:
		license(e.License)
	case *domain.LicenseReinstated:
		license(e.License)
	case *domain.LicenseTransferStarted:
		license(e.License)
	case *domain.LicenseTransferCancelled:
		license(e.License)
	case *domain.LicenseTransferCompleted:
		license(e.License)
	case *domain.LicenseRevoked:
		license(e.License)
		c.revoked.at(licenseKey{tenant, e.License})
	case *domain.SeatQueued: // the row is as before: it tells that the queue is not
		license(e.License)
	case *domain.SeatDequeued:
		license(e.License)
	case *domain.SeatAcquired:
		license(e.License)
		lease(e.Lease)
	case *domain.SeatRevived:
		license(e.License)
		for _, id := range e.Leases {
			lease(id)
		}
	case *domain.SeatEvicted:
		license(e.License)
		for _, id := range e.Leases {
			lease(id)
		}
	case *domain.SeatReleased:
		license(e.License)
		lease(e.Lease)
	case *domain.SeatExpired:
		license(e.License)
		lease(e.Lease)
	}
}

const changedTenants = `SELECT ` + TenantColumns + ` FROM read.tenants t WHERE t.tenant_id = ANY($1)`

const changedLicenses = `
	SELECT ` + LicenseColumns + `
	FROM unnest($1::text[], $2::text[]) AS c (tenant_id, license_id), ` + LicenseTables + `
	WHERE l.tenant_id = c.tenant_id AND l.license_id = c.license_id`

const changedLeases = `
	SELECT ` + LeaseColumns + `, l.tenant_id
	FROM unnest($1::text[], $2::text[]) AS c (tenant_id, lease_id), ` + LeaseTables + `
	WHERE l.tenant_id = c.tenant_id AND l.lease_id = c.lease_id`

// Of each license one more than may be listed, to see whether there are more.
const revokedLeases = `
	SELECT r.*
	FROM unnest($1::text[], $2::text[]) AS c (tenant_id, license_id), LATERAL (
		SELECT ` + LeaseColumns + `, l.tenant_id
		FROM ` + LeaseTables + `
		WHERE l.tenant_id = c.tenant_id AND l.license_id = c.license_id AND l.state IN ('revoked', 'transferred')
		ORDER BY l.fence DESC LIMIT $3) AS r`

const changedNames = `
	SELECT d.tenant_id, d.pseudonym, d.text
	FROM unnest($1::text[], $2::text[]) AS c (tenant_id, pseudonym), read.directory d
	WHERE d.tenant_id = c.tenant_id AND d.pseudonym = c.pseudonym`

// queue asks for the rows, behind the statements that write them.
func (c *changes) queue(q *pgx.Batch) {
	if len(c.own.keys) > 0 {
		q.Queue(changedTenants, c.own.keys).Query(func(rows pgx.Rows) error {
			return eachRow(rows, func(row pgx.CollectableRow) error {
				t, err := ScanTenant(row)
				c.tenants.at(domain.TenantID(t.Id)).Tenant = &t
				return err
			})
		})
	}
	if len(c.licenses.keys) > 0 {
		tenants, ids := columnsOf(c.licenses.keys, func(k licenseKey) (string, string) { return string(k.tenant), string(k.license) })
		q.Queue(changedLicenses, tenants, ids).Query(func(rows pgx.Rows) error {
			return eachRow(rows, func(row pgx.CollectableRow) error {
				l, err := ScanLicense(row)
				t := c.tenants.at(domain.TenantID(l.Tenant))
				t.Licenses = append(t.Licenses, l)
				return err
			})
		})
	}
	if keys := c.listedLeases(); len(keys) > 0 {
		tenants, ids := columnsOf(keys, func(k leaseKey) (string, string) { return string(k.tenant), string(k.lease) })
		q.Queue(changedLeases, tenants, ids).Query(c.addLeases)
	}
	if len(c.revoked.keys) > 0 {
		tenants, ids := columnsOf(c.revoked.keys, func(k licenseKey) (string, string) { return string(k.tenant), string(k.license) })
		q.Queue(revokedLeases, tenants, ids, ChangeLeasesMax+1).Query(c.addLeases)
	}
	if len(c.names.keys) > 0 {
		tenants, ids := columnsOf(c.names.keys, func(k nameKey) (string, string) { return string(k.tenant), string(k.pseudonym) })
		q.Queue(changedNames, tenants, ids).Query(func(rows pgx.Rows) error {
			return eachRow(rows, func(row pgx.CollectableRow) error {
				var tenant domain.TenantID
				var pseudonym, text string
				err := row.Scan(&tenant, &pseudonym, &text)
				c.tenants.at(tenant).Names[pseudonym] = text
				return err
			})
		})
	}
}

// listedLeases returns the first leases of each tenant; of a tenant with more it notes that.
func (c *changes) listedLeases() []leaseKey {
	counts := map[domain.TenantID]int{}
	var listed []leaseKey
	for _, key := range c.leases.keys {
		if counts[key.tenant] == ChangeLeasesMax {
			c.tenants.at(key.tenant).LeasesMore = true
			continue
		}
		counts[key.tenant]++
		listed = append(listed, key)
	}
	return listed
}

func (c *changes) addLeases(rows pgx.Rows) error {
	return eachRow(rows, func(row pgx.CollectableRow) error {
		var tenant domain.TenantID
		l, err := ScanLease(row, &tenant)
		if err != nil {
			return err
		}
		t := c.tenants.at(tenant)
		switch {
		case slices.ContainsFunc(t.Leases, func(known api.Lease) bool { return known.Id == l.Id }):
		case len(t.Leases) == ChangeLeasesMax:
			t.LeasesMore = true
		default:
			t.Leases = append(t.Leases, l)
		}
		return nil
	})
}

func eachRow(rows pgx.Rows, f func(pgx.CollectableRow) error) error {
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func columnsOf[K any](keys []K, split func(K) (string, string)) (first, second []string) {
	for _, key := range keys {
		a, b := split(key)
		first, second = append(first, a), append(second, b)
	}
	return first, second
}

// publishAll tells of the batch, which is committed. What gets lost here, by an error or a crash, live readers notice.
func (r *Runner) publishAll(ctx context.Context, c *changes) {
	for key := range c.names.all() {
		t := c.tenants.at(key.tenant)
		if _, known := t.Names[string(key.pseudonym)]; !known {
			t.Forgotten = append(t.Forgotten, string(key.pseudonym))
		}
	}
	for tenant, change := range c.tenants.all() {
		payload, err := json.Marshal(change)
		if err == nil {
			err = r.publish(tenant, payload)
		}
		if err != nil {
			r.metrics.unpublished.Inc()
			r.log.WarnContext(ctx, "live change not published", "partition", change.Partition, "seq", change.Seq, "error", err)
		}
	}
}
