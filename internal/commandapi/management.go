package commandapi

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

// The bounds of a license. Contract: api/openapi.yaml.
const (
	seatsMax            = 1_000_000
	leaseSecondsDefault = 300
	leaseSecondsMin     = 30
	leaseSecondsMax     = 7 * 24 * 60 * 60
	overagePercentMax   = 1000
	graceDaysMax        = 365
	featuresMax         = 100
	reservationsMax     = 100
	reservedUsersMax    = 1000 // of all reservations of a license: an event holds them twice
	priorityMax         = 9
	borrowDaysMax       = 365
	overlapSecondsMax   = 365 * 24 * 60 * 60
	// overlapSecondsDefault is how long old keys are good for leases that are transferred.
	overlapSecondsDefault = 24 * 60 * 60
)

func (a *API) createTenant(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "create_tenant")
	if err != nil {
		return err
	}
	var req api.CreateTenantRequest
	if err := serve.Decode(c.body, &req, "id", "name"); err != nil {
		return err
	}
	if !domain.ValidTenantID(req.Id) {
		return serve.Invalid("id", `The field "id" must be 1 to 63 lower-case letters, digits and inner hyphens.`)
	}
	if err := checkText("name", req.Name, 1, nameMax); err != nil {
		return err
	}
	c.tenant = domain.TenantID(req.Id)
	return a.manage(w, c, fixed(domain.CreateTenant{Tenant: c.tenant, Name: req.Name}), http.StatusCreated, func(answer domain.Answer) any {
		return tenantReply(answer)
	})
}

func (a *API) renameTenant(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "rename_tenant")
	if err != nil {
		return err
	}
	var req api.RenameTenantRequest
	if err := serve.Decode(c.body, &req, "name"); err != nil {
		return err
	}
	if err := checkText("name", req.Name, 1, nameMax); err != nil {
		return err
	}
	return a.manageTenant(w, c, domain.RenameTenant{Name: req.Name})
}

func (a *API) suspendTenant(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "suspend_tenant")
	if err != nil {
		return err
	}
	return a.manageTenant(w, c, domain.SuspendTenant{Reason: reason})
}

func (a *API) reinstateTenant(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "reinstate_tenant")
	if err != nil {
		return err
	}
	return a.manageTenant(w, c, domain.ReinstateTenant{Reason: reason})
}

func (a *API) issueLicense(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "issue_license")
	if err != nil {
		return err
	}
	var req api.IssueLicenseRequest
	if err := serve.Decode(c.body, &req, "product", "seats"); err != nil {
		return err
	}
	policy, err := a.policyOf(api.ChangeLicenseRequest{
		LeaseSeconds: req.LeaseSeconds, HeartbeatSeconds: req.HeartbeatSeconds, SeatPer: req.SeatPer,
		Overage: req.Overage, OveragePercent: req.OveragePercent, ReviveSeconds: req.ReviveSeconds,
		MaxPerUser: req.MaxPerUser, MaxPerMachine: req.MaxPerMachine, Reservations: req.Reservations,
		BorrowDays: req.BorrowDays, BorrowMax: req.BorrowMax, BorrowLowWater: req.BorrowLowWater,
		Features: req.Features, StartsAt: req.StartsAt, GraceDays: req.GraceDays, OnShrink: req.OnShrink,
	})
	if err := firstError(checkText("product", req.Product, 1, productMax), checkNumber("seats", req.Seats, 0, seatsMax), err); err != nil {
		return err
	}
	policy.ExpiresAt = instant(req.ExpiresAt)
	command := domain.IssueLicense{
		License: domain.LicenseID(newID("lic_")), Product: req.Product, Seats: req.Seats, Key: a.keys.Stored(c.tenant, a.keys.NewID()),
	}
	return a.manage(w, c, func(s eventstore.Scope) (domain.Command, error) {
		policy.Reservations = reservationsOf(req.Reservations, s)
		command.Policy = policy.Of(domain.Policy{LeaseSeconds: leaseSecondsDefault, Trial: req.Trial != nil && *req.Trial})
		return command, nil
	}, http.StatusCreated, func(answer domain.Answer) any {
		return api.IssueLicenseResponse{License: a.licenseReply(answer).License, Key: a.keys.Text(c.tenant, answer.License.Key.ID)}
	})
}

