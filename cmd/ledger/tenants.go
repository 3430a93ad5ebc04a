package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/coditect-ai/license-ledger/api"
)

type tenantCommands struct {
	Create    tenantCreate    `cmd:"" help:"Make a tenant."`
	List      tenantList      `cmd:"" help:"All tenants, with their seats."`
	Show      tenantShow      `cmd:"" help:"One tenant."`
	Rename    tenantRename    `cmd:"" help:"Give a tenant another name."`
	Suspend   tenantSuspend   `cmd:"" help:"No seats and no renewals until it is reinstated; running leases run out."`
	Reinstate tenantReinstate `cmd:"" help:"End a suspension."`
	Release   tenantRelease   `cmd:"" help:"Give back all seats of a user, or of a machine."`
}

// tenantArg names a tenant.
type tenantArg struct {
	Tenant string `arg:"" help:"Id of the tenant, such as acme."`
}

func (a tenantArg) path(more ...string) string {
	path := "/tenants/" + url.PathEscape(a.Tenant)
	for _, part := range more {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// reason is why something is done; it is written into the journal.
type reason struct {
	Reason string `placeholder:"TEXT" help:"Why; kept in the journal."`
}

func (r reason) body() api.ReasonRequest {
	if r.Reason == "" {
		return api.ReasonRequest{}
	}
	return api.ReasonRequest{Reason: &r.Reason}
}

func tenantRow(t api.Tenant) [][]string {
	return [][]string{{"TENANT", "NAME", "STATUS", "CREATED"}, {t.Id, t.Name, string(t.Status), when(t.CreatedAt)}}
}

type tenantCreate struct {
	Tenant string `arg:"" help:"Its id: lower-case letters, digits and inner hyphens, such as acme. It never changes."`
	Name   string `arg:"" help:"Its name, such as 'Acme Corp'."`
	changer
}

func (tenantCreate) Help() string {
	return `Example:

  ledger tenant create acme "Acme Corp"
  ledger license issue acme cad --seats 5`
}

// Run implements the command.
func (c *tenantCreate) Run(ctx context.Context, t terminal) error {
	return c.changeTenant(ctx, t, http.MethodPost, "/tenants", api.CreateTenantRequest{Id: c.Tenant, Name: c.Name})
}

type tenantList struct {
	reader
	output
}

// Run implements the command.
func (c *tenantList) Run(ctx context.Context, t terminal) error {
	tenants, err := all[api.TenantSummary](ctx, c.reader, "/tenants", nil)
	if err != nil {
		return err
	}
	if len(tenants.Items) == 0 && !c.JSON {
		_, err := fmt.Fprintln(t.out, `No tenants yet. Make one with: ledger tenant create acme "Acme Corp"`)
		return err
	}
	return c.print(t, tenants, tenantRows(tenants.Items)...)
}

func tenantRows(tenants []api.TenantSummary) [][]string {
	rows := [][]string{{"TENANT", "NAME", "STATUS", "LICENSES", "IN USE", "SEATS"}}
	for _, t := range tenants {
		rows = append(rows, []string{t.Id, t.Name, string(t.Status), fmt.Sprint(t.Licenses), fmt.Sprint(t.InUse), fmt.Sprint(t.Seats)})
	}
	return rows
}

type tenantShow struct {
	tenantArg
	reader
	output
}

// Run implements the command.
func (c *tenantShow) Run(ctx context.Context, t terminal) error {
	var reply api.TenantResponse
	raw, err := c.call(ctx, http.MethodGet, c.path(), nil, &reply)
	if err != nil {
		return err
	}
	return c.print(t, raw, tenantRow(reply.Tenant)...)
}

type tenantRename struct {
	tenantArg
	Name string `arg:"" help:"The new name."`
	changer
}

// Run implements the command.
func (c *tenantRename) Run(ctx context.Context, t terminal) error {
	return c.changeTenant(ctx, t, http.MethodPatch, c.path(), api.RenameTenantRequest{Name: c.Name})
}

type tenantSuspend struct {
	tenantArg
	reason
	changer
}

// Run implements the command.
func (c *tenantSuspend) Run(ctx context.Context, t terminal) error {
	return c.changeTenant(ctx, t, http.MethodPost, c.path("suspend"), c.body())
}

type tenantReinstate struct {
	tenantArg
	reason
	changer
}

// Run implements the command.
func (c *tenantReinstate) Run(ctx context.Context, t terminal) error {
	return c.changeTenant(ctx, t, http.MethodPost, c.path("reinstate"), c.body())
}

type tenantRelease struct {
	tenantArg
	User    *string `xor:"whose" required:"" placeholder:"NAME" help:"All seats of this user."`
	Machine *string `xor:"whose" required:"" placeholder:"NAME" help:"All seats on this machine."`
	changer
}

func (tenantRelease) Help() string {
	return `For somebody who has left, or a machine that is gone. The seats are free at once; programs that still run hear it at
their next heartbeat.

Example:

  ledger tenant release acme --user bob --dry-run
  ledger tenant release acme --machine ws-7`
}

// Run implements the command.
func (c *tenantRelease) Run(ctx context.Context, t terminal) error {
	var reply api.ReleaseHolderResponse
	return c.change(ctx, t, http.MethodPost, c.path("release"), api.ReleaseHolderRequest{User: c.User, Machine: c.Machine}, &reply, func(raw json.RawMessage) error {
		if len(reply.Released) == 0 && !c.JSON {
			_, err := fmt.Fprintf(t.out, "No seats were held. See who holds which with: ledger status %s\n", c.Tenant)
			return err
		}
		return c.print(t, raw, leaseRows(reply.Released...)...)
	})
}
