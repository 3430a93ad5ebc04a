package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/audit"
	"github.com/coditect-ai/license-ledger/projections"
)

type replayCommand struct {
	historyOf
	period
	At         *instant `placeholder:"TIME" help:"Print what was at this time instead: the licenses, and who held which seat."`
	Heartbeats bool     `help:"Print heartbeats, too."`
	output
}

func (replayCommand) Help() string {
	return `Reads the events of a tenant from the first one on, checks that none is missing and that they obey the rules, and prints
them; or, with --at, what they add up to at an instant. It reads no read model: what it prints follows from the journal alone.

A running ledger is asked for the events, with their proof. With --nats-url the journal itself is read; so it is when no
ledger answers, and there is the data folder of one that is down.

Times are UTC unless they say otherwise. With --json the events are printed as they are stored, one a line.

Examples:

  ledger replay --tenant acme
  ledger replay --tenant acme --from 2026-03-01 --to 2026-04-01 --json
  ledger replay --tenant acme --at 2026-03-14T09:30:00Z
  ledger replay --tenant acme --nats-url nats://nats:4222 --database-url postgres://…`
}

// Run implements the command.
func (c *replayCommand) Run(ctx context.Context, t terminal) error {
	if c.At != nil && (c.From != nil || c.To != nil || c.Heartbeats) {
		return errors.New("--at prints what was at one time: it goes with none of --from, --to and --heartbeats")
	}
	s, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer s.close()
	tenant := domain.NewTenant(domain.TenantID(c.Tenant))
	var shown []audit.Slice
	var last audit.Slice // the last one that is part of the answer
	err = s.read(ctx, func(slice audit.Slice) error {
		at := slice.Events[0].Time
		if c.At != nil && at.After(c.At.Time) || c.To != nil && !at.Before(c.To.Time) {
			return nil // what comes after is read to its end all the same: only so is it known to be whole
		}
		if err := fold(tenant, slice); err != nil {
			return err
		}
		last = slice
		switch {
		case c.At != nil || !c.holds(at):
		case c.JSON:
			return c.printEvents(t.out, slice)
		default:
			shown = append(shown, slice)
		}
		return nil
	})
	if err != nil {
		return err
	}
	text, err := s.texts(ctx)
	switch {
	case err != nil:
		return err
	case tenant.Version == 0:
		return noEvents(c.Tenant)
	case c.At != nil && !tenant.Exists():
		return hintf("Its events: ledger replay --tenant "+c.Tenant, "%s is no tenant, and has no state", c.Tenant)
	case c.At != nil:
		return c.printState(t, tenant, last, text)
	case c.JSON:
		return nil
	}
	rows := [][]string{{"TIME", "VERSION", "COMMIT", "EVENT", "SUBJECT", "ACTOR", "DETAILS"}}
	for _, slice := range shown {
		for _, e := range slice.Events {
			if c.shows(e) {
				rows = append(rows, []string{
					e.Time.UTC().Format("2006-01-02 15:04:05.000"), fmt.Sprint(e.Version), fmt.Sprint(slice.Seq), shortType(e.Type), e.Subject, e.Actor, details(e, text),
				})
			}
		}
	}
	if err := table(t.out, rows...); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.logs, "The events of %s up to version %d follow from each other; the head is %s.\n", c.Tenant, tenant.Version, last.Head())
	return err
}

func noEvents(tenant string) error {
	return hintf("See which tenants there are with: ledger tenant list", "the journal has no events of %q at that time", tenant)
}

func (c *replayCommand) shows(e eventstore.Event) bool {
	_, beat := e.Data.(*domain.SeatHeartbeat)
	return c.Heartbeats || !beat
}

