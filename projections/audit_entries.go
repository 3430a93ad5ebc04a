package projections

import (
	"cmp"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// auditEntries keeps read.audit_entries: every event of a tenant but heartbeats, as stored, with what it changed and what it
// is about. What ends a lease does not say whose it was: its row does. Rows of leases are never behind these, unless leases are parked:
// then the entry is about nobody.
type auditEntries struct{}

// Name implements Projection.
func (auditEntries) Name() string { return "audit_entries" }

const auditEntriesInsert = `
	WITH c AS (
		SELECT c.tenant_id, c.version, c.seq, c.index, c.type, c.time, c.subject, c.actor, c.command, c.event, c.before, c.after,
			c.license_id, coalesce(l."user", c."user") AS "user", coalesce(l.machine, c.machine) AS machine,
			coalesce(l.features, c.features) AS features, c.reason, c.cause, c.traffic
		FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::int[], $6::text[], $7::timestamptz[], $8::text[], $9::text[], $10::text[],
			$11::text[], $12::jsonb[], $13::jsonb[], $14::text[], $15::text[], $16::text[], $17::jsonb[], $18::text[], $19::text[], $20::text[], $21::bool[])
			AS c (tenant_id, version, seq, index, type, time, subject, actor, command, event, before, after, license_id, "user", machine, features,
				lease_id, reason, cause, traffic)
			LEFT JOIN LATERAL (
				SELECT l."user", l.machine, l.features FROM read.leases l
				WHERE c.lease_id <> '' AND l.tenant_id = c.tenant_id AND l.lease_id = c.lease_id LIMIT 1) AS l ON true
	), of_feature AS (
		INSERT INTO read.audit_entries_of_feature (tenant_id, feature, version)
		SELECT DISTINCT c.tenant_id, f.feature, c.version FROM c, jsonb_array_elements_text(c.features) AS f (feature)
	)
	INSERT INTO read.audit_entries (tenant_id, version, partition, seq, index, type, time, subject, actor, command, event, before, after,
		license_id, "user", machine, reason, cause, traffic)
	SELECT tenant_id, version, $1, seq, index, type, time, subject, actor, command, event, before, after,
		license_id, "user", machine, reason, cause, traffic
	FROM c`

// A revoked license was active or suspended before; its event does not say which, the entry before does.
const auditEntriesRevoked = `
	UPDATE read.audit_entries e
	SET before = jsonb_build_object('status', (
		SELECT b.after ->> 'status' FROM read.audit_entries b
		WHERE b.tenant_id = e.tenant_id AND b.subject = e.subject AND b.version < e.version
			AND b.type LIKE 'ai.coditect.license.%' AND b.after ? 'status'
		ORDER BY b.version DESC LIMIT 1))
	FROM unnest($1::text[], $2::bigint[]) AS c (tenant_id, version)
	WHERE e.tenant_id = c.tenant_id AND e.version = c.version`

// Apply implements Projection.
func (auditEntries) Apply(b *Batch, q *pgx.Batch) error {
	var (
		tenants, types, subjects, actors, commands, events []string
		licenses, users, machines, leases, reasons, causes []string
		features                                           [][]string
		versions, seqs                                     []uint64
		indexes                                            []int
		times                                              []time.Time
		traffic                                            []bool
		befores, afters                                    [][]byte
		revokedTenants                                     []string
		revokedVersions                                    []uint64
	)
	for place, e := range b.Events() {
		if _, ok := e.Data.(*domain.SeatHeartbeat); ok {
			continue
		}
		before, after, err := beforeAfter(e.Data)
		if err != nil {
			return err
		}
		if _, ok := e.Data.(*domain.LicenseRevoked); ok {
			revokedTenants, revokedVersions = append(revokedTenants, string(e.Tenant)), append(revokedVersions, e.Version)
		}
		tenants, versions = append(tenants, string(e.Tenant)), append(versions, e.Version)
		seqs, indexes = append(seqs, place.Seq), append(indexes, place.Index)
		types, times = append(types, e.Type), append(times, e.Time)
		subjects, actors, commands = append(subjects, clean(e.Subject)), append(actors, clean(e.Actor)), append(commands, clean(e.Command))
		events, befores, afters = append(events, string(e.Raw)), append(befores, before), append(afters, after)
		user, lease := text(e.Data, "User"), "" // a user, and a machine with it, or a lease that has both
		if user == "" {
			lease = theLease(e.Data)
		}
		licenses, users, leases = append(licenses, text(e.Data, "License")), append(users, user), append(leases, lease)
		machines, features = append(machines, text(e.Data, "Machine")), append(features, theFeatures(e.Data))
		reasons, causes = append(reasons, text(e.Data, "Reason")), append(causes, text(e.Data, "Cause"))
		traffic = append(traffic, isTraffic(e))
	}
	change(q, "audit entries", len(events), auditEntriesInsert,
		b.Partition, tenants, versions, seqs, indexes, types, times, subjects, actors, commands, events, befores, afters,
		licenses, users, machines, jsonEach(features), leases, reasons, causes, traffic)
	change(q, "audit entries of licenses revoked", len(revokedVersions), auditEntriesRevoked, revokedTenants, revokedVersions)
	return nil
}

// text returns a field of an event, cleaned; empty when it has no such text.
func text(event domain.Event, field string) string {
	if v := reflect.ValueOf(event).Elem().FieldByName(field); v.IsValid() && v.Kind() == reflect.String {
		return clean(v.String())
	}
	return ""
}

// theLease returns the one lease that an event is about; empty when it is about none, or several.
func theLease(event domain.Event) string {
	switch e := event.(type) {
	case *domain.SeatRevived:
		if len(e.Leases) == 1 {
			return clean(e.Leases[0])
		}
	case *domain.SeatEvicted:
		if len(e.Leases) == 1 {
			return clean(e.Leases[0])
		}
	}
	return text(event, "Lease")
}

// theFeatures returns the features that an event is about by itself: that were asked for, that were not entitled to, or that a license
// got or lost. Nil: none.
func theFeatures(event domain.Event) []string {
	switch e := event.(type) {
	case *domain.SeatAcquired:
		return featuresOf(e)
	case *domain.SeatDenied:
		if e.Feature != "" {
			return []string{clean(e.Feature)}
		}
	case *domain.LicenseIssued:
		return changedFeatures(nil, e.Features)
	case *domain.PolicyChanged:
		return changedFeatures(e.Was.Features, e.Policy.Features)
	}
	return nil
}

// changedFeatures returns those that are in one of two sorted lists.
func changedFeatures(was, is []string) (changed []string) {
	for _, lists := range [][2][]string{{was, is}, {is, was}} {
		for _, feature := range lists[0] {
			if _, both := slices.BinarySearch(lists[1], feature); !both {
				changed = append(changed, clean(feature))
			}
		}
	}
	return changed
}

// isTraffic tells what programs do with seats, and time, from what people do.
func isTraffic(e *eventstore.Event) bool {
	return strings.HasPrefix(e.Type, "ai.coditect.seat.") && IsProgram(e.Actor)
}

// IsProgram reports whether an actor is a licensed program, by its license key, or the ledger itself.
func IsProgram(actor string) bool { return actor == "writer" || strings.HasPrefix(actor, "key:") }

type fields map[string]any

// beforeAfter returns what an event changed, as JSON objects; nil when nothing was there before, or nothing changed.
func beforeAfter(event domain.Event) (before, after []byte, err error) {
	b, a := changedFields(event)
	if b != nil {
		if before, err = json.Marshal(b); err != nil {
			return nil, nil, err
		}
	}
	if a != nil {
		if after, err = json.Marshal(a); err != nil {
			return nil, nil, err
		}
	}
	return before, after, nil
}

func changedFields(event domain.Event) (before, after fields) {
	switch e := event.(type) {
	case *domain.TenantCreated:
		return nil, fields{"name": clean(e.Name), "status": domain.TenantActive}
	case *domain.TenantRenamed:
		return fields{"name": clean(e.Was)}, fields{"name": clean(e.Name)}
	case *domain.TenantSuspended:
		return fields{"status": domain.TenantActive}, fields{"status": domain.TenantOnSuspense}
	case *domain.TenantReinstated:
		return fields{"status": domain.TenantOnSuspense}, fields{"status": domain.TenantActive}
	case *domain.LicenseIssued:
		after := policyFields(e.Policy, domain.Policy{})
		after["product"], after["seats"], after["status"] = clean(e.Product), e.Seats, domain.LicenseActive
		return nil, after
	case *domain.PolicyChanged:
		return policyFields(e.Was, e.Policy), policyFields(e.Policy, e.Was)
	case *domain.LicenseRenewed:
		return fields{"expires_at": present(e.Was)}, fields{"expires_at": present(e.ExpiresAt)}
	case *domain.TrialConverted:
		return fields{"trial": true}, fields{"trial": false}
	case *domain.LicenseKeyRotated:
		return fields{"key": e.OldKey}, fields{"key": e.Key.ID, "old_key_until": e.OldUntil}
	case *domain.LicenseResized:
		return fields{"seats": e.Was}, fields{"seats": e.Seats}
	case *domain.LicenseSuspended:
		return fields{"status": domain.LicenseActive}, fields{"status": domain.LicenseOnSuspense}
	case *domain.LicenseReinstated:
		return fields{"status": domain.LicenseOnSuspense}, fields{"status": domain.LicenseActive}
	case *domain.LicenseRevoked:
		after := fields{"status": domain.LicenseOver} // before: auditEntriesRevoked
		if e.TransferredTo != "" {
			after["transferred_to"], after["leases_kept"] = e.TransferredTo, e.Kept
		}
		return nil, after
	case *domain.MemberInvited:
		return nil, fields{"role": e.Role, "status": "member"}
	case *domain.MemberRoleChanged:
		return fields{"role": e.Was}, fields{"role": e.Role}
	case *domain.MemberRemoved:
		return fields{"role": e.Was, "status": "member"}, fields{"role": nil, "status": "removed"}
	case *domain.TenantKeyCreated:
		after := fields{"name": clean(e.Name), "role": e.Role, "status": "active"}
		if e.Member != "" {
			after["member"] = clean(e.Member)
		}
		return nil, after
	case *domain.TenantKeyRotated:
		return fields{"key": e.OldKey}, fields{"key": e.Key.ID, "old_key_until": e.OldUntil}
	case *domain.TenantKeyRevoked:
		return fields{"status": "active"}, fields{"status": "revoked"}
	case *domain.StaffRead:
		return nil, fields{"read": clean(e.Permission)}
	case *domain.LicenseTransferStarted:
		return fields{"transfer": nil}, fields{"transfer": domain.TransferDraining, "to": e.To}
	case *domain.LicenseTransferCancelled:
		return fields{"transfer": domain.TransferDraining}, fields{"transfer": nil}
	case *domain.LicenseTransferCompleted:
		return fields{"transfer": domain.TransferGone}, fields{"transfer": domain.TransferCompleted}
	case *domain.PersonForgotten:
		return nil, fields{"forgotten": true}
	case *domain.SeatBorrowed:
		return nil, fields{"borrowed": true, "expires_at": e.ExpiresAt}
	case *domain.SeatAcquired:
		after := fields{"state": domain.LeaseStateActive, "expires_at": e.ExpiresAt}
		if e.Arrived() {
			after["acquired_at"] = e.AcquiredAt
		}
		return nil, after
	case *domain.SeatRevived:
		return fields{"state": domain.LeaseStateExpired}, fields{"state": domain.LeaseStateActive, "expires_at": e.ExpiresAt}
	case *domain.SeatEvicted:
		return fields{"state": domain.LeaseStateActive}, fields{"state": domain.LeaseStateEvicted}
	case *domain.SeatReleased:
		return fields{"state": domain.LeaseStateActive}, fields{"state": domain.LeaseStateReleased}
	case *domain.SeatExpired:
		return fields{"state": domain.LeaseStateActive}, fields{"state": domain.LeaseStateExpired}
	}
	return nil, nil // a denial changes nothing
}

// policyFields returns what p says and other does not, by its name in events; null where p has the default.
func policyFields(p, other domain.Policy) fields {
	all := func(p domain.Policy) fields {
		return fields{
			"lease_seconds": p.LeaseSeconds, "heartbeat_seconds": p.SuggestedHeartbeat(), "seat_per": orElse(p.SeatPer, "process"),
			"overage": orElse(p.Overage, "none"), "overage_percent": p.OveragePercent, "revive_seconds": p.ReviveSeconds,
			"max_per_user": p.MaxPerUser, "max_per_machine": p.MaxPerMachine, "reservations": shownReservations(p.Reservations),
			"borrow_days": p.BorrowDays, "borrow_max": p.BorrowMax, "borrow_low_water": p.BorrowLowWater, "features": cleanAll(p.Features),
			"starts_at": present(p.StartsAt), "expires_at": present(p.ExpiresAt), "grace_days": p.GraceDays,
			"on_shrink": orElse(p.OnShrink, "drain"), "trial": p.Trial,
		}
	}
	said, others := all(p), all(other)
	for name, value := range said {
		if reflect.DeepEqual(value, others[name]) {
			delete(said, name)
		}
	}
	return said
}

// shownReservations returns reservations as the database can store them; never null.
func shownReservations(of []domain.Reservation) []domain.Reservation {
	all := append([]domain.Reservation{}, of...)
	for i := range all {
		all[i].Name = clean(all[i].Name)
	}
	return all
}

func orElse[T ~string](text T, otherwise string) string { return cmp.Or(string(text), otherwise) }

func cleanAll(texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = clean(text)
	}
	return all
}
