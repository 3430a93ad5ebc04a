package projections

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
)

// usage keeps read.usage_…: seats in use, seat-seconds, acquires and denials, of tenants and licenses by minute, hour and day, of users,
// machines and features by hour.
//
// A batch takes three steps in one transaction: read what the batch is about, read who holds it, write. In between the
// events are folded as they come, so that a peak is exact: the number of seats after each event is looked at.
type usage struct{}

// Name implements Projection.
func (usage) Name() string { return "usage" }

// Apply implements Projection.
func (usage) Apply(b *Batch, q *pgx.Batch) error {
	f := newUsageFold(b)
	if len(f.accounts) == 0 {
		return nil // nothing but heartbeats
	}
	f.queueState(q)
	b.Then(func(q *pgx.Batch) error {
		f.queueHolders(q, b)
		b.Then(func(q *pgx.Batch) error {
			if err := f.fold(b); err != nil {
				return fmt.Errorf("usage: %w: the rows are not what the journal before says; rebuild them", err)
			}
			f.queueRows(q)
			return nil
		})
		return nil
	})
	return nil
}

// usageLengths are the lengths of the buckets, in milliseconds. Each divides the next, and the day divides the epoch: a
// bucket begins where its length divides the Unix time.
var usageLengths = [...]int64{60_000, hourMillis, dayMillis}

const (
	hourMillis = 3_600_000
	dayMillis  = 86_400_000
)

// usageTables are where the buckets of usageLengths are.
var usageTables = [len(usageLengths)]string{"read.usage_minutes", "read.usage_hours", "read.usage_days"}

// usageBucket is a row of one of usageTables, or of read.usage_holders, which has less. Times are Unix milliseconds.
type usageBucket struct {
	start, at                     int64
	seatsMin, seatsMax, seatsLast int
	seatMillis                    int64
	overMax, overLast             int
	overMillis                    int64
	seats                         int
	acquires                      int
	denials                       map[string]int
	touched                       bool // by this batch
}

// moved returns the bucket with a time, b or a new one, brought to that time: what was so before goes on until then. Before the first
// bucket nothing was in use.
func (b *usageBucket) moved(at, length int64) *usageBucket {
	start := at - at%length
	if b != nil && b.start == start {
		b.seatMillis += int64(b.seatsLast) * (at - b.at)
		b.overMillis += int64(b.overLast) * (at - b.at)
		b.at = at
		return b
	}
	next := &usageBucket{start: start, at: at, seatsMin: -1}
	if b != nil {
		next.seatsLast, next.overLast, next.seats = b.seatsLast, b.overLast, b.seats
		next.seatMillis, next.overMillis = int64(b.seatsLast)*(at-start), int64(b.overLast)*(at-start)
	}
	if at > start { // otherwise what was before is not in this bucket: it ended as the bucket began
		next.look()
	}
	return next
}

// look takes the present numbers into the extremes.
func (b *usageBucket) look() {
	if b.seatsMin < 0 {
		b.seatsMin, b.seatsMax, b.overMax = b.seatsLast, b.seatsLast, b.overLast
	}
	b.seatsMin, b.seatsMax = min(b.seatsMin, b.seatsLast), max(b.seatsMax, b.seatsLast)
	b.overMax = max(b.overMax, b.overLast)
}

// usageAccount is what is counted of a license, or of a tenant as a whole.
type usageAccount struct {
	newest [len(usageLengths)]*usageBucket // nil before the first event
	rows   [len(usageLengths)][]*usageBucket
}

// in returns the newest buckets, moved on to a time.
func (a *usageAccount) in(at int64) [len(usageLengths)]*usageBucket {
	for i, length := range usageLengths {
		b := a.newest[i].moved(at, length)
		if a.newest[i] = b; !b.touched {
			b.touched = true
			a.rows[i] = append(a.rows[i], b)
		}
	}
	return a.newest
}

// usageHolderKey names a user, a machine or a feature of a license.
type usageHolderKey struct {
	licenseKey
	by, key string
}

// usageHolder is what is counted of a user, a machine or a feature.
type usageHolder struct {
	newest *usageBucket // an hour; nil before the first event
	rows   []*usageBucket
}

