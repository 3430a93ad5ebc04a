package commandapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// asked is who asks for what: the operator, known by now, or a tenant's key, which is proven against the state that its
// command is decided on. So a key that was revoked, or a member whose role was changed, gets nothing through that was not
// decided before.
type asked struct {
	permission access.Permission
	key        *identity.Presented // nil: the operator asks
}

type askedKey struct{}

// guard puts h behind a permission. What a tenant's key presents here is its form and its tenant; the rest is execute's.
func (a *API) guard(p access.Permission, h serve.Handler) access.Guarded {
	if p == access.LicenseKey || p == access.Signature {
		return access.Guarded{Permission: p, Budget: access.Seats, Handler: h} // the handler knows what opens it
	}
	return access.Guarded{Permission: p, Budget: access.Commands, Handler: func(w http.ResponseWriter, r *http.Request) error {
		bearer, err := serve.Bearer(r)
		if err != nil {
			return err
		}
		path := domain.TenantID(mux.Vars(r)["tenant"])
		by := &asked{permission: p}
		if a.operator.Is(bearer) {
			err = access.Caller{Role: access.Operator}.Check(p, path)
		} else if key, bad := a.people.Parse(bearer); bad != nil {
			err = serve.Unauthorized("This call needs the operator key (op_…) or a key of the tenant (tk_…); this is none, or it is mistyped or cut off.")
		} else {
			by.key = &key
			err = access.CheckTenant(key.Tenant, path)
		}
		if err != nil {
			return err
		}
		return h(w, r.WithContext(context.WithValue(r.Context(), askedKey{}, by)))
	}}
}

func askedOf(ctx context.Context) (*asked, error) {
	by, ok := ctx.Value(askedKey{}).(*asked)
	if !ok {
		return nil, errors.New("a management call that no guard let through")
	}
	return by, nil
}

const actorOperator = "operator"

// actor is who did it, in events.
func (by *asked) actor() string {
	if by.key == nil {
		return actorOperator
	}
	return "tk:" + string(by.key.ID)
}

// caller says who asks, by the state that the command is decided on. Errors: 401.
func (by *asked) caller(s eventstore.Scope) (access.Caller, error) {
	if by.key == nil {
		return access.Caller{Role: access.Operator}, nil
	}
	k, known := s.Tenant.TenantKey(by.key.ID)
	switch {
	case !known || !by.key.Opens(k.StoredKey):
		return access.Caller{}, serve.Unauthorized("This key is not known here, or it was revoked.")
	case !k.OpenAt(s.Now):
		return access.Caller{}, serve.Unauthorized("This key was replaced; use the new one.")
	}
	return access.Caller{Role: access.Role(k.Role), Tenant: by.key.Tenant, Member: k.Member}, nil
}

// before puts the proof that the caller may do this before the command.
func (by *asked) before(prepare func(eventstore.Scope) (domain.Command, error), tenant domain.TenantID) func(eventstore.Scope) (domain.Command, error) {
	return func(s eventstore.Scope) (domain.Command, error) {
		caller, err := by.caller(s)
		if err == nil {
			err = caller.Check(by.permission, tenant)
		}
		if err != nil {
			return nil, err
		}
		return prepare(s)
	}
}
