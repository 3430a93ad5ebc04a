package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/coditect-ai/license-ledger/api"
)

type licenseCommands struct {
	Issue     licenseIssue     `cmd:"" help:"Make a license; prints its key, this once."`
	List      licenseList      `cmd:"" help:"A tenant's licenses, with their seats in use."`
	Show      licenseShow      `cmd:"" help:"One license."`
	Resize    licenseResize    `cmd:"" help:"Change the number of seats. Nobody who holds one is cut off."`
	Suspend   licenseSuspend   `cmd:"" help:"No seats and no renewals until it is reinstated; running leases run out."`
	Reinstate licenseReinstate `cmd:"" help:"End a suspension."`
	Renew     licenseRenew     `cmd:"" help:"Move the end of its validity, also after it has passed."`
	Convert   licenseConvert   `cmd:"" help:"Make a trial a paid license."`
	RotateKey licenseRotateKey `cmd:"" help:"Give it another key; prints it, this once."`
	Evict     licenseEvict     `cmd:"" help:"Take one seat back."`
	Revoke    licenseRevoke    `cmd:"" help:"End a license for good, and all its leases at once."`
}

// licenseArg names a license of a tenant.
type licenseArg struct {
	tenantArg
	License string `arg:"" help:"Id of the license, lic_… (ledger license list TENANT shows them)"`
}

func (a licenseArg) path(more ...string) string {
	return a.tenantArg.path(append([]string{"licenses", a.License}, more...)...)
}

func licenseRows(licenses ...api.License) [][]string {
	rows := [][]string{{"LICENSE", "PRODUCT", "STATUS", "IN USE", "SEATS", "LEASE", "ISSUED", "ENDS"}}
	for _, l := range licenses {
		status, ends := string(l.Status), "never"
		if l.Trial {
			status += ", trial"
		}
		if l.ExpiresAt != nil {
			ends = when(*l.ExpiresAt)
		}
		rows = append(rows, []string{l.Id, l.Product, status, fmt.Sprint(l.InUse), fmt.Sprint(l.Seats), seconds(l.LeaseSeconds), when(l.IssuedAt), ends})
	}
	return rows
}

// changeLicense makes a call that answers with a license, and prints it.
func changeLicense(ctx context.Context, t terminal, m manager, o output, method, path string, body any) error {
	var reply api.LicenseResponse
	raw, err := m.call(ctx, method, path, body, &reply)
	if err != nil {
		return err
	}
	return o.print(t, raw, licenseRows(reply.License)...)
}

type licenseIssue struct {
	tenantArg
	Product string        `arg:"" help:"What is licensed, such as cad."`
	Seats   int           `required:"" help:"How many may use it at the same time."`
	Lease   time.Duration `default:"5m" help:"How long a seat is held without a heartbeat, in whole seconds. Default: ${default}."`
	manager
	output
}

func (licenseIssue) Help() string {
	return `The license key is printed here and never again; the ledger keeps only a hash of it.

Example:

  ledger license issue acme cad --seats 5
  ledger license issue acme cad --seats 5 --lease 30s --json`
}

// Run implements the command.
func (c *licenseIssue) Run(ctx context.Context, t terminal) error {
	length := int(c.Lease / time.Second)
	if time.Duration(length)*time.Second != c.Lease {
		return hintf("Such as --lease 30s or --lease 5m.", "--lease must be whole seconds, not %v", c.Lease)
	}
	var reply api.IssueLicenseResponse
	raw, err := c.call(ctx, http.MethodPost, c.path("licenses"), api.IssueLicenseRequest{Product: c.Product, Seats: c.Seats, LeaseSeconds: &length}, &reply)
	if err != nil {
		return err
	}
	if err := c.print(t, raw, licenseRows(reply.License)...); err != nil || c.JSON {
		return err
	}
	_, err = fmt.Fprintf(t.out, `
The license key, shown this once:

  export LEDGER_LICENSE_KEY=%s

Then run a program with a seat:

  ledger run -- PROGRAM
`, reply.Key)
	return err
}

type licenseList struct {
	tenantArg
	manager
	output
}

// Run implements the command.
func (c *licenseList) Run(ctx context.Context, t terminal) error {
	licenses, err := all[api.License](ctx, c.manager, c.path("licenses"), nil)
	if err != nil {
		return err
	}
	if len(licenses.Items) == 0 && !c.JSON {
		_, err := fmt.Fprintf(t.out, "No licenses yet. Make one with: ledger license issue %s PRODUCT --seats 5\n", c.Tenant)
		return err
	}
	return c.print(t, licenses, licenseRows(licenses.Items...)...)
}

