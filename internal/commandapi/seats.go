package commandapi

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
	"github.com/coditect-ai/license-ledger/projections"
)

func (a *API) acquireSeat(w http.ResponseWriter, r *http.Request) error {
	c, key, err := a.licenseCall(r, "acquire_seat")
	if err != nil {
		return err
	}
	var req api.AcquireRequest
	if err := serve.Decode(c.body, &req, "user", "machine"); err != nil {
		return err
	}
	process := ""
	if req.Process != nil {
		process = *req.Process
	}
	err = firstError(checkText("user", req.User, 1, nameMax), checkText("machine", req.Machine, 1, nameMax), checkText("process", process, 0, nameMax))
	if err != nil {
		return err
	}
	until := time.Time{}
	if req.BorrowUntil != nil {
		until = *instant(req.BorrowUntil)
	}
	var features []string
	if req.Features != nil {
		if features, err = checkFeatures(*req.Features); err != nil {
			return err
		}
	}
	if req.WaitSeconds != nil {
		if err := checkNumber("wait_seconds", *req.WaitSeconds, 1, waitSecondsMax); err != nil {
			return err
		}
		c.wait(w, time.Duration(*req.WaitSeconds)*time.Second)
	}
	var now time.Time
	result, err := a.execute(w, c, func(s eventstore.Scope) (domain.Command, error) {
		l, err := opened(key, s)
		if err != nil {
			return nil, err
		}
		if now = s.Now; req.BorrowUntil != nil && !until.After(now) {
			return nil, serve.Invalid("borrow_until", fmt.Sprintf(`The field "borrow_until" must be after now, which is %s.`, now.Format(time.RFC3339)))
		}
		return domain.AcquireSeat{License: l.ID, Lease: domain.LeaseID(newID("lse_")), Features: features, BorrowUntil: until, Holder: domain.Holder{
			User:    s.Pseudonym(eventstore.UserName, req.User),
			Machine: s.Pseudonym(eventstore.MachineName, req.Machine),
			Process: s.Pseudonym(eventstore.ProcessName, process),
		}}, nil
	})
	if err != nil {
		return err
	}
	answer, status := result.Answer, http.StatusOK
	if answer.Created {
		status = http.StatusCreated
		now = answer.Lease.AcquiredAt // also in the recorded answer
	}
	if len(features) == 0 {
		features = append([]string{}, answer.License.Features...)
	}
	body, err := encodeAcquired(&api.AcquireResponse{
		Lease: a.leaseReply(c.tenant, *answer.Lease), HeartbeatSeconds: answer.License.SuggestedHeartbeat(), Features: features,
		ExpiresInSeconds: expiresIn(answer.Lease, now),
	})
	if err != nil {
		return err
	}
	return serve.ReplyEncoded(w, status, body)
}

// expiresIn returns how long a lease runs after a decision.
func expiresIn(l *domain.Lease, decided time.Time) api.ExpiresIn {
	return max(0, l.ExpiresAt.Sub(decided).Seconds())
}

func (a *API) heartbeatSeats(w http.ResponseWriter, r *http.Request) error {
	c, key, err := a.licenseCall(r, heartbeatSeats)
	if err != nil {
		return err
	}
	c.urgent = true
	return a.leases(w, c, key, leasesMax, func(l domain.LicenseID, ids []domain.LeaseID, fence uint64) domain.Command {
		return domain.HeartbeatSeats{License: l, Leases: ids, Fence: fence}
	})
}

func (a *API) releaseSeats(w http.ResponseWriter, r *http.Request) error {
	c, key, err := a.licenseCall(r, releaseSeats)
	if err != nil {
		return err
	}
	c.urgent = true
	return a.leases(w, c, key, releaseMax, func(l domain.LicenseID, ids []domain.LeaseID, fence uint64) domain.Command {
		return domain.ReleaseSeats{License: l, Leases: ids, Fence: fence}
	})
}

// The names of commands about leases, in metrics.
const (
	heartbeatSeats = "heartbeat_seats"
	releaseSeats   = "release_seats"
)

const (
	// leasesMax is how many leases one request may name.
	leasesMax = 1000
	// releaseMax is how many one command releases: each leaves an event of its own, and they have to fit in a commit.
	releaseMax = 250
)