// in returns the newest hour, moved on to a time. The days in between that began with a seat get a row of their first hour now:
// who held what on a day is then in the rows of that day, but for those who hold it still.
func (h *usageHolder) in(at int64) *usageBucket {
	if was := h.newest; was != nil && was.seatsLast > 0 {
		for day := was.start - was.start%dayMillis + dayMillis; day < at-at%hourMillis; day += dayMillis {
			h.rows = append(h.rows, &usageBucket{start: day, at: was.at, seatsMin: was.seatsLast, seatsMax: was.seatsLast, seatsLast: was.seatsLast})
		}
	}
	b := h.newest.moved(at, hourMillis)
	if h.newest = b; !b.touched {
		b.touched = true
		h.rows = append(h.rows, b)
	}
	return b
}

// usageLicense is what takes a seat of a license, and the leases in each seat.
type usageLicense struct {
	seatPer domain.SeatPer
	seats   map[string]map[domain.LeaseID]*usageLease
	was     domain.SeatPer // in the rows
	stored  bool           // there is a row
}

// usageLease is an active lease.
type usageLease struct {
	licenseKey
	id       domain.LeaseID
	holder   domain.Holder
	features []string
	stored   bool   // there is a row
	was      string // its seat in the row
	active   bool
}

// keys calls f for each user, machine and feature of the lease.
func (l *usageLease) keys(f func(by, key string)) {
	f(byUser, string(l.holder.User))
	f(byMachine, string(l.holder.Machine))
	for _, feature := range l.features {
		f(byFeature, feature)
	}
}

// What usage is counted by, beside licenses.
const (
	byUser    = "user"
	byMachine = "machine"
	byFeature = "feature"
)

// usageFold brings the rows that a batch is about from before it to after it.
type usageFold struct {
	accounts map[licenseKey]*usageAccount // of the tenant as a whole under the license ""
	licenses map[licenseKey]*usageLicense
	leases   map[licenseLease]*usageLease
	holders  map[usageHolderKey]*usageHolder
	moved    []*usageHolder // by the event that is folded

	// In the order of the events, so that the same batch gives the same SQL.
	accountKeys []licenseKey
	holderKeys  []usageHolderKey
	leaseKeys   []licenseLease
	// What has to be read.
	named, revived []licenseLease
	whole          []licenseKey // licenses of which all active leases are concerned
}

// licenseLease names a lease of a license.
type licenseLease struct {
	licenseKey
	lease domain.LeaseID
}

// newUsageFold notes what the events of a batch are about.
func newUsageFold(b *Batch) *usageFold {
	f := &usageFold{
		accounts: map[licenseKey]*usageAccount{}, licenses: map[licenseKey]*usageLicense{},
		leases: map[licenseLease]*usageLease{}, holders: map[usageHolderKey]*usageHolder{},
	}
	begun := map[licenseLease]bool{}
	for _, event := range b.Events() {
		if _, ok := event.Data.(*domain.TenantCreated); ok {
			f.account(licenseKey{tenant: event.Tenant})
		}
		id, concerned := usageOf(event.Data)
		if !concerned {
			continue
		}
		license := licenseKey{event.Tenant, id}
		f.account(licenseKey{tenant: event.Tenant})
		f.account(license)
		switch e := event.Data.(type) {
		case *domain.SeatAcquired:
			begun[licenseLease{license, e.Lease}] = true
		case *domain.SeatRevived:
			for _, lease := range e.Leases {
				if of := (licenseLease{license, lease}); !begun[of] {
					begun[of] = true
					f.revived = append(f.revived, of)
				}
			}
		case *domain.SeatReleased, *domain.SeatExpired, *domain.SeatEvicted:
			for _, lease := range endedLeases(e) {
				if of := (licenseLease{license, lease}); !begun[of] {
					begun[of] = true
					f.named = append(f.named, of)
				}
			}
		case *domain.LicenseRevoked:
			f.whole = append(f.whole, license)
		case *domain.PolicyChanged:
			if e.Policy.SeatPer != e.Was.SeatPer {
				f.whole = append(f.whole, license)
			}
		case *domain.SeatDenied:
			f.holder(license, byUser, string(e.User))
			f.holder(license, byMachine, string(e.Machine))
			if e.Feature != "" {
				f.holder(license, byFeature, clean(e.Feature))
			}
		}
	}
	return f
}