type licenseShow struct {
	licenseArg
	manager
	output
}

// Run implements the command.
func (c *licenseShow) Run(ctx context.Context, t terminal) error {
	return changeLicense(ctx, t, c.manager, c.output, http.MethodGet, c.path(), nil)
}

type licenseResize struct {
	licenseArg
	Seats int `arg:"" help:"How many may use it at the same time from now on."`
	manager
	output
}

// Run implements the command.
func (c *licenseResize) Run(ctx context.Context, t terminal) error {
	return changeLicense(ctx, t, c.manager, c.output, http.MethodPatch, c.path(), api.ChangeLicenseRequest{Seats: &c.Seats})
}

type licenseSuspend struct {
	licenseArg
	reason
	manager
	output
}

// Run implements the command.
func (c *licenseSuspend) Run(ctx context.Context, t terminal) error {
	return changeLicense(ctx, t, c.manager, c.output, http.MethodPost, c.path("suspend"), c.body())
}

type licenseReinstate struct {
	licenseArg
	reason
	manager
	output
}

// Run implements the command.
func (c *licenseReinstate) Run(ctx context.Context, t terminal) error {
	return changeLicense(ctx, t, c.manager, c.output, http.MethodPost, c.path("reinstate"), c.body())
}

type licenseRenew struct {
	licenseArg
	Until   time.Time `xor:"end" required:"" format:"2006-01-02" placeholder:"DATE" help:"No new seats from this day on (UTC), such as 2027-12-31."`
	Forever bool      `xor:"end" required:"" help:"It has no end."`
	manager
	output
}

// Run implements the command.
func (c *licenseRenew) Run(ctx context.Context, t terminal) error {
	var body api.RenewLicenseRequest
	if !c.Forever {
		body.ExpiresAt = &c.Until
	}
	return changeLicense(ctx, t, c.manager, c.output, http.MethodPost, c.path("renew"), body)
}

type licenseConvert struct {
	licenseArg
	manager
	output
}

// Run implements the command.
func (c *licenseConvert) Run(ctx context.Context, t terminal) error {
	return changeLicense(ctx, t, c.manager, c.output, http.MethodPost, c.path("convert"), struct{}{})
}

type licenseRotateKey struct {
	licenseArg
	Overlap time.Duration `default:"168h" help:"How long the present key goes on working, so that programs can be given the new one. Default: ${default}."`
	manager
	output
}

// Run implements the command.
func (c *licenseRotateKey) Run(ctx context.Context, t terminal) error {
	var reply api.RotateKeyResponse
	raw, err := c.call(ctx, http.MethodPost, c.path("rotate-key"), api.RotateKeyRequest{OverlapSeconds: int(c.Overlap / time.Second)}, &reply)
	if err != nil {
		return err
	}
	if c.JSON {
		return c.print(t, raw)
	}
	_, err = fmt.Fprintf(t.out, "The new license key, shown this once; the present one works until %s:\n\n  export LEDGER_LICENSE_KEY=%s\n",
		when(reply.OldKeyUntil), reply.Key)
	return err
}

type licenseEvict struct {
	licenseArg
	Lease string `arg:"" help:"Id of the lease, lse_… (ledger status TENANT shows them)"`
	reason
	manager
	output
}

// Run implements the command.
func (c *licenseEvict) Run(ctx context.Context, t terminal) error {
	var reply api.EvictLeaseResponse
	raw, err := c.call(ctx, http.MethodPost, c.path("leases", c.Lease, "evict"), c.body(), &reply)
	if err != nil {
		return err
	}
	return c.print(t, raw, leaseRows(reply.Lease)...)
}

type licenseRevoke struct {
	licenseArg
	reason
	Yes bool `help:"Really: it cannot be undone."`
	manager
	output
}

// Run implements the command.
func (c *licenseRevoke) Run(ctx context.Context, t terminal) error {
	if !c.Yes {
		return hintf("Add --yes to do it. To stop it for a while only: ledger license suspend "+c.Tenant+" "+c.License,
			"revoking %s ends it for good, and all its leases at once", c.License)
	}
	return changeLicense(ctx, t, c.manager, c.output, http.MethodPost, c.path("revoke"), c.body())
}
