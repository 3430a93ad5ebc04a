package commandapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
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
	leases, overlap := new(api.TransferLeases), overlapSecondsDefault
	err = firstError(
		checkText("reason", reason, 0, reasonMax), choose("leases", &leases, req.Leases, string(api.TransferDrains), string(api.TransferKeeps)),
		checkOptional("overlap_seconds", req.OverlapSeconds, 0, overlapSecondsMax),
	)
	if err != nil {
		return err
	}
	keep := *leases == api.TransferKeeps
	if req.OverlapSeconds != nil {
		if overlap = *req.OverlapSeconds; !keep {
			return serve.Invalid("overlap_seconds", `The field "overlap_seconds" is for leases that go along: send it with "leases":"keep".`)
		}
	}
	to := domain.TenantID(req.To)
	if !domain.ValidTenantID(req.To) || to == c.tenant {
		return serve.Invalid("to", `The field "to" must be the id of another tenant.`)
	}
	// Whether there is another tenant is nobody's business but the operator's. A tenant's key is refused where the command is decided.
	if c.asked.key == nil {
		if err := a.tell(r.Context(), receivePath, handover{To: to, Check: true}, nil); err != nil {
			return err
		}
	}
	return a.manage(w, c, fixed(domain.StartTransfer{
		License: licenseOf(r), Transfer: domain.TransferID(newID("trf_")), To: to,
		As: domain.LicenseID(newID("lic_")), Key: a.keys.Stored(to, a.keys.NewID()), Reason: reason,
		Keep: keep, Overlap: time.Duration(overlap) * time.Second,
	}), http.StatusOK, func(answer domain.Answer) any {
		t, l := answer.License.Transfer, a.licenseReply(answer).License
		return api.TransferResponse{License: l, Key: a.keys.Text(t.To, t.Key.ID), Transfer: *l.Transfer}
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
			Fences: l.Transfer.Fences, Leases: l.Transfer.Kept, InUse: l.Transfer.InUse,
			Product: l.Product, Seats: l.Seats, Policy: l.Policy, Names: map[domain.Pseudonym]string{},
		}
		for _, r := range l.Reservations {
			for _, user := range r.Users {
				h.Names[user] = a.ledger.Text(tenant, user)
			}
		}
		var to arrival
		if err := a.tell(ctx, receivePath, h, &to); err != nil {
			return err
		}
		for before := to.Arriving; before > 0; before = to.Arriving {
			answer, err := execute(domain.LeavingLeases{License: l.ID, From: l.Transfer.Kept - before, Max: handoverLeasesMax})
			if err != nil {
				return err
			}
			part := leasesHandover{
				To: h.To, License: h.License, Transfer: h.Transfer, Leases: answer.Leaving, Left: before - len(answer.Leaving), Names: map[domain.Pseudonym]string{},
			}
			for _, lease := range part.Leases {
				for _, p := range []domain.Pseudonym{lease.Holder.User, lease.Holder.Machine, lease.Holder.Process} {
					part.Names[p] = a.ledger.Text(tenant, p)
				}
			}
			if err := a.tell(ctx, receiveLeasesPath, part, &to); err != nil {
				return err
			}
			if to.Arriving >= before {
				return fmt.Errorf("hand leases over: %d are still to come, as before", before)
			}
		}
		if _, err := execute(domain.CompleteTransfer{License: l.ID, Transfer: l.Transfer.ID}); err != nil {
			return err
		}
	}
	return nil
}

const actorTransfer = "transfer"

// handover is a license as one tenant's owner hands it to the other's. Pseudonyms are those of the tenant that had it: Names says
// what they stand for; nothing, where somebody was forgotten.
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
	Fences    uint64                      `json:"fences"`
	Leases    int                         `json:"leases"` // that come along, with leasesHandover
	InUse     int                         `json:"in_use"`
	Names     map[domain.Pseudonym]string `json:"names"` // of those in reservations
}

// leasesHandover is leases that go along with a license.
type leasesHandover struct {
	To       domain.TenantID             `json:"to"`
	License  domain.LicenseID            `json:"license"`
	Transfer domain.TransferID           `json:"transfer"`
	Leases   []domain.Lease              `json:"leases"`
	Left     int                         `json:"left"`
	Names    map[domain.Pseudonym]string `json:"names"`
}