// usageOf returns the license whose usage an event changes; false when it changes none.
func usageOf(event domain.Event) (domain.LicenseID, bool) {
	switch e := event.(type) {
	case *domain.LicenseIssued:
		return e.License, true
	case *domain.LicenseResized:
		return e.License, true
	case *domain.LicenseRevoked:
		return e.License, true
	case *domain.PolicyChanged:
		return e.License, true
	case *domain.SeatAcquired:
		return e.License, true
	case *domain.SeatRevived:
		return e.License, true
	case *domain.SeatEvicted:
		return e.License, true
	case *domain.SeatReleased:
		return e.License, true
	case *domain.SeatExpired:
		return e.License, true
	case *domain.SeatDenied:
		return e.License, true
	}
	return "", false
}

// endedLeases returns the leases that an event ends by name.
func endedLeases(event domain.Event) []domain.LeaseID {
	switch e := event.(type) {
	case *domain.SeatEvicted:
		return e.Leases
	case *domain.SeatReleased:
		return []domain.LeaseID{e.Lease}
	case *domain.SeatExpired:
		return []domain.LeaseID{e.Lease}
	}
	return nil
}

func (f *usageFold) account(key licenseKey) *usageAccount {
	if f.accounts[key] == nil {
		f.accounts[key] = &usageAccount{}
		f.accountKeys = append(f.accountKeys, key)
	}
	return f.accounts[key]
}

func (f *usageFold) holder(license licenseKey, by, key string) *usageHolder {
	of := usageHolderKey{license, by, key}
	if f.holders[of] == nil {
		f.holders[of] = &usageHolder{}
		f.holderKeys = append(f.holderKeys, of)
	}
	return f.holders[of]
}

// hour returns the hour of a user, a machine or a feature at a time. When the event was folded it is looked at.
func (f *usageFold) hour(license licenseKey, by, key string, at int64) *usageBucket {
	h := f.holder(license, by, key)
	f.moved = append(f.moved, h)
	return h.in(at)
}

func (f *usageFold) license(key licenseKey) *usageLicense {
	if f.licenses[key] == nil {
		f.licenses[key] = &usageLicense{seats: map[string]map[domain.LeaseID]*usageLease{}}
	}
	return f.licenses[key]
}

// fold applies the events.
func (f *usageFold) fold(b *Batch) error {
	for _, event := range b.Events() {
		at := event.Time.UnixMilli()
		tenant := licenseKey{tenant: event.Tenant}
		if _, ok := event.Data.(*domain.TenantCreated); ok {
			for _, bucket := range f.account(tenant).in(at) {
				bucket.look()
			}
		}
		id, concerned := usageOf(event.Data)
		if !concerned {
			continue
		}
		key := licenseKey{event.Tenant, id}
		now, all := f.account(key).in(at), f.account(tenant).in(at)
		inUse, seats, acquires := now[0].seatsLast, now[0].seats, 0
		license := f.license(key)
		denied := ""
		switch e := event.Data.(type) {
		case *domain.LicenseIssued:
			license.seatPer, seats = e.SeatPer, e.Seats
		case *domain.LicenseResized:
			seats = e.Seats
		case *domain.PolicyChanged:
			if e.Policy.SeatPer != license.seatPer {
				inUse += f.reseat(key, e.Policy.SeatPer, at)
			}
		case *domain.LicenseRevoked:
			seats = 0
			for _, lease := range f.activeOf(key) {
				inUse += f.leave(lease, at)
			}
		case *domain.SeatAcquired:
			if !e.Arrived() {
				acquires = 1
			}
			lease := f.lease(licenseLease{key, e.Lease})
			lease.holder, lease.features = e.Holder, featuresOf(e)
			inUse += f.enter(lease, at)
			lease.keys(func(by, of string) { f.hour(key, by, of, at).acquires += acquires })
		case *domain.SeatRevived:
			for _, id := range e.Leases {
				lease := f.leases[licenseLease{key, id}]
				if lease == nil {
					return fmt.Errorf("lease %s of %s is revived, but not known", id, key.tenant)
				}
				inUse += f.enter(lease, at)
			}
		case *domain.SeatEvicted, *domain.SeatReleased, *domain.SeatExpired:
			for _, id := range endedLeases(e) {
				lease := f.leases[licenseLease{key, id}]
				if lease == nil || !lease.active {
					return fmt.Errorf("lease %s of %s ends, but is not active", id, key.tenant)
				}
				inUse += f.leave(lease, at)
			}
		case *domain.SeatDenied:
			denied = clean(string(e.Reason))
			count := max(1, e.Count)
			for _, bucket := range append(now[:], all[:]...) {
				deny(&bucket.denials, denied, count)
			}
			deny(&f.hour(key, byUser, string(e.User), at).denials, denied, count)
			deny(&f.hour(key, byMachine, string(e.Machine), at).denials, denied, count)
			if e.Feature != "" {
				deny(&f.hour(key, byFeature, clean(e.Feature), at).denials, denied, count)
			}
		}
		over := max(0, inUse-seats)
		for i, bucket := range now {
			all[i].seatsLast += inUse - bucket.seatsLast
			all[i].overLast += over - bucket.overLast
			all[i].seats += seats - bucket.seats
			all[i].acquires += acquires
			bucket.seatsLast, bucket.overLast, bucket.seats = inUse, over, seats
			bucket.acquires += acquires
			bucket.look()
			all[i].look()
		}
		for _, h := range f.moved {
			h.newest.look()
		}
		f.moved = f.moved[:0]
	}
	return nil
}

