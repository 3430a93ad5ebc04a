package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/coditect-ai/license-ledger/api"
)

type forgetCommand struct {
	Tenant  string  `required:"" placeholder:"TENANT" help:"Id of the tenant, such as acme."`
	User    *string `xor:"whom" required:"" placeholder:"NAME" help:"The user to forget."`
	Machine *string `xor:"whom" required:"" placeholder:"NAME" help:"The machine to forget."`
	Process *string `xor:"whom" required:"" placeholder:"NAME" help:"The process to forget."`
	Reason  string  `placeholder:"TEXT" help:"Why; kept in the journal for good, so not with the name in it."`
	Yes     bool    `help:"Really: it cannot be undone."`
	DryRun  bool    `help:"Only say which events would be appended."`
	manager
	output
}

func (forgetCommand) Help() string {
	return `Deletes the name, for good: from the directory, from its files and from the read models. Events, leases, seats in use
and proofs stay; where the name was shown it says forgotten. A lease that runs goes on until it ends. The same name
coming back is somebody new. Forget a machine or a process, too, if its name tells who it was.

docs/FORGETTING.md says what is erased where and when, and what of backups.

Example:

  ledger forget --tenant acme --user ada --reason "request 4711" --yes
  ledger forget --tenant acme --machine ada-laptop --yes`
}

// Run implements the command.
func (c *forgetCommand) Run(ctx context.Context, t terminal) error {
	path := tenantArg{c.Tenant}.path("forget")
	body := api.ForgetRequest{User: c.User, Machine: c.Machine, Process: c.Process}
	if c.Reason != "" {
		body.Reason = &c.Reason
	}
	if c.DryRun {
		return dryRun(ctx, t, c.manager, c.output, http.MethodPost, path, body)
	}
	if !c.Yes {
		return hintf("Add --yes to do it, or --dry-run to see whether there is such a name.", "forgetting deletes the name for good")
	}
	var reply api.ForgetResponse
	raw, err := c.call(ctx, http.MethodPost, path, body, &reply)
	if err != nil || c.JSON {
		if err == nil {
			err = c.print(t, raw)
		}
		return err
	}
	switch {
	case reply.Pseudonym == nil:
		_, err = fmt.Fprintf(t.out, "%s knows nobody of that name: nothing to forget.\n", c.Tenant)
	case !reply.Erased:
		_, err = fmt.Fprintf(t.out, "Forgotten. Events know %s from now on.\nThe directory's files still hold the name; erasing it is tried until it is done.\n", *reply.Pseudonym)
	default:
		_, err = fmt.Fprintf(t.out, "Forgotten. Events know %s from now on.\n", *reply.Pseudonym)
	}
	return err
}
