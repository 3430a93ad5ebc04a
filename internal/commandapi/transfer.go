package commandapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/mux"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// startTransfer has a license move to another tenant, whose partition another process may own. What is left to do after the
// first step CarryTransfers does.
func (a *API) startTransfer(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "start_transfer")
	if err != nil {
		return err
	}
	var req api.TransferRequest
	if err := serve.Decode(c.body, &req, "to"); err != nil {
		return err
	}
	reason := ""
	if req.Reason != nil {
		reason = *req.Reason
	}
	if err := checkText("reason", reason, 0, reasonMax); err != nil {
		return err
	}
	to := domain.TenantID(req.To)
	if !domain.ValidTenantID(req.To) || to == c.tenant {
		return serve.Invalid("to", `The field "to" must be the id of another tenant.`)
	}
	// Whether there is another tenant is nobody's business but the operator's. A tenant's key is refused where the command is decided.
	if c.asked.key == nil {
		if err := a.deliver(r.Context(), handover{To: to, Check: true}); err != nil {
			return err
		}
	}
	return a.manage(w, c, fixed(domain.StartTransfer{
		License: licenseOf(r), Transfer: domain.TransferID(newID("trf_")), To: to,
		As: domain.LicenseID(newID("lic_")), Key: a.keys.Stored(to, a.keys.NewID()), Reason: reason,
	}), http.StatusOK, func(answer domain.Answer) any {
		t := answer.License.Transfer
		return api.TransferResponse{
			License: a.licenseReply(answer).License, Key: a.keys.Text(t.To, t.Key.ID),
			Transfer: api.Transfer{Id: string(t.ID), To: string(t.To), License: string(t.As), State: api.TransferState(t.State)},
		}
	})
}

func (a *API) cancelTransfer(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "cancel_transfer")
	if err != nil {
		return err
	}
	return a.manageLicense(w, c, domain.CancelTransfer{License: licenseOf(r), Reason: reason})
}

// How licenses on their way are looked after.
const (
	// carryEvery is how often it is looked whether a license can go on.
	carryEvery = 250 * time.Millisecond
	// carryAgain is how long after a failure it is tried again.
	carryAgain = 2 * time.Second
)

// CarryTransfers brings licenses that are on their way to their new tenants, those of the partitions that this process owns, until ctx
// ends. Each step may be done again: who did the one before, this process or one that died, does not matter.
func (a *API) CarryTransfers(ctx context.Context, log *slog.Logger) error {
	for wait := carryEvery; ; {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		wait = carryEvery
		for _, tenant := range a.ledger.Moving() {
			if err := a.carry(ctx, tenant); err != nil && ctx.Err() == nil && !errors.Is(err, eventstore.ErrElsewhere) {
				log.Warn("a license cannot go on to its new tenant; trying again", "tenant", tenant, "error", err)
				wait = carryAgain
			}
		}
	}
}

// carry does what can be done now for the licenses of one tenant.
func (a *API) carry(ctx context.Context, tenant domain.TenantID) error {
	execute := func(c domain.Command) (domain.Answer, error) {
		ctx, cancel := context.WithTimeout(ctx, executeFor)
		defer cancel()
		result, err := a.ledger.Execute(ctx, eventstore.Request{Tenant: tenant, Actor: actorTransfer, Prepare: fixed(c)})
		return result.Answer, err
	}
	answer, err := execute(domain.AdvanceTransfers{})
	if err != nil {
		return err
	}
	for _, l := range answer.Gone {
		// What is gone here changes no more: every try hands over the same.
		h := handover{
			To: l.Transfer.To, License: l.Transfer.As, Transfer: l.Transfer.ID, Key: l.Transfer.Key, Suspended: l.Transfer.Suspended,
			Product: l.Product, Seats: l.Seats, Policy: l.Policy, Users: map[domain.Pseudonym]string{},
		}
		for _, r := range l.Reservations {
			for _, user := range r.Users {
				h.Users[user] = a.ledger.Text(tenant, user)
			}
		}
		if err := a.deliver(ctx, h); err != nil {
			return err
		}
		if _, err := execute(domain.CompleteTransfer{License: l.ID, Transfer: l.Transfer.ID}); err != nil {
			return err
		}
	}
	return nil
}