func deny(denials *map[string]int, reason string, count int) {
	if *denials == nil {
		*denials = map[string]int{}
	}
	(*denials)[reason] += count
}

// lease returns a lease, new when there was none.
func (f *usageFold) lease(of licenseLease) *usageLease {
	if f.leases[of] == nil {
		f.leases[of] = &usageLease{licenseKey: of.licenseKey, id: of.lease}
		f.leaseKeys = append(f.leaseKeys, of)
	}
	return f.leases[of]
}

// activeOf returns the active leases of a license, in the order in which they were first named. All of them were read.
func (f *usageFold) activeOf(license licenseKey) []*usageLease {
	var active []*usageLease
	for _, of := range f.leaseKeys {
		if lease := f.leases[of]; of.licenseKey == license && lease.active {
			active = append(active, lease)
		}
	}
	return active
}

// enter makes a lease active and returns how many more seats are in use: 1, or 0 when others are in its seat.
func (f *usageFold) enter(lease *usageLease, at int64) int {
	license := f.license(lease.licenseKey)
	seat := license.seatPer.Seat(lease.id, lease.holder)
	others := license.seats[seat]
	if others == nil {
		others = map[domain.LeaseID]*usageLease{}
		license.seats[seat] = others
	}
	lease.keys(func(by, key string) {
		if !takesPart(others, by, key) {
			f.hour(lease.licenseKey, by, key, at).seatsLast++
		}
	})
	lease.active = true
	others[lease.id] = lease
	if len(others) == 1 {
		return 1
	}
	return 0
}

// leave ends a lease and returns how many more seats are in use: -1, or 0 when others are in its seat.
func (f *usageFold) leave(lease *usageLease, at int64) int {
	license := f.license(lease.licenseKey)
	seat := license.seatPer.Seat(lease.id, lease.holder)
	others := license.seats[seat]
	delete(others, lease.id)
	lease.active = false
	lease.keys(func(by, key string) {
		if !takesPart(others, by, key) {
			f.hour(lease.licenseKey, by, key, at).seatsLast--
		}
	})
	if len(others) == 0 {
		delete(license.seats, seat)
		return -1
	}
	return 0
}

// takesPart reports whether a user, machine or feature has one of the leases.
func takesPart(leases map[domain.LeaseID]*usageLease, by, key string) (found bool) {
	for _, lease := range leases {
		lease.keys(func(otherBy, other string) { found = found || by == otherBy && key == other })
	}
	return found
}

