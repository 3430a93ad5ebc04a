package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/coditect-ai/license-ledger/api"
)

type memberCommands struct {
	List   memberList   `cmd:"" help:"A tenant's people."`
	Invite memberInvite `cmd:"" help:"Make somebody one of a tenant's people."`
	Change memberChange `cmd:"" help:"Give a member another role; the member's keys end."`
	Remove memberRemove `cmd:"" help:"End a membership, and the member's keys."`
}

// memberArg names a member of a tenant.
type memberArg struct {
	tenantArg
	Member string `arg:"" help:"Name of the user, or the member's id, u_…"`
}

// id returns the member's id, which the API wants.
func (a memberArg) id(ctx context.Context, m manager) (string, error) {
	if strings.HasPrefix(a.Member, "u_") {
		return a.Member, nil
	}
	members, err := all[api.Member](ctx, reader{manager: m, Reason: "command line: which member is meant"}, a.tenantArg.path("members"), nil)
	if err != nil {
		return "", err
	}
	for _, member := range members.Items {
		if member.User == a.Member {
			return member.Id, nil
		}
	}
	return "", hintf("See who is with: ledger member list "+a.Tenant, "%s has no member %q", a.Tenant, a.Member)
}

func memberRows(members ...api.Member) [][]string {
	rows := [][]string{{"MEMBER", "USER", "ROLE", "STATUS"}}
	for _, m := range members {
		user := m.User
		if user == "" {
			user = "(forgotten)"
		}
		rows = append(rows, []string{m.Id, user, string(m.Role), string(m.Status)})
	}
	return rows
}

type memberList struct {
	tenantArg
	Status string `enum:"member,removed," default:"" placeholder:"STATUS" help:"Only those that are member, or that were removed."`
	reader
	output
}

// Run implements the command.
func (c *memberList) Run(ctx context.Context, t terminal) error {
	query := url.Values{}
	if c.Status != "" {
		query.Set("status", c.Status)
	}
	members, err := all[api.Member](ctx, c.reader, c.path("members"), query)
	if err != nil {
		return err
	}
	if len(members.Items) == 0 && !c.JSON {
		_, err := fmt.Fprintf(t.out, "No such members. Invite one with: ledger member invite %s USER --role member\n", c.Tenant)
		return err
	}
	return c.print(t, members, memberRows(members.Items...)...)
}

// memberRole is what a member may do.
type memberRole struct {
	Role string `required:"" enum:"owner,admin,billing,auditor,member" placeholder:"ROLE" help:"owner, admin, billing, auditor or member; docs/ACCESS.md has the table."`
}

type memberInvite struct {
	tenantArg
	User string `arg:"" help:"Name of the user, as programs give it when they take a seat."`
	memberRole
	changer
}

func (memberInvite) Help() string {
	return `Example:

  ledger member invite acme ada --role admin
  ledger key create acme "Ada's laptop" --member ada`
}

// Run implements the command.
func (c *memberInvite) Run(ctx context.Context, t terminal) error {
	return c.changeMember(ctx, t, http.MethodPost, c.path("members"), api.InviteMemberRequest{User: c.User, Role: api.Role(c.Role)})
}

// changeMember makes a call about a member that is there already. more is what follows the member in the path.
func (a memberArg) changeMember(ctx context.Context, t terminal, c changer, method string, body any, more ...string) error {
	id, err := a.id(ctx, c.manager)
	if err != nil {
		return err
	}
	return c.changeMember(ctx, t, method, a.path(append([]string{"members", id}, more...)...), body)
}

// changeMember makes a call that answers with a member, and prints it.
func (c changer) changeMember(ctx context.Context, t terminal, method, path string, body any) error {
	var reply api.MemberResponse
	return c.change(ctx, t, method, path, body, &reply, func(raw json.RawMessage) error { return c.print(t, raw, memberRows(reply.Member)...) })
}

type memberChange struct {
	memberArg
	memberRole
	changer
}

// Run implements the command.
func (c *memberChange) Run(ctx context.Context, t terminal) error {
	return c.memberArg.changeMember(ctx, t, c.changer, http.MethodPatch, api.ChangeMemberRequest{Role: api.Role(c.Role)})
}

type memberRemove struct {
	memberArg
	reason
	changer
}

// Run implements the command.
func (c *memberRemove) Run(ctx context.Context, t terminal) error {
	return c.memberArg.changeMember(ctx, t, c.changer, http.MethodPost, c.body(), "remove")
}
