package commandapi

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

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
	body       []byte              // of the request, once it was read
	judged     atomic.Bool         // the Writer said whether the key may
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
		by.judged.Store(true)
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

// permitted wraps a handler: who may not do this hears so before it hears that its request is not valid. A tenant's key is proven only by the
// Writer, so the Writer is asked once more, but only about a request that is refused anyway.
func (a *API) permitted(h serve.Handler) serve.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := h(w, r)
		by, _ := r.Context().Value(askedKey{}).(*asked)
		var problem *serve.Problem
		if by == nil || by.key == nil || by.judged.Load() || !errors.As(err, &problem) ||
			problem.Status >= http.StatusInternalServerError || problem.Status == http.StatusRequestEntityTooLarge {
			return err
		}
		if denied := a.prove(r, by); denied != nil {
			return denied
		}
		return err
	}
}

// errMay: the key may do what it asks for.
var errMay = errors.New("permitted")

// prove asks the Writer whether a key may do what it asks for; nil: it may.
func (a *API) prove(r *http.Request, by *asked) error {
	ctx, cancel := context.WithTimeout(r.Context(), executeFor)
	defer cancel()
	tenant := by.key.Tenant
	_, err := a.ledger.Execute(ctx, eventstore.Request{
		Tenant: tenant, Actor: by.actor(), DryRun: true,
		Prepare: by.before(func(eventstore.Scope) (domain.Command, error) { return nil, errMay }, tenant),
	})
	switch {
	case errors.Is(err, errMay):
		return nil
	case errors.Is(err, eventstore.ErrElsewhere), errors.Is(err, eventstore.ErrStopping) && handedOver(r):
		return &elsewhere{call{Request: r, body: by.body, tenant: tenant}}
	}
	return errorFor(problemOf(err), err)
}
