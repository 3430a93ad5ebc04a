package commandapi

import (
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/mux"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

func (a *API) inviteMember(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "invite_member")
	if err != nil {
		return err
	}
	var req api.InviteMemberRequest
	if err := serve.Decode(c.body, &req, "user", "role"); err != nil {
		return err
	}
	if err := firstError(checkText("user", req.User, 1, nameMax), checkRole(req.Role)); err != nil {
		return err
	}
	result, err := a.executeManaged(w, c, func(s eventstore.Scope) (domain.Command, error) {
		if err := c.asked.grants(s, domain.Role(req.Role)); err != nil {
			return nil, err
		}
		return domain.InviteMember{User: s.Pseudonym(eventstore.UserName, req.User), Role: domain.Role(req.Role)}, nil
	})
	if err != nil || c.dryRun {
		return err
	}
	status := http.StatusOK
	if result.Answer.Created {
		status = http.StatusCreated
	}
	return serve.Reply(w, status, a.memberReply(c, result.Answer))
}

func (a *API) changeMember(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "change_member")
	if err != nil {
		return err
	}
	var req api.ChangeMemberRequest
	if err := serve.Decode(c.body, &req, "role"); err != nil {
		return err
	}
	if err := checkRole(req.Role); err != nil {
		return err
	}
	return a.manage(w, c, func(s eventstore.Scope) (domain.Command, error) {
		m, _ := s.Tenant.Member(memberOf(r))
		if err := c.asked.grants(s, domain.Role(req.Role), m.Role); err != nil {
			return nil, err
		}
		return domain.ChangeMemberRole{User: memberOf(r), Role: domain.Role(req.Role)}, nil
	}, http.StatusOK, func(answer domain.Answer) any { return a.memberReply(c, answer) })
}

func (a *API) removeMember(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "remove_member")
	if err != nil {
		return err
	}
	return a.manage(w, c, func(s eventstore.Scope) (domain.Command, error) {
		m, _ := s.Tenant.Member(memberOf(r))
		if err := c.asked.grants(s, m.Role); err != nil {
			return nil, err
		}
		return domain.RemoveMember{User: memberOf(r), Reason: reason}, nil
	}, http.StatusOK, func(answer domain.Answer) any { return a.memberReply(c, answer) })
}

func (a *API) createKey(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "create_key")
	if err != nil {
		return err
	}
	var req api.CreateKeyRequest
	if err := serve.Decode(c.body, &req, "name"); err != nil {
		return err
	}
	if err := checkText("name", req.Name, 1, productMax); err != nil {
		return err
	}
	command := domain.CreateTenantKey{Key: a.people.Stored(c.tenant, a.people.NewID()), Name: req.Name}
	switch {
	case (req.Role == nil) == (req.Member == nil):
		return serve.Invalid("role", `Send "role" or "member".`)
	case req.Member != nil:
		if err := checkText("member", *req.Member, 1, idMax); err != nil {
			return err
		}
		command.Member = domain.Pseudonym(*req.Member)
	case *req.Role == api.RoleMember:
		return serve.Invalid("role", `A key with the role "member" sees what is its member's: send "member" instead.`)
	default:
		if err := checkRole(*req.Role); err != nil {
			return err
		}
		command.Role = domain.Role(*req.Role)
	}
	return a.manage(w, c, func(s eventstore.Scope) (domain.Command, error) {
		role := command.Role
		if command.Member != "" {
			m, _ := s.Tenant.Member(command.Member)
			role = m.Role
		}
		return command, c.asked.grants(s, role)
	}, http.StatusCreated, func(answer domain.Answer) any { return a.keySecretReply(c, answer) })
}

func (a *API) rotateTenantKey(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "rotate_tenant_key")
	if err != nil {
		return err
	}
	var req api.RotateKeyRequest
	if err := serve.Decode(c.body, &req, "overlap_seconds"); err != nil {
		return err
	}
	if err := checkNumber("overlap_seconds", req.OverlapSeconds, 0, overlapSecondsMax); err != nil {
		return err
	}
	fresh := a.people.Stored(c.tenant, a.people.NewID())
	return a.manage(w, c, func(s eventstore.Scope) (domain.Command, error) {
		k, _ := s.Tenant.TenantKey(keyOf(r))
		return domain.RotateTenantKey{OldKey: keyOf(r), Key: fresh, Overlap: time.Duration(req.OverlapSeconds) * time.Second}, c.asked.grants(s, k.Role)
	}, http.StatusCreated, func(answer domain.Answer) any { return a.keySecretReply(c, answer) })
}

func (a *API) revokeKey(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "revoke_key")
	if err != nil {
		return err
	}
	return a.manage(w, c, func(s eventstore.Scope) (domain.Command, error) {
		k, _ := s.Tenant.TenantKey(keyOf(r))
		return domain.RevokeTenantKey{Key: keyOf(r), Reason: reason}, c.asked.grants(s, k.Role)
	}, http.StatusOK, func(answer domain.Answer) any { return api.KeyResponse{Key: keyReply(answer)} })
}

// grants refuses to give or take roles that can do more than the caller. An empty one is nobody's; the domain says so.
func (by *asked) grants(s eventstore.Scope, roles ...domain.Role) error {
	caller, err := by.caller(s)
	for _, role := range roles {
		if err == nil && role != "" {
			err = caller.Grants(access.Role(role))
		}
	}
	return err
}

func checkRole(role api.Role) error {
	if !access.Operator.MayGrant(access.Role(role)) {
		return serve.Invalid("role", fmt.Sprintf(`The field "role" must be one of owner, admin, billing, auditor, member, not %q.`, role))
	}
	return nil
}

func memberOf(r *http.Request) domain.Pseudonym { return domain.Pseudonym(mux.Vars(r)["member"]) }

func keyOf(r *http.Request) domain.KeyID { return domain.KeyID(mux.Vars(r)["key"]) }

func (a *API) memberReply(c call, answer domain.Answer) api.MemberResponse {
	m := answer.Member
	reply := api.Member{Id: string(m.User), User: a.ledger.Text(c.tenant, m.User), Role: api.Role(m.Role), Status: api.MemberStatusMember}
	if m.Removed {
		reply.Status = api.MemberStatusRemoved
	}
	return api.MemberResponse{Member: reply}
}

func (a *API) keySecretReply(c call, answer domain.Answer) api.KeySecretResponse {
	return api.KeySecretResponse{Key: keyReply(answer), Secret: a.people.Text(c.tenant, answer.Key.ID)}
}

func keyReply(answer domain.Answer) api.Key {
	k := answer.Key
	reply := api.Key{Id: string(k.ID), Name: k.Name, Role: api.Role(k.Role), Status: api.KeyStatusActive, CreatedAt: k.CreatedAt}
	if k.Member != "" {
		reply.Member = new(string(k.Member))
	}
	switch {
	case k.Revoked:
		reply.Status = api.KeyStatusRevoked
	case !k.Until.IsZero():
		reply.Status, reply.EndsAt = api.KeyStatusReplaced, &k.Until
	}
	return reply
}