func (a *API) changeLicense(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "change_license")
	if err != nil {
		return err
	}
	var req api.ChangeLicenseRequest
	if err := serve.Decode(c.body, &req); err != nil {
		return err
	}
	if req == (api.ChangeLicenseRequest{}) {
		return serve.Invalid("seats", `Name what to change: "seats", or a rule such as "lease_seconds".`)
	}
	policy, err := a.policyOf(req)
	if err := firstError(checkOptional("seats", req.Seats, 0, seatsMax), err); err != nil {
		return err
	}
	return a.manage(w, c, func(s eventstore.Scope) (domain.Command, error) {
		policy.Reservations = reservationsOf(req.Reservations, s)
		return domain.ChangeLicense{License: licenseOf(r), Seats: req.Seats, Policy: policy}, nil
	}, http.StatusOK, func(answer domain.Answer) any { return a.licenseReply(answer) })
}

// checkReservations checks each by itself; whether they fit together shows in the domain.
func checkReservations(all []api.Reservation) error {
	if len(all) > reservationsMax {
		return serve.Invalid("reservations", fmt.Sprintf(`The field "reservations" must hold at most %d, not %d.`, reservationsMax, len(all)))
	}
	users := 0
	for i, r := range all {
		field := func(name string) string { return fmt.Sprintf("reservations[%d].%s", i, name) }
		err := firstError(
			checkText(field("name"), r.Name, 1, productMax), checkNumber(field("seats"), r.Seats, 0, seatsMax),
			checkOptional(field("priority"), r.Priority, 0, priorityMax),
		)
		for j, user := range r.Users {
			err = firstError(err, checkText(fmt.Sprintf("reservations[%d].users[%d]", i, j), user, 1, nameMax))
		}
		if err != nil {
			return err
		}
		users += len(r.Users)
	}
	if users > reservedUsersMax {
		return serve.Invalid("reservations", fmt.Sprintf(`The field "reservations" must name at most %d users in all, not %d.`, reservedUsersMax, users))
	}
	return nil
}

// reservationsOf are reservations with pseudonyms for their users; nil where none were given.
func reservationsOf(given *[]api.Reservation, s eventstore.Scope) *[]domain.Reservation {
	if given == nil {
		return nil
	}
	all := make([]domain.Reservation, len(*given))
	for i, r := range *given {
		all[i] = domain.Reservation{Name: r.Name, Seats: r.Seats}
		if r.Priority != nil {
			all[i].Priority = *r.Priority
		}
		for _, user := range r.Users {
			all[i].Users = append(all[i].Users, s.Pseudonym(eventstore.UserName, user))
		}
	}
	return &all
}

// policyOf checks each rule of a request by itself; whether they fit together shows in the domain. Reservations need the
// scope of a command: see reservationsOf.
func (a *API) policyOf(req api.ChangeLicenseRequest) (domain.PolicyChange, error) {
	c := domain.PolicyChange{
		LeaseSeconds: req.LeaseSeconds, HeartbeatSeconds: req.HeartbeatSeconds, OveragePercent: req.OveragePercent,
		ReviveSeconds: req.ReviveSeconds, MaxPerUser: req.MaxPerUser, MaxPerMachine: req.MaxPerMachine,
		BorrowDays: req.BorrowDays, BorrowMax: req.BorrowMax, BorrowLowWater: req.BorrowLowWater,
		StartsAt: instant(req.StartsAt), GraceDays: req.GraceDays,
	}
	err := firstError(
		checkOptional("lease_seconds", req.LeaseSeconds, a.LeaseSecondsMin, leaseSecondsMax), checkOptional("heartbeat_seconds", req.HeartbeatSeconds, 0, leaseSecondsMax),
		choose("seat_per", &c.SeatPer, req.SeatPer, "process", "machine", "user"),
		choose("overage", &c.Overage, req.Overage, "none", "percent", "unlimited"),
		checkOptional("overage_percent", req.OveragePercent, 1, overagePercentMax),
		checkOptional("revive_seconds", req.ReviveSeconds, 0, leaseSecondsMax),
		checkOptional("max_per_user", req.MaxPerUser, 0, seatsMax), checkOptional("max_per_machine", req.MaxPerMachine, 0, seatsMax),
		checkOptional("borrow_days", req.BorrowDays, 0, borrowDaysMax), checkOptional("borrow_max", req.BorrowMax, 0, seatsMax),
		checkOptional("borrow_low_water", req.BorrowLowWater, 0, seatsMax),
		checkOptional("grace_days", req.GraceDays, 0, graceDaysMax),
		choose("on_shrink", &c.OnShrink, req.OnShrink, "drain", "evict_newest"),
	)
	if err == nil && req.Reservations != nil {
		err = checkReservations(*req.Reservations)
	}
	if err == nil && req.Features != nil {
		var features []string
		features, err = checkFeatures(*req.Features)
		c.Features = &features
	}
	return c, err
}