func (c *replayCommand) printEvents(out io.Writer, slice audit.Slice) error {
	for _, e := range slice.Events {
		if c.shows(e) {
			if _, err := fmt.Fprintf(out, "%s\n", e.Raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// fold applies a slice. Events that break an invariant cannot have happened.
func fold(tenant *domain.Tenant, slice audit.Slice) (err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("commit %d: the events cannot have happened: %v", slice.Seq, broken)
		}
	}()
	for _, e := range slice.Events {
		tenant.Apply(e.Time, e.Data)
	}
	return nil
}

// shortType is the type of an event as people say it: seat.acquired.
func shortType(eventType string) string {
	return strings.TrimSuffix(strings.TrimPrefix(eventType, "ai.coditect."), ".v1")
}

// details are the members of an event that its other columns do not show, with names where they are known.
func details(e eventstore.Event, text func(domain.Pseudonym) string) string {
	data, err := json.Marshal(e.Data)
	var members map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(data, &members)
	}
	if err != nil {
		return err.Error()
	}
	names := map[string]string{}
	for _, p := range domain.Pseudonyms(e.Data) {
		if known := text(p); known != "" {
			names[string(p)] = known
		}
	}
	var parts []string
	for name, value := range members {
		shown := string(value)
		var s string
		if json.Unmarshal(value, &s) == nil {
			if shown = s; names[s] != "" {
				shown = names[s]
			}
		}
		if shown != "" && shown != "null" && shown != e.Subject {
			parts = append(parts, name+"="+shown)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// stateAt is what a tenant was at an instant.
type stateAt struct {
	Tenant   api.Tenant      `json:"tenant"`
	At       time.Time       `json:"at"`
	Version  uint64          `json:"version"` // of the last event until then
	Seq      uint64          `json:"seq"`     // of its commit
	Head     eventstore.Hash `json:"head"`    // of the tenant's chain
	Licenses []api.License   `json:"licenses"`
	Leases   []api.Lease     `json:"leases"` // the active ones
}

func (c *replayCommand) printState(t terminal, tenant *domain.Tenant, last audit.Slice, text func(domain.Pseudonym) string) error {
	state := stateAt{
		Tenant: api.Tenant{Id: string(tenant.ID), Name: tenant.Name, Status: api.TenantStatus(tenant.Status), CreatedAt: tenant.CreatedAt},
		At:     c.At.Time, Version: tenant.Version, Seq: last.Seq, Head: last.Head(), Licenses: []api.License{}, Leases: []api.Lease{},
	}
	tenant.Licenses(func(l *domain.License) {
		shown := api.License{
			Id: string(l.ID), Tenant: string(tenant.ID), Product: l.Product, Seats: l.Seats, InUse: l.InUse,
			Status: api.LicenseStatus(l.Status), IssuedAt: l.IssuedAt,
		}
		projections.ShowTransfer(&shown, l.LicenseInfo)
		projections.ShowPolicy(&shown, l.Policy, text)
		state.Licenses = append(state.Licenses, shown)
		l.Leases(func(lease domain.Lease) { state.Leases = append(state.Leases, projections.ShowLease(lease, text)) })
	})
	slices.SortFunc(state.Licenses, func(a, b api.License) int { return strings.Compare(a.Id, b.Id) })
	slices.SortFunc(state.Leases, func(a, b api.Lease) int { return int(a.Fence - b.Fence) })
	if c.JSON {
		return c.print(t, state)
	}
	licenses := [][]string{{"LICENSE", "PRODUCT", "STATUS", "IN USE", "SEATS"}}
	for _, l := range state.Licenses {
		licenses = append(licenses, []string{l.Id, l.Product, string(l.Status), fmt.Sprint(l.InUse), fmt.Sprint(l.Seats)})
	}
	fmt.Fprintf(t.out, "%s (%s), %s, at %s: version %d, head %s\n\n",
		printable(state.Tenant.Name), state.Tenant.Id, state.Tenant.Status, when(state.At), state.Version, state.Head)
	if err := table(t.out, licenses...); err != nil {
		return err
	}
	fmt.Fprintln(t.out)
	return table(t.out, leaseRows(state.Leases...)...)
}
