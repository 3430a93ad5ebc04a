package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// The text of the rows of read.queue and read.seat_ends.

func waiterName(tenant, license string, place int) string {
	return fmt.Sprintf("waiter %s/%s/%d", tenant, license, place)
}

func waiterText(h domain.Holder, since time.Time) string {
	return fmt.Sprintf("user=%s machine=%s process=%s since=%s", h.User, h.Machine, h.Process, timeText(since))
}

func seatEndsText(ended []time.Time) string { return "ended=" + timesText(ended) }

// readQueueRows adds the rows to found.
func readQueueRows(ctx context.Context, tx pgx.Tx, found map[string]string) error {
	var tenant, license string
	var place int
	var h domain.Holder
	var since time.Time
	rows, err := tx.Query(ctx, `SELECT tenant_id, license_id, row_number() OVER (PARTITION BY tenant_id, license_id ORDER BY priority DESC, version),
		"user", machine, process, since FROM read.queue`)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&tenant, &license, &place, &h.User, &h.Machine, &h.Process, &since}, func() error {
			found[waiterName(tenant, license, place)] = waiterText(h, since)
			return nil
		})
	}
	if err != nil {
		return err
	}
	var ended []time.Time
	rows, err = tx.Query(ctx, `SELECT tenant_id, license_id, ended FROM read.seat_ends`)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&tenant, &license, &ended}, func() error {
			found["seat ends "+tenant+"/"+license] = seatEndsText(ended)
			return nil
		})
	}
	return err
}

// queueFold is when who waits came, and when leases ended, as the events say.
type queueFold struct {
	since map[queueKey]time.Time
	ends  map[licenseKey][]time.Time
}

func newQueueFold() *queueFold {
	return &queueFold{since: map[queueKey]time.Time{}, ends: map[licenseKey][]time.Time{}}
}

func (f *queueFold) add(event *eventstore.Event) {
	end := func(license domain.LicenseID, leases int) {
		key := licenseKey{event.Tenant, license}
		for range leases {
			f.ends[key] = append(f.ends[key], event.Time)
		}
	}
	switch e := event.Data.(type) {
	case *domain.SeatQueued:
		f.since[queueKey{licenseKey{event.Tenant, e.License}, e.Holder}] = event.Time
	case *domain.SeatReleased:
		end(e.License, 1)
	case *domain.SeatExpired:
		end(e.License, 1)
	case *domain.SeatEvicted:
		end(e.License, len(e.Leases))
	}
}

// rows adds to folded the rows of a tenant; who waits, and in which order, the domain says.
func (f *queueFold) rows(t *domain.Tenant, folded map[string]string) {
	places := map[domain.LicenseID]int{}
	for _, w := range t.Waiters() {
		places[w.License]++
		folded[waiterName(string(t.ID), string(w.License), places[w.License])] = waiterText(w.Holder, f.since[queueKey{licenseKey{t.ID, w.License}, w.Holder}])
	}
}

// endRows adds to folded the rows of read.seat_ends.
func (f *queueFold) endRows(folded map[string]string) {
	for key, ended := range f.ends {
		folded["seat ends "+string(key.tenant)+"/"+string(key.license)] = seatEndsText(ended[max(0, len(ended)-SeatEndsMax):])
	}
}
