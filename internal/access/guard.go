package access

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// Caller is who asks.
type Caller struct {
	Role Role
	// Tenant whose key it is; empty for the operator.
	Tenant domain.TenantID
	// Member whose key it is; empty when it is nobody's.
	Member domain.Pseudonym
}

// Check refuses what the caller may not do on a path of this tenant; empty when the path has none.
//
// Errors: *Problem 403 forbidden.
func (c Caller) Check(p Permission, tenant domain.TenantID) error {
	if c.Role == Operator && c.Role.May(p) {
		return nil
	}
	if err := CheckTenant(c.Tenant, tenant); err != nil {
		return err
	}
	if !c.Role.May(p) {
		return Forbidden(fmt.Sprintf("This call needs the permission %s; the role %q does not have it.", p, c.Role))
	}
	return nil
}

// CheckTenant refuses the key of one tenant on a path of another, or of none. Errors: *Problem 403 forbidden.
func CheckTenant(key, path domain.TenantID) error {
	if key == "" || key != path {
		return Forbidden("A tenant's key opens only what is its own.")
	}
	return nil
}

// Grants refuses to give or take a role that can do more than the caller. Errors: *Problem 403 forbidden.
func (c Caller) Grants(role Role) error {
	if !c.Role.MayGrant(role) {
		return Forbidden(fmt.Sprintf("The role %q can do more than yours: only who has it may give or take it.", role))
	}
	return nil
}

// Forbidden returns a 403.
func Forbidden(detail string) *serve.Problem {
	return serve.NewProblem(http.StatusForbidden, "forbidden", "This key does not open this", detail)
}

// Guarded is a handler that only callers with a permission reach.
type Guarded struct {
	Permission Permission
	Budget     Budget
	serve.Handler
}

// Guard puts h behind a permission. callerOf says who asks; its error is the answer when nobody known does.
func Guard(p Permission, b Budget, callerOf func(*http.Request) (Caller, error), h serve.Handler) Guarded {
	return Guarded{p, b, func(w http.ResponseWriter, r *http.Request) error {
		caller, err := callerOf(r)
		if err == nil {
			err = caller.Check(p, domain.TenantID(mux.Vars(r)["tenant"]))
		}
		if err != nil {
			return err
		}
		return h(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)))
	}}
}

type callerKey struct{}

// CallerOf returns who asks, behind a Guard; else nobody.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