// choose checks that a word is one of those there are, and sets it; the first of them is the default, which is stored as
// nothing.
func choose[To, From ~string](field string, to **To, from *From, words ...string) error {
	if from == nil {
		return nil
	}
	i := slices.Index(words, string(*from))
	if i < 0 {
		return serve.Invalid(field, fmt.Sprintf("The field %q must be one of %s, not %q.", field, strings.Join(words, ", "), *from))
	}
	word := To("")
	if i > 0 {
		word = To(words[i])
	}
	*to = &word
	return nil
}

// checkFeatures checks names of features.
func checkFeatures(features []string) ([]string, error) {
	if len(features) > featuresMax {
		return nil, serve.Invalid("features", fmt.Sprintf(`The field "features" must hold at most %d, not %d.`, featuresMax, len(features)))
	}
	for i, f := range features {
		if err := checkText(fmt.Sprintf("features[%d]", i), f, 1, productMax); err != nil {
			return nil, err
		}
	}
	return features, nil
}

// instant is a time as events hold it: UTC, in whole milliseconds.
func instant(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	return new(at.UTC().Truncate(time.Millisecond))
}

func (a *API) renewLicense(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "renew_license")
	if err != nil {
		return err
	}
	var req api.RenewLicenseRequest
	if err := serve.Decode(c.body, &req); err != nil {
		return err
	}
	command := domain.RenewLicense{License: licenseOf(r)}
	if req.ExpiresAt != nil {
		command.ExpiresAt = *instant(req.ExpiresAt)
	}
	return a.manageLicense(w, c, command)
}

func (a *API) convertTrial(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "convert_trial")
	if err != nil {
		return err
	}
	return a.manageLicense(w, c, domain.ConvertTrial{License: licenseOf(r)})
}

func (a *API) rotateKey(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "rotate_key")
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
	return a.manage(w, c, fixed(domain.RotateKey{
		License: licenseOf(r), Key: a.keys.Stored(c.tenant, a.keys.NewID()), Overlap: time.Duration(req.OverlapSeconds) * time.Second,
	}), http.StatusCreated, func(answer domain.Answer) any {
		return api.RotateKeyResponse{
			License: a.licenseReply(answer).License, Key: a.keys.Text(c.tenant, answer.License.Key.ID), OldKeyUntil: answer.License.OldKeyUntil,
		}
	})
}

func (a *API) evictLease(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "evict_lease")
	if err != nil {
		return err
	}
	command := domain.EvictLease{License: licenseOf(r), Lease: domain.LeaseID(mux.Vars(r)["lease"]), Reason: reason}
	result, err := a.executeManaged(w, c, fixed(command))
	if err != nil || c.dryRun {
		return err
	}
	outcome := result.Answer.Leases[0]
	if outcome.Rejected != nil {
		return problemOfRejection(outcome.Rejected)
	}
	return serve.Reply(w, http.StatusOK, api.EvictLeaseResponse{Lease: a.leaseReply(c.tenant, *outcome.Lease)})
}

// releaseHolder gives back in parts what does not fit in one commit. When the process dies in between, the same request again
// goes on where it stopped.
func (a *API) releaseHolder(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "release_holder")
	if err != nil {
		return err
	}
	var req api.ReleaseHolderRequest
	if err := serve.Decode(c.body, &req); err != nil {
		return err
	}
	kind, field, text := eventstore.UserName, "user", req.User
	if req.Machine != nil {
		kind, field, text = eventstore.MachineName, "machine", req.Machine
	}
	if text == nil || (req.User != nil && req.Machine != nil) {
		return serve.Invalid("user", `Send "user" or "machine".`)
	}
	if err := checkText(field, *text, 1, nameMax); err != nil {
		return err
	}
	reply := api.ReleaseHolderResponse{Released: []api.Lease{}}
	for more := true; more; c.part++ {
		result, err := a.executeManaged(w, c, func(s eventstore.Scope) (domain.Command, error) {
			// Nobody is called that: then there is nothing to give back, and no name to keep either.
			p := cmp.Or(s.Known(kind, *text), "nobody")
			if kind == eventstore.UserName {
				return domain.ReleaseHolder{User: p, Max: releaseMax}, nil
			}
			return domain.ReleaseHolder{Machine: p, Max: releaseMax}, nil
		})
		if err != nil || c.dryRun {
			return err
		}
		for _, o := range result.Answer.Leases {
			reply.Released = append(reply.Released, a.leaseReply(c.tenant, *o.Lease))
		}
		more = len(result.Answer.Leases) == releaseMax
	}
	return serve.Reply(w, http.StatusOK, reply)
}

func (a *API) suspendLicense(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "suspend_license")
	if err != nil {
		return err
	}
	return a.manageLicense(w, c, domain.SuspendLicense{License: licenseOf(r), Reason: reason})
}

