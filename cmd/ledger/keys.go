package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/coditect-ai/license-ledger/api"
)

type keyCommands struct {
	List   keyList   `cmd:"" help:"A tenant's keys, without their secrets."`
	Create keyCreate `cmd:"" help:"Make a key with which a tenant's people, or their programs, see and manage it."`
	Rotate keyRotate `cmd:"" help:"Put another key in place of one."`
	Revoke keyRevoke `cmd:"" help:"End a key at once, for good."`
}

// keyArg names a key of a tenant.
type keyArg struct {
	tenantArg
	Key string `arg:"" help:"Id of the key; ledger key list shows it."`
}

func (a keyArg) path(more ...string) string {
	return a.tenantArg.path(append([]string{"keys", a.Key}, more...)...)
}

func keyRows(keys ...api.Key) [][]string {
	rows := [][]string{{"KEY", "NAME", "ROLE", "MEMBER", "STATUS", "CREATED", "ENDS"}}
	for _, k := range keys {
		member, ends := "", ""
		if k.Member != nil {
			member = *k.Member
		}
		if k.EndsAt != nil {
			ends = when(*k.EndsAt)
		}
		rows = append(rows, []string{k.Id, k.Name, string(k.Role), member, string(k.Status), when(k.CreatedAt), ends})
	}
	return rows
}

type keyList struct {
	tenantArg
	Status string `enum:"active,replaced,revoked," default:"" placeholder:"STATUS" help:"Only those that are active, replaced or revoked."`
	reader
	output
}

// Run implements the command.
func (c *keyList) Run(ctx context.Context, t terminal) error {
	query := url.Values{}
	if c.Status != "" {
		query.Set("status", c.Status)
	}
	keys, err := all[api.Key](ctx, c.reader, c.path("keys"), query)
	if err != nil {
		return err
	}
	if len(keys.Items) == 0 && !c.JSON {
		_, err := fmt.Fprintf(t.out, "No such keys. Make one with: ledger key create %s NAME --role owner\n", c.Tenant)
		return err
	}
	return c.print(t, keys, keyRows(keys.Items...)...)
}

type keyCreate struct {
	tenantArg
	Name   string `arg:"" help:"What it is for, such as 'billing export'."`
	Role   string `xor:"whose" required:"" placeholder:"ROLE" help:"What it may do: owner, admin, billing or auditor; docs/ACCESS.md has the table."`
	Member string `xor:"whose" required:"" placeholder:"MEMBER" help:"Whose it is: it has the role of this member, and ends with it."`
	changer
}

func (keyCreate) Help() string {
	return `The key is shown once. The ledger keeps a hash of it.

Example:

  ledger key create acme "first owner" --role owner
  ledger key create acme "Ada's laptop" --member ada`
}

// Run implements the command.
func (c *keyCreate) Run(ctx context.Context, t terminal) error {
	body := api.CreateKeyRequest{Name: c.Name}
	if c.Member != "" {
		member, err := memberArg{c.tenantArg, c.Member}.id(ctx, c.manager)
		if err != nil {
			return err
		}
		body.Member = &member
	} else {
		body.Role = new(api.Role(c.Role))
	}
	var reply api.KeySecretResponse
	return c.change(ctx, t, http.MethodPost, c.path("keys"), body, &reply, func(raw json.RawMessage) error {
		if c.JSON {
			return c.print(t, raw)
		}
		_, err := fmt.Fprintf(t.out, "The key %s with the role %s, shown this once:\n\n  %s\n", reply.Key.Id, reply.Key.Role, reply.Secret)
		return err
	})
}

type keyRotate struct {
	keyArg
	Overlap time.Duration `default:"0s" placeholder:"DURATION" help:"How long the present key goes on beside the new one, such as 24h. Default: it ends at once."`
	changer
}

// Run implements the command.
func (c *keyRotate) Run(ctx context.Context, t terminal) error {
	var reply api.KeySecretResponse
	body := api.RotateKeyRequest{OverlapSeconds: int(c.Overlap / time.Second)}
	return c.change(ctx, t, http.MethodPost, c.path("rotate"), body, &reply, func(raw json.RawMessage) error {
		if c.JSON {
			return c.print(t, raw)
		}
		present := "ended"
		if c.Overlap > 0 {
			present = fmt.Sprintf("works for another %v", c.Overlap)
		}
		_, err := fmt.Fprintf(t.out, "The new key %s with the role %s, shown this once; %s %s:\n\n  %s\n", reply.Key.Id, reply.Key.Role, c.Key, present, reply.Secret)
		return err
	})
}

type keyRevoke struct {
	keyArg
	reason
	changer
}

// Run implements the command.
func (c *keyRevoke) Run(ctx context.Context, t terminal) error {
	var reply api.KeyResponse
	return c.change(ctx, t, http.MethodPost, c.path("revoke"), c.body(), &reply, func(raw json.RawMessage) error {
		return c.print(t, raw, keyRows(reply.Key)...)
	})
}