// reseat changes what takes a seat and returns how many more seats are in use.
func (f *usageFold) reseat(key licenseKey, to domain.SeatPer, at int64) (more int) {
	active := f.activeOf(key)
	for _, lease := range active {
		more += f.leave(lease, at)
	}
	f.license(key).seatPer = to
	for _, lease := range active {
		more += f.enter(lease, at)
	}
	return more
}

const usageLicensesSelect = `
	SELECT tenant_id, license_id, seat_per
	FROM unnest($1::text[], $2::text[]) AS c (tenant_id, license_id) JOIN read.usage_licenses USING (tenant_id, license_id)`

// usageBucketSelect finds the newest bucket of each account.
const usageBucketSelect = `
	SELECT c.tenant_id, c.license_id, b.start, b.at, b.seats_min, b.seats_max, b.seats_last, b.seat_ms, b.over_max, b.over_last, b.over_ms,
		b.seats, b.acquires, b.denials
	FROM unnest($1::text[], $2::text[]) AS c (tenant_id, license_id), LATERAL (
		SELECT * FROM %s u WHERE u.tenant_id = c.tenant_id AND u.license_id = c.license_id
		ORDER BY u.start DESC LIMIT 1) AS b`

const usageLeaseColumns = `l.tenant_id, l.license_id, l.lease_id, l."user", l.machine, l.features, l.seat`

const usageLeasesSelect = `
	SELECT ` + usageLeaseColumns + `
	FROM unnest($1::text[], $2::text[], $3::text[]) AS c (tenant_id, license_id, lease_id)
		JOIN read.usage_leases l USING (tenant_id, license_id, lease_id)
	UNION
	SELECT ` + usageLeaseColumns + `
	FROM unnest($4::text[], $5::text[]) AS c (tenant_id, license_id) JOIN read.usage_leases l USING (tenant_id, license_id)`

// A lease that is revived has no row here any more. That of read.leases is here already, or further on.
const usageRevivedSelect = `
	SELECT l.tenant_id, l.license_id, l.lease_id, l."user", l.machine, ARRAY(SELECT jsonb_array_elements_text(l.features))
	FROM unnest($1::text[], $2::text[]) AS c (tenant_id, lease_id) JOIN read.leases l USING (tenant_id, lease_id)`

// queueState queues the reading of accounts, licenses, and the leases that the events name.
func (f *usageFold) queueState(q *pgx.Batch) {
	tenants, licenses := licenseColumns(f.accountKeys)
	var key licenseKey
	var seatPer domain.SeatPer
	q.Queue(usageLicensesSelect, tenants, licenses).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&key.tenant, &key.license, &seatPer}, func() error {
			l := f.license(key)
			l.seatPer, l.was, l.stored = seatPer, seatPer, true
			return nil
		})
		return err
	})
	for i, table := range usageTables {
		q.Queue(fmt.Sprintf(usageBucketSelect, table), tenants, licenses).Query(func(rows pgx.Rows) error {
			var b usageBucket
			var start, at time.Time
			into := []any{
				&key.tenant, &key.license, &start, &at, &b.seatsMin, &b.seatsMax, &b.seatsLast, &b.seatMillis, &b.overMax, &b.overLast, &b.overMillis,
				&b.seats, &b.acquires, &b.denials,
			}
			_, err := pgx.ForEachRow(rows, into, func() error {
				read := b
				read.start, read.at = start.UnixMilli(), at.UnixMilli()
				f.account(key).newest[i] = &read
				b.denials = nil // the next row must not share the map
				return nil
			})
			return err
		})
	}
	if len(f.named)+len(f.whole) > 0 {
		tenants, licenses, leases := leaseColumns(f.named)
		allTenants, allLicenses := licenseColumns(f.whole)
		q.Queue(usageLeasesSelect, tenants, licenses, leases, allTenants, allLicenses).Query(f.readLeases)
	}
	if len(f.revived) > 0 {
		tenants, _, leases := leaseColumns(f.revived)
		q.Queue(usageRevivedSelect, tenants, leases).Query(func(rows pgx.Rows) error {
			var l usageLease
			var features []string
			into := []any{&l.tenant, &l.license, &l.id, &l.holder.User, &l.holder.Machine, &features}
			_, err := pgx.ForEachRow(rows, into, func() error {
				read := f.lease(licenseLease{l.licenseKey, l.id})
				read.holder, read.features = l.holder, features
				features = nil
				return nil
			})
			return err
		})
	}
}

