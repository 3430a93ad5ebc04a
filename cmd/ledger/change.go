package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/coditect-ai/license-ledger/api"
)

// changer makes the calls of the operator that change something; or, if asked to, only says what they would do.
type changer struct {
	DryRun bool `help:"Only say which events would be appended to the journal."`
	manager
	output
}

// change makes a call and has show print what was answered, which is in reply by then. What it did can be read when it returns; if not, that
// is said: it is done all the same.
func (c changer) change(ctx context.Context, t terminal, method, path string, body, reply any, show func(raw json.RawMessage) error) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	if !c.DryRun {
		raw, position, err := c.do(ctx, key, method, path, body, reply)
		if err != nil {
			return err
		}
		if err := show(raw); err != nil { // at once: it may be a secret that nobody is told again
			return err
		}
		if err := c.visible(ctx, key, position); err != nil {
			fmt.Fprintf(t.logs, "It is done, but queries do not show it yet: %v\n", err)
		}
		return nil
	}
	var would api.DryRunResponse
	raw, _, err := c.do(ctx, key, method, path+"?dry_run=true", body, &would)
	if err != nil {
		return err
	}
	if len(would.Events) == 0 && !c.JSON {
		_, err := fmt.Fprintln(t.out, "Nothing would be appended: it is so already.")
		return err
	}
	rows := [][]string{{"WOULD APPEND", "ABOUT"}}
	for _, e := range would.Events {
		rows = append(rows, []string{e.Type, e.Subject})
	}
	return c.print(t, raw, rows...)
}

// changeTenant makes a call that answers with a tenant, and prints it.
func (c changer) changeTenant(ctx context.Context, t terminal, method, path string, body any) error {
	var reply api.TenantResponse
	return c.change(ctx, t, method, path, body, &reply, func(raw json.RawMessage) error { return c.print(t, raw, tenantRow(reply.Tenant)...) })
}

// changeLicense makes a call that answers with a license, and prints it.
func (c changer) changeLicense(ctx context.Context, t terminal, method, path string, body any) error {
	var reply api.LicenseResponse
	return c.change(ctx, t, method, path, body, &reply, func(raw json.RawMessage) error { return c.print(t, raw, licenseRows(reply.License)...) })
}
