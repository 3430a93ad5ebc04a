package commandapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// Ledger does commands; *eventstore.Writers is one.
type Ledger interface {
	Execute(ctx context.Context, r eventstore.Request) (eventstore.Result, error)
	Text(tenant domain.TenantID, p domain.Pseudonym) string
	AwaitErased(ctx context.Context, tenant domain.TenantID) error
	Moving() []domain.TenantID
	Ownership(tenant domain.TenantID) (eventstore.Ownership, <-chan struct{})
}

// API answers the command calls of api/openapi.yaml.
type API struct {
	// LeaseSecondsMin is the shortest lease that a license can be given; 30 by default. Tests that wait for leases to run out make
	// it less: over a network a program cannot keep so short a one.
	LeaseSecondsMin int

	ledger   Ledger
	tokens   *eventstore.Tokens
	operator identity.OperatorKey
	keys     *identity.Keys // of licenses
	people   *identity.Keys // of tenants' people
	seal     identity.Seal
	commands *prometheus.CounterVec
	between  *mux.Router // what processes ask each other
	peers    *Peers      // nil: there are none
}

// New returns the API of a ledger.
func New(ledger Ledger, secret identity.Secret, operator identity.OperatorKey, registry prometheus.Registerer) *API {
	a := &API{
		LeaseSecondsMin: leaseSecondsMin,
		ledger:          ledger,
		tokens:          eventstore.NewTokens(secret),
		operator:        operator,
		keys:            identity.NewLicenseKeys(secret),
		people:          identity.NewTenantKeys(secret),
		seal:            identity.NewSeal(secret),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledger_commands_total", Help: "Commands by what became of them: done, or the code of the refusal."}, []string{"command", "outcome"}),
	}
	registry.MustRegister(a.commands)
	a.between = serve.NewRouter()
	a.peerRoutes(a.between)
	return a
}

// Routes adds the calls to router.
func (a *API) Routes(router *mux.Router) {
	route := func(method, path string, p access.Permission, h serve.Handler) {
		router.Handle("/api/v1"+path, a.guard(p, a.owned(a.permitted(h)))).Methods(method)
	}
	route(http.MethodPost, "/licenses/acquire", access.LicenseKey, a.acquireSeat)
	route(http.MethodPost, "/licenses/heartbeat", access.LicenseKey, a.heartbeatSeats)
	route(http.MethodPost, "/licenses/release", access.LicenseKey, a.releaseSeats)
	route(http.MethodPost, "/tenants", access.TenantManage, a.createTenant)
	route(http.MethodPost, "/tenants/{tenant}/suspend", access.TenantManage, a.suspendTenant)
	route(http.MethodPost, "/tenants/{tenant}/reinstate", access.TenantManage, a.reinstateTenant)
	route(http.MethodPost, "/tenants/{tenant}/licenses", access.LicenseManage, a.issueLicense)
	route(http.MethodPost, "/tenants/{tenant}/licenses/{license}/suspend", access.LicenseManage, a.suspendLicense)
	route(http.MethodPost, "/tenants/{tenant}/licenses/{license}/reinstate", access.LicenseManage, a.reinstateLicense)
	route(http.MethodPost, "/tenants/{tenant}/licenses/{license}/revoke", access.LicenseManage, a.revokeLicense)
	route(http.MethodPost, "/tenants/{tenant}/licenses/{license}/renew", access.LicenseManage, a.renewLicense)
	route(http.MethodPost, "/tenants/{tenant}/licenses/{license}/convert", access.LicenseManage, a.convertTrial)
	route(http.MethodPost, "/tenants/{tenant}/licenses/{license}/rotate-key", access.LicenseRotate, a.rotateKey)
	route(http.MethodPost, "/tenants/{tenant}/licenses/{license}/transfer", access.LicenseManage, a.startTransfer)
	route(http.MethodPost, "/tenants/{tenant}/licenses/{license}/cancel-transfer", access.LicenseManage, a.cancelTransfer)
	route(http.MethodPost, "/tenants/{tenant}/licenses/{license}/leases/{lease}/evict", access.SeatEvict, a.evictLease)
	route(http.MethodPost, "/tenants/{tenant}/release", access.SeatEvict, a.releaseHolder)
	route(http.MethodPost, "/tenants/{tenant}/members", access.MemberManage, a.inviteMember)
	route(http.MethodPatch, "/tenants/{tenant}/members/{member}", access.MemberManage, a.changeMember)
	route(http.MethodPost, "/tenants/{tenant}/members/{member}/remove", access.MemberManage, a.removeMember)
	route(http.MethodPost, "/tenants/{tenant}/keys", access.KeyManage, a.createKey)
	route(http.MethodPost, "/tenants/{tenant}/keys/{key}/rotate", access.KeyManage, a.rotateTenantKey)
	route(http.MethodPost, "/tenants/{tenant}/keys/{key}/revoke", access.KeyManage, a.revokeKey)
	route(http.MethodPost, "/tenants/{tenant}/forget", access.PersonForget, a.forgetPerson)
	route(http.MethodPatch, "/tenants/{tenant}", access.TenantManage, a.renameTenant)
	route(http.MethodPatch, "/tenants/{tenant}/licenses/{license}", access.LicenseManage, a.changeLicense)
}

// executeFor is how long a caller waits for the ledger. After it the outcome is unknown to the caller.
const executeFor = 10 * time.Second

