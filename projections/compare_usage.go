package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// usageHistory is what the domain says of seats in use after each event: the measure of read.usage_…. It is written as
// simply as can be, and holds everything in memory.
type usageHistory struct {
	tenants  map[domain.TenantID]*domain.Tenant
	features map[leaseKey][]string
	accounts map[licenseKey][]usageStep
	holders  map[usageHolderKey][]usageStep
	parts    map[licenseKey]map[usageHolderKey]map[string]bool // who takes part in which seats
	missed   []string                                          // events that change the seats in use, of which usageOf knows nothing
}

// usageStep is what is so from a time on, and what happened then.
type usageStep struct {
	at                    int64
	inUse, over, seats    int
	acquires, denialCount int
	denied                string
}

func newUsageHistory() *usageHistory {
	return &usageHistory{
		tenants: map[domain.TenantID]*domain.Tenant{}, features: map[leaseKey][]string{},
		accounts: map[licenseKey][]usageStep{}, holders: map[usageHolderKey][]usageStep{},
		parts: map[licenseKey]map[usageHolderKey]map[string]bool{},
	}
}

// add takes the next event.
func (h *usageHistory) add(e *eventstore.Event) {
	t := h.tenants[e.Tenant]
	if t == nil {
		t = domain.NewTenant(e.Tenant)
		h.tenants[e.Tenant] = t
	}
	t.Apply(e.Time, e.Data)
	step := usageStep{at: e.Time.UnixMilli()}
	tenant := licenseKey{tenant: e.Tenant}
	if _, ok := e.Data.(*domain.TenantCreated); ok {
		h.accounts[tenant] = append(h.accounts[tenant], step)
	}
	id, concerned := usageOf(e.Data)
	if !concerned {
		if steps := h.accounts[tenant]; len(steps) > 0 && steps[len(steps)-1].inUse != t.SeatsInUse {
			h.missed = append(h.missed, fmt.Sprintf("usage of %s, version %d of %s", e.Type, e.Version, e.Tenant))
		}
		return
	}
	license := licenseKey{e.Tenant, id}
	if a, ok := e.Data.(*domain.SeatAcquired); ok {
		if !a.Arrived() {
			step.acquires = 1
		}
		h.features[leaseKey{e.Tenant, a.Lease}] = featuresOf(a)
	}
	d, denied := e.Data.(*domain.SeatDenied)
	if denied {
		step.denied, step.denialCount = string(d.Reason), max(1, d.Count)
	}
	ofLicense, ofTenant := step, step
	ofTenant.inUse = t.SeatsInUse
	t.Licenses(func(l *domain.License) {
		seats := l.Seats
		if l.Status == domain.LicenseOver {
			seats = 0
		}
		over := max(0, l.InUse-seats)
		ofTenant.over, ofTenant.seats = ofTenant.over+over, ofTenant.seats+seats
		if l.ID == id {
			ofLicense.inUse, ofLicense.over, ofLicense.seats = l.InUse, over, seats
		}
	})
	h.accounts[license] = append(h.accounts[license], ofLicense)
	h.accounts[tenant] = append(h.accounts[tenant], ofTenant)

	// Who takes part in which seats now, counted anew.
	parts := map[usageHolderKey]map[string]bool{}
	l := t.License(id)
	l.Leases(func(lease domain.Lease) {
		seat := l.SeatPer.Seat(lease.ID, lease.Holder)
		held := usageLease{holder: lease.Holder, features: h.features[leaseKey{e.Tenant, lease.ID}]}
		held.keys(func(by, key string) {
			of := usageHolderKey{license, by, key}
			if parts[of] == nil {
				parts[of] = map[string]bool{}
			}
			parts[of][seat] = true
		})
	})
	named := map[usageHolderKey]usageStep{} // whom the event is about beside what it changes
	if a, ok := e.Data.(*domain.SeatAcquired); ok {
		held := usageLease{holder: a.Holder, features: featuresOf(a)}
		held.keys(func(by, key string) { named[usageHolderKey{license, by, key}] = step })
	}
	if denied {
		refused := usageLease{holder: d.Holder}
		if d.Feature != "" {
			refused.features = []string{clean(d.Feature)}
		}
		refused.keys(func(by, key string) { named[usageHolderKey{license, by, key}] = step })
	}
	concernedKeys := map[usageHolderKey]bool{}
	for of := range parts {
		concernedKeys[of] = true
	}
	for of := range named {
		concernedKeys[of] = true
	}
	for of := range h.parts[license] { // who did before
		concernedKeys[of] = true
	}
	h.parts[license] = parts
	reseated := false
	if p, ok := e.Data.(*domain.PolicyChanged); ok {
		reseated = p.Policy.SeatPer != p.Was.SeatPer
	}
	for of := range concernedKeys {
		steps := h.holders[of]
		was := 0
		if len(steps) > 0 {
			was = steps[len(steps)-1].inUse
		}
		s, isNamed := named[of]
		if s.at, s.inUse = step.at, len(parts[of]); isNamed || reseated && was+s.inUse > 0 || s.inUse != was {
			h.holders[of] = append(steps, s)
		}
	}
}