// readLeases takes rows of usageLeaseColumns.
func (f *usageFold) readLeases(rows pgx.Rows) error {
	var l usageLease
	var seat *string
	_, err := pgx.ForEachRow(rows, []any{&l.tenant, &l.license, &l.id, &l.holder.User, &l.holder.Machine, &l.features, &seat}, func() error {
		read := f.lease(licenseLease{l.licenseKey, l.id})
		read.holder, read.features, read.stored, read.active = l.holder, l.features, true, true
		if l.features = nil; seat != nil {
			read.was = *seat
		}
		license := f.license(l.licenseKey)
		in := license.seatPer.Seat(l.id, l.holder)
		if license.seats[in] == nil {
			license.seats[in] = map[domain.LeaseID]*usageLease{}
		}
		license.seats[in][l.id] = read
		return nil
	})
	return err
}

const usageSharersSelect = `
	SELECT ` + usageLeaseColumns + `
	FROM unnest($1::text[], $2::text[], $3::text[]) AS c (tenant_id, license_id, seat)
		JOIN read.usage_leases l USING (tenant_id, license_id, seat)`

// usageHoldersSelect finds the newest hour of each holder: the last row of the primary key before the end of its hours. Asked for in the
// order of that key, because while a table is new and its statistics are not there, one of another index is read from end to end.
const usageHoldersSelect = `
	SELECT c.tenant_id, c.license_id, c.by, c.key, h.start, h.at, h.seats_min, h.seats_max, h.seats_last, h.seat_ms, h.acquires, h.denials
	FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS c (tenant_id, license_id, by, key), LATERAL (
		SELECT * FROM read.usage_holders u
		WHERE (u.tenant_id, u.by, u.license_id, u.key, u.start) <= (c.tenant_id, c.by, c.license_id, c.key, 'infinity')
		ORDER BY u.tenant_id DESC, u.by DESC, u.license_id DESC, u.key DESC, u.start DESC LIMIT 1) AS h
	WHERE h.tenant_id = c.tenant_id AND h.by = c.by AND h.license_id = c.license_id AND h.key = c.key`

// queueHolders queues the reading of who else is in the seats that the batch is about, and of the newest hour of each
// holder.
func (f *usageFold) queueHolders(q *pgx.Batch, b *Batch) {
	for _, event := range b.Events() {
		if e, ok := event.Data.(*domain.SeatAcquired); ok {
			lease := f.lease(licenseLease{licenseKey{event.Tenant, e.License}, e.Lease})
			lease.holder, lease.features = e.Holder, featuresOf(e)
		}
	}
	var tenants, licenses, seats []string
	for _, of := range f.leaseKeys {
		lease := f.leases[of]
		lease.keys(func(by, key string) { f.holder(of.licenseKey, by, key) })
		if l := f.licenses[of.licenseKey]; l != nil && l.seatPer != domain.SeatPerProcess {
			tenants, licenses = append(tenants, string(of.tenant)), append(licenses, string(of.license))
			seats = append(seats, l.seatPer.Seat(of.lease, lease.holder))
		}
	}
	if len(seats) > 0 {
		q.Queue(usageSharersSelect, tenants, licenses, seats).Query(f.readLeases)
	}
	if len(f.holderKeys) == 0 {
		return
	}
	var columns [4][]string
	for _, key := range f.holderKeys {
		for i, text := range []string{string(key.tenant), string(key.license), key.by, key.key} {
			columns[i] = append(columns[i], text)
		}
	}
	q.Queue(usageHoldersSelect, columns[0], columns[1], columns[2], columns[3]).Query(func(rows pgx.Rows) error {
		var key usageHolderKey
		var b usageBucket
		var start, at time.Time
		into := []any{
			&key.tenant, &key.license, &key.by, &key.key, &start, &at, &b.seatsMin, &b.seatsMax, &b.seatsLast, &b.seatMillis, &b.acquires, &b.denials,
		}
		_, err := pgx.ForEachRow(rows, into, func() error {
			read := b
			read.start, read.at = start.UnixMilli(), at.UnixMilli()
			f.holder(key.licenseKey, key.by, key.key).newest = &read
			b.denials = nil
			return nil
		})
		return err
	})
}

