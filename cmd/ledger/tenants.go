package main

import (
	"context"
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

// changeTenant makes a call that answers with a tenant, and prints it.
func changeTenant(ctx context.Context, t terminal, m manager, o output, method, path string, body any) error {
	var reply api.TenantResponse
	raw, err := m.call(ctx, method, path, body, &reply)
	if err != nil {
		return err
	}
	tenant := reply.Tenant
	return o.print(t, raw, []string{"TENANT", "NAME", "STATUS", "CREATED"},
		[]string{tenant.Id, tenant.Name, string(tenant.Status), when(tenant.CreatedAt)})
}

type tenantCreate struct {
	Tenant string `arg:"" help:"Its id: lower-case letters, digits and inner hyphens, such as acme. It never changes."`
	Name   string `arg:"" help:"Its name, such as 'Acme Corp'."`
	manager
	output
}

func (tenantCreate) Help() string {
	return `Example:

  ledger tenant create acme "Acme Corp"
  ledger license issue acme cad --seats 5`
}

// Run implements the command.
func (c *tenantCreate) Run(ctx context.Context, t terminal) error {
	return changeTenant(ctx, t, c.manager, c.output, http.MethodPost, "/tenants", api.CreateTenantRequest{Id: c.Tenant, Name: c.Name})
}

type tenantList struct {
	manager
	output
}

// Run implements the command.
func (c *tenantList) Run(ctx context.Context, t terminal) error {
	tenants, err := all[api.TenantSummary](ctx, c.manager, "/tenants", nil)
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
	manager
	output
}

// Run implements the command.
func (c *tenantShow) Run(ctx context.Context, t terminal) error {
	return changeTenant(ctx, t, c.manager, c.output, http.MethodGet, c.path(), nil)
}

type tenantRename struct {
	tenantArg
	Name string `arg:"" help:"The new name."`
	manager
	output
}

// Run implements the command.
func (c *tenantRename) Run(ctx context.Context, t terminal) error {
	return changeTenant(ctx, t, c.manager, c.output, http.MethodPatch, c.path(), api.RenameTenantRequest{Name: c.Name})
}

type tenantSuspend struct {
	tenantArg
	reason
	manager
	output
}

// Run implements the command.
func (c *tenantSuspend) Run(ctx context.Context, t terminal) error {
	return changeTenant(ctx, t, c.manager, c.output, http.MethodPost, c.path("suspend"), c.body())
}

type tenantReinstate struct {
	tenantArg
	reason
	manager
	output
}

// Run implements the command.
func (c *tenantReinstate) Run(ctx context.Context, t terminal) error {
	return changeTenant(ctx, t, c.manager, c.output, http.MethodPost, c.path("reinstate"), c.body())
}