// rows adds the rows that there have to be.
func (h *usageHistory) rows(folded map[string]string) {
	for _, event := range h.missed {
		folded[event] = "it changes the seats in use"
	}
	for key, steps := range h.accounts {
		for i, length := range usageLengths {
			for start, in := range bucketsOf(steps, length) {
				folded[usageName(usageTables[i], key, "", "", start)] = in.text()
			}
		}
	}
	for key, steps := range h.holders {
		for start, in := range bucketsOf(steps, hourMillis) {
			folded[usageName("read.usage_holders", key.licenseKey, key.by, key.key, start)] = in.holderText()
		}
		for i, s := range steps[1:] { // the first hours of days that began with a seat, without an event
			was := steps[i]
			for day := was.at - was.at%dayMillis + dayMillis; was.inUse > 0 && day < s.at-s.at%hourMillis; day += dayMillis {
				silent := usageBucket{start: day, at: was.at, seatsMin: was.inUse, seatsMax: was.inUse, seatsLast: was.inUse}
				folded[usageName("read.usage_holders", key.licenseKey, key.by, key.key, day)] = silent.holderText()
			}
		}
	}
}

// bucketsOf returns the buckets in which there is a step. Before the first nothing was in use.
func bucketsOf(steps []usageStep, length int64) map[int64]*usageBucket {
	found := map[int64]*usageBucket{}
	var was usageStep
	for _, s := range steps {
		start := s.at - s.at%length
		b := found[start]
		if b == nil {
			b = &usageBucket{start: start, seatsMin: -1}
			found[start] = b
			if s.at > start {
				b.seatsLast, b.overLast = was.inUse, was.over
				b.look()
			}
		}
		b.seatMillis += int64(was.inUse) * (s.at - max(was.at, start))
		b.overMillis += int64(was.over) * (s.at - max(was.at, start))
		b.at, b.seatsLast, b.overLast, b.seats = s.at, s.inUse, s.over, s.seats
		b.look()
		b.acquires += s.acquires
		if s.denialCount > 0 {
			deny(&b.denials, s.denied, s.denialCount)
		}
		was = s
	}
	return found
}

func usageName(table string, key licenseKey, by, of string, start int64) string {
	return table + " " + string(key.tenant) + "/" + string(key.license) + " " + by + " " + of + " " + strconv.FormatInt(start, 10)
}

func (b *usageBucket) text() string {
	return fmt.Sprintf("over_max=%d over_last=%d over_ms=%d seats=%d %s", b.overMax, b.overLast, b.overMillis, b.seats, b.holderText())
}

func (b *usageBucket) holderText() string {
	denials := "null"
	if b.denials != nil {
		text, _ := json.Marshal(b.denials) // sorted
		denials = string(text)
	}
	return fmt.Sprintf("at=%d seats_min=%d seats_max=%d seats_last=%d seat_ms=%d acquires=%d denials=%s",
		b.at, b.seatsMin, b.seatsMax, b.seatsLast, b.seatMillis, b.acquires, denials)
}

// readUsageRows returns every row of read.usage_… as text, by name.
func readUsageRows(ctx context.Context, tx pgx.Tx, found map[string]string) error {
	var key licenseKey
	var by, of string
	var b usageBucket
	const ms = `(extract(epoch FROM start) * 1000)::bigint, (extract(epoch FROM at) * 1000)::bigint`
	for _, table := range usageTables {
		rows, err := tx.Query(ctx, `SELECT tenant_id, license_id, `+ms+`, seats_min, seats_max, seats_last, seat_ms, over_max, over_last,
			over_ms, seats, acquires, denials FROM `+table)
		if err != nil {
			return err
		}
		into := []any{
			&key.tenant, &key.license, &b.start, &b.at, &b.seatsMin, &b.seatsMax, &b.seatsLast, &b.seatMillis, &b.overMax, &b.overLast,
			&b.overMillis, &b.seats, &b.acquires, &b.denials,
		}
		if _, err := pgx.ForEachRow(rows, into, func() error {
			found[usageName(table, key, "", "", b.start)] = b.text()
			b.denials = nil
			return nil
		}); err != nil {
			return err
		}
	}
	rows, err := tx.Query(ctx, `SELECT tenant_id, license_id, by, key, `+ms+`, seats_min, seats_max, seats_last, seat_ms, acquires, denials FROM read.usage_holders`)
	if err != nil {
		return err
	}
	into := []any{&key.tenant, &key.license, &by, &of, &b.start, &b.at, &b.seatsMin, &b.seatsMax, &b.seatsLast, &b.seatMillis, &b.acquires, &b.denials}
	if _, err := pgx.ForEachRow(rows, into, func() error {
		found[usageName("read.usage_holders", key, by, of, b.start)] = b.holderText()
		b.denials = nil
		return nil
	}); err != nil {
		return err
	}
	var lease domain.LeaseID
	var features []string
	var seat *string
	var holder domain.Holder
	if rows, err = tx.Query(ctx, `SELECT `+usageLeaseColumns+` FROM read.usage_leases l`); err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, []any{&key.tenant, &key.license, &lease, &holder.User, &holder.Machine, &features, &seat}, func() error {
		found["read.usage_leases "+string(key.tenant)+"/"+string(key.license)+" "+string(lease)] = usageLeaseText(holder, features, seat)
		return nil
	})
	return err
}

func usageLeaseText(h domain.Holder, features []string, seat *string) string {
	shared := "-"
	if seat != nil {
		shared = *seat
	}
	return fmt.Sprintf("user=%s machine=%s features=%q seat=%s", h.User, h.Machine, features, shared)
}

// leaseRows adds the rows of the active leases.
func (h *usageHistory) leaseRows(folded map[string]string) {
	for id, t := range h.tenants {
		t.Licenses(func(l *domain.License) {
			l.Leases(func(lease domain.Lease) {
				var seat *string
				if l.SeatPer != domain.SeatPerProcess {
					seat = new(l.SeatPer.Seat(lease.ID, lease.Holder))
				}
				name := "read.usage_leases " + string(id) + "/" + string(l.ID) + " " + string(lease.ID)
				folded[name] = usageLeaseText(lease.Holder, h.features[leaseKey{id, lease.ID}], seat)
			})
		})
	}
}