const usageLicensesUpsert = `
	INSERT INTO read.usage_licenses (tenant_id, license_id, seat_per)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
	ON CONFLICT (tenant_id, license_id) DO UPDATE SET seat_per = excluded.seat_per`

const usageLeasesDelete = `
	DELETE FROM read.usage_leases l
	USING unnest($1::text[], $2::text[], $3::text[]) AS c (tenant_id, license_id, lease_id)
	WHERE l.tenant_id = c.tenant_id AND l.license_id = c.license_id AND l.lease_id = c.lease_id`

// Features come as JSON: arrays of arrays would have to be of one length.
const usageLeasesUpsert = `
	INSERT INTO read.usage_leases (tenant_id, license_id, lease_id, "user", machine, features, seat)
	SELECT tenant_id, license_id, lease_id, "user", machine, ARRAY(SELECT jsonb_array_elements_text(features)), seat
	FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::text[])
		AS c (tenant_id, license_id, lease_id, "user", machine, features, seat)
	ON CONFLICT (tenant_id, license_id, lease_id) DO UPDATE SET seat = excluded.seat`

// usageBucketsUpsert writes whole rows: a row that was there was read before.
const usageBucketsUpsert = `
	INSERT INTO %s (tenant_id, license_id, start, at, seats_min, seats_max, seats_last, seat_ms, over_max, over_last, over_ms,
		seats, acquires, denials)
	SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::int[], $6::int[], $7::int[], $8::bigint[],
		$9::int[], $10::int[], $11::bigint[], $12::int[], $13::int[], $14::jsonb[])
	ON CONFLICT (tenant_id, license_id, start) DO UPDATE SET at = excluded.at, seats_min = excluded.seats_min,
		seats_max = excluded.seats_max, seats_last = excluded.seats_last, seat_ms = excluded.seat_ms, over_max = excluded.over_max,
		over_last = excluded.over_last, over_ms = excluded.over_ms, seats = excluded.seats, acquires = excluded.acquires,
		denials = excluded.denials`

const usageHoldersUpsert = `
	INSERT INTO read.usage_holders (tenant_id, license_id, by, key, start, at, seats_min, seats_max, seats_last, seat_ms, acquires, denials)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::int[], $8::int[], $9::int[],
		$10::bigint[], $11::int[], $12::jsonb[])
	ON CONFLICT (tenant_id, by, license_id, key, start) DO UPDATE SET at = excluded.at, seats_min = excluded.seats_min,
		seats_max = excluded.seats_max, seats_last = excluded.seats_last, seat_ms = excluded.seat_ms, acquires = excluded.acquires, denials = excluded.denials`

// queueRows queues what the batch changed.
func (f *usageFold) queueRows(q *pgx.Batch) {
	f.queueLicenses(q)
	f.queueLeases(q)
	for i, table := range usageTables {
		f.queueBuckets(q, i, table)
	}
	f.queueHours(q)
}

func (f *usageFold) queueLicenses(q *pgx.Batch) {
	var tenants, licenses, seatPers []string
	for _, key := range f.accountKeys {
		if l := f.licenses[key]; l != nil && key.license != "" && (!l.stored || l.was != l.seatPer) {
			tenants, licenses = append(tenants, string(key.tenant)), append(licenses, string(key.license))
			seatPers = append(seatPers, string(l.seatPer))
		}
	}
	change(q, "usage licenses", len(tenants), usageLicensesUpsert, tenants, licenses, seatPers)
}