// call is one request on its way to the ledger.
type call struct {
	*http.Request
	name   string // of the command, for the metrics
	body   []byte
	tenant domain.TenantID
	actor  string
	// part tells apart the commands that one request is split into.
	part int
	// urgent commands keep or free a seat.
	urgent bool
	// asked is who asks for what, of a call by people; nil: a license key asks.
	asked *asked
	// dryRun asks what the command would do.
	dryRun bool
	// waits says that an acquire may wait for a seat, until a time; that may have passed.
	waits bool
	until time.Time
}

// execute has the command done and sets Ledger-Position. The error is the one to return from the handler.
func (a *API) execute(w http.ResponseWriter, c call, prepare func(eventstore.Scope) (domain.Command, error)) (eventstore.Result, error) {
	idempotency, err := idempotencyOf(c)
	if err != nil {
		return eventstore.Result{}, err
	}
	if c.asked != nil {
		prepare = c.asked.before(prepare, c.tenant)
	}
	wait, ctx, cancel := c.patience()
	defer cancel()
	result, err := a.ledger.Execute(ctx, eventstore.Request{
		Tenant: c.tenant, Actor: c.actor, Traceparent: traceparentOf(c.Request), Idempotency: idempotency, Urgent: c.urgent,
		DryRun: c.dryRun, Wait: wait, Prepare: prepare,
	})
	if result.Position.Seq > 0 {
		w.Header().Set("Ledger-Position", a.tokens.Token(result.Position))
	}
	// To the process that handed a request on, an owner that stops is one that did nothing.
	if errors.Is(err, eventstore.ErrElsewhere) || (errors.Is(err, eventstore.ErrStopping) && c.Context().Value(oneHop{}) != nil) {
		return eventstore.Result{}, &elsewhere{c}
	}
	if errors.Is(err, eventstore.ErrWaiting) {
		return eventstore.Result{}, err
	}
	if c.waits && errors.Is(err, eventstore.ErrUnknown) && c.Context().Err() != nil {
		a.note(c, "hung_up")
		return eventstore.Result{}, c.Context().Err()
	}
	if err != nil {
		if c.part > 0 {
			err = afterPart(err)
		}
		problem := problemOf(err)
		a.note(c, problem.Code)
		return eventstore.Result{}, errorFor(problem, err)
	}
	a.note(c, "done")
	return result, nil
}

// note counts what became of a command, and writes it to the request's span.
func (a *API) note(c call, outcome string) {
	a.commands.WithLabelValues(c.name, outcome).Inc()
	if span := trace.SpanFromContext(c.Context()); span.IsRecording() {
		span.SetAttributes(attribute.String("ledger.command", c.name), attribute.String("ledger.outcome", outcome))
	}
}

// managementCall reads a request behind guard. A tenant's key is proven by execute, where the command is decided: whoever is
// refused there leaves nothing.
func (a *API) managementCall(r *http.Request, name string) (call, error) {
	body, err := serve.ReadBody(r)
	if err != nil {
		return call{}, err
	}
	asked, err := askedOf(r.Context())
	if err != nil {
		return call{}, err
	}
	asked.body = body
	c := call{Request: r, name: name, body: body, actor: asked.actor(), asked: asked}
	switch values := r.URL.Query()["dry_run"]; {
	case len(values) == 0 || (len(values) == 1 && values[0] == "false"):
	case len(values) == 1 && values[0] == "true":
		c.dryRun = true
	default:
		return call{}, serve.Invalid("dry_run", `The parameter "dry_run" must be true or false.`)
	}
	if id, ok := mux.Vars(r)["tenant"]; ok {
		if !domain.ValidTenantID(id) {
			return call{}, serve.NewProblem(http.StatusNotFound, string(domain.TenantNotFound), titles[domain.TenantNotFound], "No tenant can have this id.")
		}
		c.tenant = domain.TenantID(id)
	}
	return c, nil
}

// licenseCall checks the form of the license key, and reads the request. Whether the key is right shows in the ledger.
func (a *API) licenseCall(r *http.Request, name string) (call, identity.Presented, error) {
	bearer, err := serve.Bearer(r)
	if err != nil {
		return call{}, identity.Presented{}, err
	}
	key, err := a.keys.Parse(bearer)
	if err != nil {
		return call{}, identity.Presented{}, serve.Unauthorized("This call needs a license key (lk_…); this is none, or it is mistyped or cut off.")
	}
	body, err := serve.ReadBody(r)
	if err != nil {
		return call{}, identity.Presented{}, err
	}
	return call{Request: r, name: name, body: body, tenant: key.Tenant, actor: "key:" + string(key.ID)}, key, nil
}

// opened returns the license that a key opens: its own, or the one before for as long as that is valid.
func opened(key identity.Presented, s eventstore.Scope) (*domain.License, error) {
	if l := s.Tenant.LicenseByKey(key.ID); l != nil {
		switch {
		case key.Opens(l.Key):
			return l, nil
		case key.Opens(l.OldKey) && s.Now.Before(l.OldKeyUntil):
			return l, nil
		case key.Opens(l.OldKey):
			return nil, serve.Unauthorized("This license key was replaced; ask your administrator for the new one.")
		}
	}
	return nil, serve.Unauthorized("This license key is not known here.")
}
