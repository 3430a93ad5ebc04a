package main

import (
	"context"
	"encoding/json"
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
	changer
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
	if !c.Yes && !c.DryRun {
		return hintf("Add --yes to do it, or --dry-run to see whether there is such a name.", "forgetting deletes the name for good")
	}
	var reply api.ForgetResponse
	return c.change(ctx, t, http.MethodPost, path, body, &reply, func(raw json.RawMessage) error {
		if c.JSON {
			return c.print(t, raw)
		}
		if reply.Pseudonym == nil {
			_, err := fmt.Fprintf(t.out, "%s knows nobody of that name: nothing to forget.\n", c.Tenant)
			return err
		}
		_, err := fmt.Fprintf(t.out, "Forgotten. Events know %s from now on.\n", *reply.Pseudonym)
		if err == nil && !reply.Erased {
			_, err = fmt.Fprintln(t.out, "The directory's files still hold the name; erasing it is tried until it is done.")
		}
		return err
	})
}