func (f *usageFold) queueLeases(q *pgx.Batch) {
	var ended []licenseLease
	var kept []licenseLease
	var users, machines []string
	var features [][]string
	var seats []*string
	for _, of := range f.leaseKeys {
		lease := f.leases[of]
		if !lease.active {
			if lease.stored {
				ended = append(ended, of)
			}
			continue
		}
		var seat *string
		is := ""
		if l := f.license(of.licenseKey); l.seatPer != domain.SeatPerProcess {
			is = l.seatPer.Seat(of.lease, lease.holder)
			seat = &is
		}
		if lease.stored && lease.was == is {
			continue
		}
		kept = append(kept, of)
		users, machines = append(users, string(lease.holder.User)), append(machines, string(lease.holder.Machine))
		features, seats = append(features, lease.features), append(seats, seat)
	}
	tenants, licenses, leases := leaseColumns(ended)
	change(q, "usage leases ended", len(ended), usageLeasesDelete, tenants, licenses, leases)
	tenants, licenses, leases = leaseColumns(kept)
	change(q, "usage leases", len(kept), usageLeasesUpsert, tenants, licenses, leases, users, machines, jsonEach(features), seats)
}

func (f *usageFold) queueBuckets(q *pgx.Batch, level int, table string) {
	var tenants, licenses []string
	var starts, ats []time.Time
	var mins, maxes, lasts, overMaxes, overLasts, seats, acquires []int
	var millis, overMillis []int64
	var denials []map[string]int
	for _, key := range f.accountKeys {
		for _, b := range f.accounts[key].rows[level] {
			tenants, licenses = append(tenants, string(key.tenant)), append(licenses, string(key.license))
			starts, ats = append(starts, time.UnixMilli(b.start)), append(ats, time.UnixMilli(b.at))
			mins, maxes, lasts = append(mins, b.seatsMin), append(maxes, b.seatsMax), append(lasts, b.seatsLast)
			overMaxes, overLasts = append(overMaxes, b.overMax), append(overLasts, b.overLast)
			millis, overMillis = append(millis, b.seatMillis), append(overMillis, b.overMillis)
			seats, acquires, denials = append(seats, b.seats), append(acquires, b.acquires), append(denials, b.denials)
		}
	}
	change(q, table, len(tenants), fmt.Sprintf(usageBucketsUpsert, table), tenants, licenses, starts, ats, mins, maxes, lasts, millis,
		overMaxes, overLasts, overMillis, seats, acquires, jsonEach(denials))
}

func (f *usageFold) queueHours(q *pgx.Batch) {
	var tenants, licenses, bys, keys []string
	var starts, ats []time.Time
	var mins, maxes, lasts, acquires []int
	var millis []int64
	var denials []map[string]int
	for _, key := range f.holderKeys {
		for _, b := range f.holders[key].rows {
			tenants, licenses = append(tenants, string(key.tenant)), append(licenses, string(key.license))
			bys, keys = append(bys, key.by), append(keys, key.key)
			starts, ats = append(starts, time.UnixMilli(b.start)), append(ats, time.UnixMilli(b.at))
			mins, maxes, lasts = append(mins, b.seatsMin), append(maxes, b.seatsMax), append(lasts, b.seatsLast)
			millis, acquires, denials = append(millis, b.seatMillis), append(acquires, b.acquires), append(denials, b.denials)
		}
	}
	change(q, "read.usage_holders", len(tenants), usageHoldersUpsert, tenants, licenses, bys, keys, starts, ats, mins, maxes, lasts,
		millis, acquires, jsonEach(denials))
}

func licenseColumns(keys []licenseKey) (tenants, licenses []string) {
	for _, key := range keys {
		tenants, licenses = append(tenants, string(key.tenant)), append(licenses, string(key.license))
	}
	return tenants, licenses
}

func leaseColumns(keys []licenseLease) (tenants, licenses, leases []string) {
	for _, key := range keys {
		tenants, licenses = append(tenants, string(key.tenant)), append(licenses, string(key.license))
		leases = append(leases, string(key.lease))
	}
	return tenants, licenses, leases
}

// jsonEach encodes values for an array of jsonb; one that is nil becomes null.
func jsonEach[M map[string]int | []string](values []M) []*string {
	encoded := make([]*string, len(values))
	for i, v := range values {
		if v != nil {
			text, err := json.Marshal(v)
			if err != nil {
				panic(err) // numbers and clean text
			}
			encoded[i] = new(string(text))
		}
	}
	return encoded
}