// handoverLeasesMax is how many leases are handed over at once: their events have to fit in a commit, and their names in a record of the
// directory.
const handoverLeasesMax = 100

// arrival answers either.
type arrival struct {
	Arriving int `json:"arriving"` // leases that are still to come
}

// movedCall is a heartbeat, or a release, for leases that went along with a license, by a program that has a key from before.
type movedCall struct {
	To      domain.TenantID  `json:"to"`
	License domain.LicenseID `json:"license"`
	Release bool             `json:"release,omitzero"`
	Leases  []domain.LeaseID `json:"leases"`
	Fence   uint64           `json:"fence,omitzero"`
}

// movedReply answers it.
type movedReply struct {
	Outcomes []domain.LeaseOutcome `json:"outcomes"` // without pseudonyms
	// Of one lease, of which what was asked for is so.
	api.LeasesResponse
}

// Where processes ask each other. The paths are among the routes for other processes only.
const (
	receivePath       = "/peer/licenses/receive"
	receiveLeasesPath = "/peer/licenses/receive-leases"
	movedPath         = "/peer/licenses/moved"
)

// peerRoutes adds what processes ask of each other to a router that is not served by HTTP.
func (a *API) peerRoutes(router *mux.Router) {
	for path, h := range map[string]serve.Handler{receivePath: a.receiveLicense, receiveLeasesPath: a.receiveLeases, movedPath: a.movedLeases, lookPath: a.recordLook} {
		router.Handle(path, a.owned(h)).Methods(http.MethodPost)
	}
}

// tell has the owner of another tenant's partition, here or in another process, take a message, and reads its answer. Errors: a
// *serve.Problem.
func (a *API) tell(ctx context.Context, path string, message, answer any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	// Whoever asked us may have been handed on by another process; this is a request of its own.
	ctx = context.WithValue(ctx, oneHop{}, nil)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(headerSeal, a.seal.Of(body))
	w := &answerWriter{header: http.Header{}, status: http.StatusOK}
	serve.Relay(a.between, slog.Default(), "").ServeHTTP(w, r)
	if w.status == http.StatusOK {
		if answer == nil {
			return nil
		}
		return json.Unmarshal(w.body.Bytes(), answer)
	}
	var p serve.Problem
	if err := json.Unmarshal(w.body.Bytes(), &p); err != nil {
		return fmt.Errorf("%s: status %d: %s", path, w.status, w.body.Bytes())
	}
	return &p
}

// peerCall reads a message of tell.
func (a *API) peerCall(r *http.Request, name string, message any) (call, error) {
	body, err := serve.ReadBody(r)
	if err != nil {
		return call{}, err
	}
	if !a.seal.Is(r.Header.Get(headerSeal), body) {
		return call{}, serve.Unauthorized("Only processes of this ledger may ask this.")
	}
	return call{Request: r, name: name, body: body, actor: actorTransfer}, json.Unmarshal(body, message)
}

// receiveLicense takes a handover.
func (a *API) receiveLicense(w http.ResponseWriter, r *http.Request) error {
	var h handover
	c, err := a.peerCall(r, "receive_license", &h)
	if err != nil {
		return err
	}
	c.tenant, c.dryRun = h.To, h.Check
	result, err := a.execute(w, c, func(s eventstore.Scope) (domain.Command, error) {
		return domain.ReceiveLicense{
			Transfer: h.Transfer, Suspended: h.Suspended, Fences: h.Fences, Leases: h.Leases, InUse: h.InUse,
			IssueLicense: domain.IssueLicense{License: h.License, Product: h.Product, Seats: h.Seats, Key: h.Key, Policy: h.policy(s)},
		}, nil
	})
	if err != nil {
		return err
	}
	if h.Check {
		return serve.Reply(w, http.StatusOK, arrival{})
	}
	return serve.Reply(w, http.StatusOK, arrival{result.Answer.License.Arriving})
}

