package commandapi

import (
	"fmt"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// The bounds of a license. Contract: api/openapi.yaml.
const (
	seatsMax            = 1_000_000
	leaseSecondsDefault = 300
	leaseSecondsMax     = 7 * 24 * 60 * 60
)

func (a *API) createTenant(w http.ResponseWriter, r *http.Request) error {
	c, err := a.operatorCall(r, "create_tenant")
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
	answer, err := a.execute(w, c, fixed(domain.CreateTenant{Tenant: c.tenant, Name: req.Name}))
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusCreated, tenantReply(answer))
}

func (a *API) renameTenant(w http.ResponseWriter, r *http.Request) error {
	c, err := a.operatorCall(r, "rename_tenant")
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
	return a.changeTenant(w, c, domain.RenameTenant{Name: req.Name})
}

func (a *API) suspendTenant(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "suspend_tenant")
	if err != nil {
		return err
	}
	return a.changeTenant(w, c, domain.SuspendTenant{Reason: reason})
}

func (a *API) reinstateTenant(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "reinstate_tenant")
	if err != nil {
		return err
	}
	return a.changeTenant(w, c, domain.ReinstateTenant{Reason: reason})
}

func (a *API) issueLicense(w http.ResponseWriter, r *http.Request) error {
	c, err := a.operatorCall(r, "issue_license")
	if err != nil {
		return err
	}
	var req api.IssueLicenseRequest
	if err := serve.Decode(c.body, &req, "product", "seats"); err != nil {
		return err
	}
	leaseSeconds := leaseSecondsDefault
	if req.LeaseSeconds != nil {
		leaseSeconds = *req.LeaseSeconds
	}
	err = firstError(checkText("product", req.Product, 1, productMax),
		checkNumber("seats", req.Seats, 0, seatsMax), checkNumber("lease_seconds", leaseSeconds, 1, leaseSecondsMax))
	if err != nil {
		return err
	}
	answer, err := a.execute(w, c, fixed(domain.IssueLicense{
		License: domain.LicenseID(newID("lic_")), Product: req.Product, Seats: req.Seats, LeaseSeconds: leaseSeconds,
		Key: a.keys.Stored(c.tenant, a.keys.NewID()),
	}))
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusCreated, api.IssueLicenseResponse{
		License: licenseReply(answer).License, Key: a.keys.Text(c.tenant, answer.License.Key.ID),
	})
}

func (a *API) resizeLicense(w http.ResponseWriter, r *http.Request) error {
	c, err := a.operatorCall(r, "resize_license")
	if err != nil {
		return err
	}
	var req api.ResizeLicenseRequest
	if err := serve.Decode(c.body, &req, "seats"); err != nil {
		return err
	}
	if err := checkNumber("seats", req.Seats, 0, seatsMax); err != nil {
		return err
	}
	return a.changeLicense(w, c, domain.ResizeLicense{License: licenseOf(r), Seats: req.Seats})
}

func (a *API) suspendLicense(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "suspend_license")
	if err != nil {
		return err
	}
	return a.changeLicense(w, c, domain.SuspendLicense{License: licenseOf(r), Reason: reason})
}

func (a *API) reinstateLicense(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "reinstate_license")
	if err != nil {
		return err
	}
	return a.changeLicense(w, c, domain.ReinstateLicense{License: licenseOf(r), Reason: reason})
}

func (a *API) revokeLicense(w http.ResponseWriter, r *http.Request) error {
	c, reason, err := a.reasonCall(r, "revoke_license")
	if err != nil {
		return err
	}
	return a.changeLicense(w, c, domain.RevokeLicense{License: licenseOf(r), Reason: reason})
}

// reasonCall is an operatorCall whose body may be empty or hold a reason.
func (a *API) reasonCall(r *http.Request, name string) (call, string, error) {
	c, err := a.operatorCall(r, name)
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

func (a *API) changeTenant(w http.ResponseWriter, c call, command domain.Command) error {
	answer, err := a.execute(w, c, fixed(command))
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, tenantReply(answer))
}

func (a *API) changeLicense(w http.ResponseWriter, c call, command domain.Command) error {
	answer, err := a.execute(w, c, fixed(command))
	if err != nil {
		return err
	}
	return serve.Reply(w, http.StatusOK, licenseReply(answer))
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

func licenseReply(answer domain.Answer) api.LicenseResponse {
	l := answer.License
	return api.LicenseResponse{License: api.License{
		Id: string(l.ID), Tenant: string(l.Tenant), Product: l.Product, Seats: l.Seats, InUse: l.InUse,
		Status: api.LicenseStatus(l.Status), LeaseSeconds: l.LeaseSeconds, HeartbeatSeconds: l.HeartbeatSeconds(), IssuedAt: l.IssuedAt,
	}}
}

func checkNumber(field string, n, least, most int) error {
	if n < least || n > most {
		return serve.Invalid(field, fmt.Sprintf("The field %q must be %d to %d, not %d.", field, least, most, n))
	}
	return nil
}