const actorTransfer = "transfer"

// handover is a license as one tenant's owner hands it to the other's. Pseudonyms are those of the tenant that had it: Users says
// what they stand for.
type handover struct {
	Check     bool                        `json:"check,omitzero"` // only whether there is such a tenant
	To        domain.TenantID             `json:"to"`
	License   domain.LicenseID            `json:"license"`
	Transfer  domain.TransferID           `json:"transfer"`
	Key       domain.LicenseKey           `json:"key"`
	Suspended bool                        `json:"suspended"`
	Product   string                      `json:"product"`
	Seats     int                         `json:"seats"`
	Policy    domain.Policy               `json:"policy"`
	Users     map[domain.Pseudonym]string `json:"users"` // empty: forgotten
}

// receivePath is where a handover is taken. It is among the routes for other processes only.
const receivePath = "/peer/licenses/receive"

// peerRoutes adds what processes ask of each other to a router that is not served by HTTP.
func (a *API) peerRoutes(router *mux.Router) {
	router.Handle(receivePath, a.owned(a.receiveLicense)).Methods(http.MethodPost)
}

// deliver has the owner of the other tenant's partition take a handover, here or in another process. Errors: a *serve.Problem.
func (a *API) deliver(ctx context.Context, h handover) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, receivePath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(headerSeal, a.seal.Of(body))
	w := &answerWriter{header: http.Header{}, status: http.StatusOK}
	router := serve.NewRouter()
	a.peerRoutes(router)
	serve.Relay(router, slog.Default(), "").ServeHTTP(w, r)
	if w.status == http.StatusOK {
		return nil
	}
	var p serve.Problem
	if err := json.Unmarshal(w.body.Bytes(), &p); err != nil {
		return fmt.Errorf("hand a license over: status %d: %s", w.status, w.body.Bytes())
	}
	return &p
}

// receiveLicense takes a handover.
func (a *API) receiveLicense(w http.ResponseWriter, r *http.Request) error {
	body, err := serve.ReadBody(r)
	if err != nil {
		return err
	}
	if !a.seal.Is(r.Header.Get(headerSeal), body) {
		return serve.Unauthorized("Only processes of this ledger hand licenses over.")
	}
	var h handover
	if err := json.Unmarshal(body, &h); err != nil {
		return err
	}
	c := call{Request: r, name: "receive_license", body: body, tenant: h.To, actor: actorTransfer, dryRun: h.Check}
	_, err = a.execute(w, c, func(s eventstore.Scope) (domain.Command, error) {
		return domain.ReceiveLicense{Transfer: h.Transfer, Suspended: h.Suspended, IssueLicense: domain.IssueLicense{
			License: h.License, Product: h.Product, Seats: h.Seats, Key: h.Key, Policy: h.policy(s),
		}}, nil
	})
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, struct{}{})
}

// policy is the policy with the pseudonyms of the tenant that gets it. Whoever was forgotten is in no reservation any more: nobody
// could be recognized.
func (h handover) policy(s eventstore.Scope) domain.Policy {
	p := h.Policy
	if len(p.Reservations) == 0 {
		return p
	}
	reservations := make([]domain.Reservation, len(p.Reservations))
	for i, r := range p.Reservations {
		reservations[i] = r
		reservations[i].Users = nil
		for _, user := range r.Users {
			if text := h.Users[user]; text != "" {
				reservations[i].Users = append(reservations[i].Users, s.Pseudonym(eventstore.UserName, text))
			}
		}
	}
	return domain.PolicyChange{Reservations: &reservations}.Of(p)
}
