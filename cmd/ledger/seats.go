package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/client"
)

func leaseRows(leases ...api.Lease) [][]string {
	rows := [][]string{{"LEASE", "USER", "MACHINE", "PROCESS", "STATE", "SINCE", "UNTIL"}}
	for _, l := range leases {
		process, until := "", l.ExpiresAt
		if l.Process != nil {
			process = *l.Process
		}
		if l.Forgotten != nil {
			for _, kind := range *l.Forgotten {
				switch kind {
				case api.NameOfUser:
					l.User = "(forgotten)"
				case api.NameOfMachine:
					l.Machine = "(forgotten)"
				case api.NameOfProcess:
					process = "(forgotten)"
				}
			}
		}
		if l.EndedAt != nil {
			until = *l.EndedAt
		}
		state := string(l.State)
		if l.Borrowed != nil {
			state += ", borrowed"
		}
		if l.Overage != nil {
			state += ", overage"
		}
		rows = append(rows, []string{l.Id, l.User, l.Machine, process, state, when(l.AcquiredAt), when(until)})
	}
	return rows
}

type acquireCommand struct {
	server
	licenseKey
	holder
	Wait        time.Duration `placeholder:"TIME" help:"Wait that long for a seat when all are in use: first come, first served. Default: do not."`
	BorrowUntil *day          `placeholder:"DATE" help:"Hold it offline until this day (UTC), without heartbeats."`
	output
}

func (acquireCommand) Help() string {
	return `For scripts that keep the seat themselves: it is lost unless ledger heartbeat comes in time, and held until
ledger release. To run a program with a seat use ledger run, which does all that.

Acquiring again as the same user, machine and process gives the same seat, not a second one.

Example:

  LEASE=$(ledger acquire --json | jq -r .lease.id)
  ledger heartbeat $LEASE
  ledger release $LEASE
  ledger acquire --wait 5m
  ledger acquire --borrow-until 2027-01-31`
}

// Run implements the command.
func (c *acquireCommand) Run(ctx context.Context, t terminal) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	request := api.AcquireRequest{User: c.User, Machine: c.Machine, BorrowUntil: (*time.Time)(c.BorrowUntil)}
	if c.User == "" || c.Machine == "" {
		here, err := client.DefaultHolder()
		if err != nil {
			return hintf("Use --user and --machine.", "%w", err)
		}
		request.User, request.Machine = cmp.Or(c.User, here.User), cmp.Or(c.Machine, here.Machine)
	}
	if c.Process != "" {
		request.Process = &c.Process
	}
	var reply api.AcquireResponse
	raw, err := c.take(ctx, t, key, request, &reply)
	if err != nil {
		return err
	}
	if err := c.print(t, raw, leaseRows(reply.Lease)...); err != nil || c.JSON {
		return err
	}
	if reply.Lease.Borrowed != nil {
		_, err = fmt.Fprintf(t.out, "\nHeld offline until %s, without heartbeats.\nReturn it early:  ledger release %s\n", when(reply.Lease.ExpiresAt), reply.Lease.Id)
		return err
	}
	_, err = fmt.Fprintf(t.out, "\nKeep it, at least every %s:  ledger heartbeat %s\nGive it back:  ledger release %s\n",
		seconds(reply.HeartbeatSeconds), reply.Lease.Id, reply.Lease.Id)
	return err
}

const (
	// waitTurnFirst and waitTurn are for how long each request of ledger acquire waits: as often its place is told.
	waitTurnFirst, waitTurn = time.Second, 15 * time.Second
)

// take acquires, and asks again as long as it is to wait.
func (c *acquireCommand) take(ctx context.Context, t terminal, key string, request api.AcquireRequest, reply *api.AcquireResponse) (json.RawMessage, error) {
	end := time.Now().Add(c.Wait)
	waiting := waitingAloud(c.Wait, func(format string, args ...any) { fmt.Fprintf(t.logs, "ledger: "+format+"\n", args...) })
	for turn := waitTurnFirst; ; turn = waitTurn {
		turn = min(turn, max(0, time.Until(end))).Truncate(time.Second)
		if request.WaitSeconds = nil; turn > 0 {
			request.WaitSeconds = new(int(turn / time.Second))
		}
		answer, err := c.ask(ctx, key, answerWithin+turn, client.Call{
			Method: http.MethodPost, Path: "/licenses/acquire", Body: request, IdempotencyKey: client.NewIdempotencyKey(), Wait: turn,
		})
		var refused *client.Error
		if errors.As(err, &refused) && refused.Position > 0 && turn > 0 {
			waiting(refused)
			continue
		}
		if err != nil {
			return nil, err
		}
		return answer.Body, json.Unmarshal(answer.Body, reply)
	}
}

type heartbeatCommand struct {
	Lease string `arg:"" help:"Id of the lease, lse_…"`
	server
	licenseKey
	output
}

// Run implements the command.
func (c *heartbeatCommand) Run(ctx context.Context, t terminal) error {
	return changeLease(ctx, t, c.server, c.licenseKey, c.output, "/licenses/heartbeat", c.Lease)
}

type releaseCommand struct {
	Lease string `arg:"" help:"Id of the lease, lse_…"`
	server
	licenseKey
	output
}

// Run implements the command.
func (c *releaseCommand) Run(ctx context.Context, t terminal) error {
	return changeLease(ctx, t, c.server, c.licenseKey, c.output, "/licenses/release", c.Lease)
}

func changeLease(ctx context.Context, t terminal, s server, k licenseKey, o output, path, lease string) error {
	key, err := k.key()
	if err != nil {
		return err
	}
	var reply api.LeasesResponse
	raw, _, err := s.do(ctx, key, http.MethodPost, path, api.LeasesRequest{Lease: &lease}, &reply)
	if err != nil {
		return err
	}
	if reply.Lease == nil {
		return fmt.Errorf("the answer names no lease: %s", raw)
	}
	return o.print(t, raw, leaseRows(*reply.Lease)...)
}

type statusCommand struct {
	Tenant string `arg:"" optional:"" help:"Show who holds this tenant's seats."`
	reader
	output
}

func (statusCommand) Help() string {
	return `Without a tenant: all tenants, and how many of their seats are in use. With one: who holds them.

Example:

  ledger status
  ledger status acme`
}

// Run implements the command.
func (c *statusCommand) Run(ctx context.Context, t terminal) error {
	if c.Tenant == "" {
		return (&tenantList{c.reader, c.output}).Run(ctx, t)
	}
	tenant := tenantArg{c.Tenant}
	licenses, err := all[api.License](ctx, c.reader, tenant.path("licenses"), nil)
	if err != nil {
		return err
	}
	seats, err := all[api.Lease](ctx, c.reader, tenant.path("seats"), url.Values{"state": {"active"}})
	if err != nil {
		return err
	}
	if c.JSON {
		return c.print(t, map[string]any{"licenses": licenses.Items, "leases": seats.Items, "seats": seats.Seats, "in_use": seats.InUse})
	}
	if err := table(t.out, licenseRows(licenses.Items...)...); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "\n%d of %d seats in use\n", seats.InUse, seats.Seats)
	if len(seats.Items) == 0 {
		return nil
	}
	fmt.Fprintln(t.out)
	return table(t.out, leaseRows(seats.Items...)...)
}