// receiveLeases takes leases that come along with a license.
func (a *API) receiveLeases(w http.ResponseWriter, r *http.Request) error {
	var h leasesHandover
	c, err := a.peerCall(r, "receive_leases", &h)
	if err != nil {
		return err
	}
	c.tenant = h.To
	result, err := a.execute(w, c, func(s eventstore.Scope) (domain.Command, error) {
		leases := slices.Clone(h.Leases)
		for i := range leases {
			holder := &leases[i].Holder
			holder.User = h.pseudonym(s, eventstore.UserName, holder.User)
			holder.Machine = h.pseudonym(s, eventstore.MachineName, holder.Machine)
			holder.Process = h.pseudonym(s, eventstore.ProcessName, holder.Process)
		}
		return domain.ReceiveLeases{License: h.License, Leases: leases, Left: h.Left}, nil
	})
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, arrival{result.Answer.License.Arriving})
}

// pseudonym is what stands for somebody at the tenant that gets a lease. Who was forgotten stays one person among its leases, and nobody's
// name.
func (h leasesHandover) pseudonym(s eventstore.Scope, kind eventstore.NameKind, p domain.Pseudonym) domain.Pseudonym {
	if text := h.Names[p]; text != "" || p == "" {
		return s.Pseudonym(kind, text)
	}
	return eventstore.Nameless(kind, string(h.Transfer), string(p))
}

// askThere asks the tenant that a license went to about those leases of a call that are not known to have ended here, and writes what it
// says into their outcomes.
func (a *API) askThere(r *http.Request, moved *domain.Transfer, name string, outcomes []domain.LeaseOutcome, fence uint64) (movedReply, error) {
	ask := movedCall{To: moved.To, License: moved.As, Release: name == releaseSeats, Fence: fence}
	var places []int
	for i, o := range outcomes {
		if o.Rejected != nil && (o.Rejected.Code == domain.LeaseTransferred || o.Rejected.Code == domain.LeaseNotFound) {
			ask.Leases, places = append(ask.Leases, o.ID), append(places, i)
		}
	}
	var reply movedReply
	if places == nil {
		return reply, nil
	}
	if err := a.tell(r.Context(), movedPath, ask, &reply); err != nil {
		return reply, err
	}
	for i, place := range places {
		outcomes[place] = reply.Outcomes[i]
	}
	return reply, nil
}

// movedLeases answers askThere. A key from before is good for leases that came along, and for no other.
func (a *API) movedLeases(w http.ResponseWriter, r *http.Request) error {
	var m movedCall
	c, err := a.peerCall(r, heartbeatSeats, &m)
	if err != nil {
		return err
	}
	if m.Release {
		c.name = releaseSeats
	}
	c.tenant, c.urgent = m.To, true
	var now time.Time
	heartbeat := 0
	others := map[domain.LeaseID]bool{}
	result, err := a.execute(w, c, func(s eventstore.Scope) (domain.Command, error) {
		l := s.Tenant.License(m.License)
		if l == nil {
			return nil, problemOfRejection(&domain.Rejection{Code: domain.LicenseArriving, Detail: "The license has not arrived at its new tenant yet; try again in a moment."})
		}
		now, heartbeat = s.Now, l.SuggestedHeartbeat()
		ids := slices.DeleteFunc(slices.Clone(m.Leases), func(id domain.LeaseID) bool {
			lease, known := l.Lease(id)
			others[id] = known && !l.Moved(lease)
			return others[id]
		})
		if m.Release {
			return domain.ReleaseSeats{License: m.License, Leases: ids, Fence: m.Fence}, nil
		}
		return domain.HeartbeatSeats{License: m.License, Leases: ids, Fence: m.Fence}, nil
	})
	if err != nil {
		return err
	}
	var reply movedReply
	for _, id := range m.Leases {
		if others[id] {
			reply.Outcomes = append(reply.Outcomes, domain.LeaseOutcome{ID: id, Rejected: &domain.Rejection{Code: domain.LeaseNotFound, Detail: "The license from before has no such lease."}})
			continue
		}
		o := result.Answer.Leases[0]
		result.Answer.Leases = result.Answer.Leases[1:]
		if len(m.Leases) == 1 && o.Rejected == nil {
			reply.LeasesResponse = a.oneLease(c.tenant, o.Lease, now, heartbeat)
		}
		o.Lease = nil
		reply.Outcomes = append(reply.Outcomes, o)
	}
	return serve.Reply(w, http.StatusOK, reply)
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
			if text := h.Names[user]; text != "" {
				reservations[i].Users = append(reservations[i].Users, s.Pseudonym(eventstore.UserName, text))
			}
		}
	}
	return domain.PolicyChange{Reservations: &reservations}.Of(p)
}