func (a *API) reinstateLicense(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "reinstate_license")
	if err != nil {
		return err
	}
	return a.manageLicense(w, c, domain.ReinstateLicense{License: licenseOf(r), Reason: reason})
}

func (a *API) revokeLicense(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "revoke_license")
	if err != nil {
		return err
	}
	return a.manageLicense(w, c, domain.RevokeLicense{License: licenseOf(r), Reason: reason})
}

// reasonCall is a managementCall whose body may be empty or hold a reason.
func (a *API) reasonCall(r *http.Request, name string) (call, string, error) {
	c, err := a.managementCall(r, name)
	if err != nil || len(c.body) == 0 {
		return c, "", err
	}
	var req api.ReasonRequest
	if err := serve.Decode(c.body, &req); err != nil {
		return c, "", err
	}
	if req.Reason == nil {
		return c, "", nil
	}
	return c, *req.Reason, checkText("reason", *req.Reason, 0, reasonMax)
}

func (a *API) manageTenant(w http.ResponseWriter, c call, command domain.Command) error {
	return a.manage(w, c, fixed(command), http.StatusOK, func(answer domain.Answer) any { return tenantReply(answer) })
}

func (a *API) manageLicense(w http.ResponseWriter, c call, command domain.Command) error {
	return a.manage(w, c, fixed(command), http.StatusOK, func(answer domain.Answer) any { return a.licenseReply(answer) })
}

// manage does a command, or says what it would do, and replies.
func (a *API) manage(w http.ResponseWriter, c call, prepare func(eventstore.Scope) (domain.Command, error), status int, reply func(domain.Answer) any) error {
	result, err := a.executeManaged(w, c, prepare)
	if err != nil || c.dryRun {
		return err
	}
	return serve.Reply(w, status, reply(result.Answer))
}

// executeManaged does a command; of a dry run it replies with the events that the command would leave.
func (a *API) executeManaged(w http.ResponseWriter, c call, prepare func(eventstore.Scope) (domain.Command, error)) (eventstore.Result, error) {
	if !c.dryRun {
		return a.execute(w, c, prepare)
	}
	fresh := map[domain.Pseudonym]string{} // those that nobody has yet
	result, err := a.execute(w, c, func(s eventstore.Scope) (domain.Command, error) {
		pseudonym := s.Pseudonym
		s.Pseudonym = func(kind eventstore.NameKind, text string) domain.Pseudonym {
			p := pseudonym(kind, text)
			fresh[p] = text
			return p
		}
		return prepare(s)
	})
	if err != nil {
		return result, err
	}
	names := map[string]string{}
	reply := api.DryRunResponse{DryRun: true, Events: []api.DryRunEvent{}, Names: &names}
	for _, e := range result.Events {
		reply.Events = append(reply.Events, api.DryRunEvent{Type: e.EventType(), Subject: e.EventSubject(), Data: e})
		for _, p := range domain.Pseudonyms(e) {
			if text := cmp.Or(fresh[p], a.ledger.Text(c.tenant, p)); text != "" {
				names[string(p)] = text
			}
		}
	}
	return result, serve.Reply(w, http.StatusOK, reply)
}

// fixed prepares a command that needs nothing from the ledger.
func fixed(c domain.Command) func(eventstore.Scope) (domain.Command, error) {
	return func(eventstore.Scope) (domain.Command, error) { return c, nil }
}

func licenseOf(r *http.Request) domain.LicenseID { return domain.LicenseID(mux.Vars(r)["license"]) }

func tenantReply(answer domain.Answer) api.TenantResponse {
	t := answer.Tenant
	return api.TenantResponse{Tenant: api.Tenant{
		Id: string(t.ID), Name: t.Name, Status: api.TenantStatus(t.Status), CreatedAt: t.CreatedAt,
	}}
}

func (a *API) licenseReply(answer domain.Answer) api.LicenseResponse {
	l := answer.License
	reply := api.License{
		Id: string(l.ID), Tenant: string(l.Tenant), Product: l.Product, Seats: l.Seats, InUse: l.InUse,
		Status: api.LicenseStatus(l.Status), IssuedAt: l.IssuedAt,
	}
	projections.ShowTransfer(&reply, *l)
	projections.ShowPolicy(&reply, l.Policy, func(p domain.Pseudonym) string { return a.ledger.Text(l.Tenant, p) })
	return api.LicenseResponse{License: reply}
}

func checkOptional(field string, n *int, least, most int) error {
	if n == nil {
		return nil
	}
	return checkNumber(field, *n, least, most)
}

func checkNumber(field string, n, least, most int) error {
	if n < least || n > most {
		return serve.Invalid(field, fmt.Sprintf("The field %q must be %d to %d, not %d.", field, least, most, n))
	}
	return nil
}