// leases does one heartbeat or release: for one lease, answered by status, or for many, answered one by one.
func (a *API) leases(w http.ResponseWriter, c call, key identity.Presented, atOnce int, command func(l domain.LicenseID, ids []domain.LeaseID, fence uint64) domain.Command) error {
	var req api.LeasesRequest
	if err := serve.Decode(c.body, &req); err != nil {
		return err
	}
	ids, err := leaseIDs(req)
	if err != nil {
		return err
	}
	fence := uint64(0)
	if req.Fence != nil {
		if req.Lease == nil || *req.Fence < 1 {
			return serve.Invalid("fence", `The field "fence" must be the fence of the lease in "lease".`)
		}
		fence = uint64(*req.Fence)
	}
	var outcomes []domain.LeaseOutcome
	var now time.Time
	heartbeat := 0
	for part := range slices.Chunk(ids, atOnce) {
		var moved *domain.Transfer
		result, err := a.execute(w, c, func(s eventstore.Scope) (domain.Command, error) {
			l, err := opened(key, s)
			if err != nil {
				return nil, err
			}
			now, heartbeat, moved = s.Now, l.SuggestedHeartbeat(), l.MovedUntil(s.Now)
			return command(l.ID, part, fence), nil
		})
		if err != nil {
			return err
		}
		if moved != nil {
			there, err := a.askThere(c.Request, moved, c.name, result.Answer.Leases, fence)
			if err != nil {
				if c.part > 0 {
					err = afterPart(err)
				}
				return err
			}
			if there.Lease != nil && req.Lease != nil {
				return replyOne(w, there.LeasesResponse)
			}
		}
		outcomes = append(outcomes, result.Answer.Leases...)
		c.part++
	}
	if req.Lease != nil {
		if rejected := outcomes[0].Rejected; rejected != nil {
			return problemOfRejection(rejected)
		}
		return replyOne(w, a.oneLease(c.tenant, outcomes[0].Lease, now, heartbeat))
	}
	body, err := encodeResults(outcomes)
	if err != nil {
		return err
	}
	return serve.ReplyEncoded(w, http.StatusOK, body)
}

// oneLease answers a call about one lease.
func (a *API) oneLease(tenant domain.TenantID, l *domain.Lease, now time.Time, heartbeat int) api.LeasesResponse {
	lease := a.leaseReply(tenant, *l)
	reply := api.LeasesResponse{Lease: &lease}
	if lease.State == api.LeaseStateActive {
		left := expiresIn(l, now)
		reply.ExpiresInSeconds, reply.HeartbeatSeconds = &left, &heartbeat
	}
	return reply
}

func replyOne(w http.ResponseWriter, reply api.LeasesResponse) error {
	body, err := encodeLeases(&reply)
	if err != nil {
		return err
	}
	return serve.ReplyEncoded(w, http.StatusOK, body)
}

func leaseIDs(req api.LeasesRequest) ([]domain.LeaseID, error) {
	switch {
	case req.Lease != nil && req.Leases != nil:
		return nil, serve.Invalid("leases", `Send "lease" or "leases", not both.`)
	case req.Lease != nil:
		return []domain.LeaseID{domain.LeaseID(*req.Lease)}, checkText("lease", *req.Lease, 1, idMax)
	case req.Leases == nil:
		return nil, serve.Invalid("lease", `The field "lease" (or "leases") is missing.`)
	}
	if n := len(*req.Leases); n < 1 || n > leasesMax {
		return nil, serve.Invalid("leases", fmt.Sprintf(`The field "leases" must hold 1 to %d leases, not %d.`, leasesMax, n))
	}
	ids := make([]domain.LeaseID, len(*req.Leases))
	for i, id := range *req.Leases {
		if checkText("", id, 1, idMax) != nil {
			return nil, checkText(fmt.Sprintf("leases[%d]", i), id, 1, idMax)
		}
		ids[i] = domain.LeaseID(id)
	}
	return ids, nil
}

func (a *API) leaseReply(tenant domain.TenantID, l domain.Lease) api.Lease {
	return projections.ShowLease(l, func(p domain.Pseudonym) string { return a.ledger.Text(tenant, p) })
}
