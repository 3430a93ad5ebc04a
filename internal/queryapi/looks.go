package queryapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/mux"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// reasonHeader is where staff says why it reads what belongs to a tenant.
const reasonHeader = "Ledger-Reason"

const (
	// reasonMax is the longest reason, in characters.
	reasonMax = 500
	// recordFor is how long a query waits until it is recorded. The command side gives up after 10 s.
	recordFor = 11 * time.Second
	// looksKnownMax is how many looks of the hour are remembered; beyond it they are asked about again.
	looksKnownMax = 100_000
)

// looks has what staff reads recorded in the tenant's journal: of each tenant, permission and reason once an hour, so that a screen
// that asks every second leaves one event. This process remembers what was recorded; that it is recorded once however many processes and
// restarts there are, the Idempotency-Key sees to.
type looks struct {
	nc   *nats.Conn
	seal identity.Seal

	mu    sync.Mutex
	hour  time.Time
	known map[access.Look]struct{} // recorded in this hour
}

// noted has what staff reads of the path's tenant recorded before h answers.
func (a *API) noted(p access.Permission, h serve.Handler) serve.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, ok := mux.Vars(r)["tenant"]; ok {
			tenant, err := tenantOf(r)
			if err != nil {
				return err
			}
			if err := a.note(r, p, tenant); err != nil {
				return err
			}
		}
		return h(w, r)
	}
}

// note has a read recorded, if it is one of staff: it is answered only after that.
//
// Errors: 400 reason_required, 404 tenant_not_found, 503 read_not_recorded.
func (a *API) note(r *http.Request, p access.Permission, tenant domain.TenantID) error {
	if access.CallerOf(r.Context()).Role != access.Operator {
		return nil
	}
	reason, err := reasonOf(r)
	if err != nil {
		return err
	}
	return a.looks.record(r.Context(), access.Look{Tenant: tenant, Permission: p, Reason: reason}, time.Now())
}

func reasonOf(r *http.Request) (string, error) {
	reason := strings.TrimSpace(r.Header.Get(reasonHeader))
	if reason == "" {
		p := serve.NewProblem(http.StatusBadRequest, "reason_required", "Say why",
			"What staff reads of a tenant is recorded in its journal, with the reason: send one in the header "+reasonHeader+".")
		p.Field = reasonHeader
		return "", p
	}
	if !utf8.ValidString(reason) {
		latin1 := make([]rune, 0, len(reason))
		for _, b := range []byte(reason) {
			latin1 = append(latin1, rune(b))
		}
		reason = string(latin1) // as browsers send it
	}
	if utf8.RuneCountInString(reason) > reasonMax || strings.ContainsFunc(reason, unicode.IsControl) {
		return "", serve.Invalid(reasonHeader, fmt.Sprintf("The header %s must be at most %d characters, without control characters.", reasonHeader, reasonMax))
	}
	return reason, nil
}

// record returns when a look is in the journal.
func (l *looks) record(ctx context.Context, look access.Look, now time.Time) error {
	hour := now.UTC().Truncate(time.Hour)
	if l.knows(look, hour) {
		return nil
	}
	body, err := json.Marshal(look, json.Deterministic(true))
	if err != nil {
		return err
	}
	msg := nats.NewMsg(access.LooksSubject)
	msg.Data = body
	msg.Header.Set(access.HeaderSeal, l.seal.Of(body))
	sum := sha256.Sum256(append(hour.AppendFormat(nil, time.RFC3339), body...))
	msg.Header.Set("Idempotency-Key", "look-"+base64.RawURLEncoding.EncodeToString(sum[:]))
	msg.Header.Set("X-Request-Id", serve.RequestID(ctx))
	asking, cancel := context.WithTimeout(ctx, recordFor)
	defer cancel()
	reply, err := l.nc.RequestMsgWithContext(asking, msg)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return notRecorded()
	}
	switch status, _ := strconv.Atoi(reply.Header.Get(access.HeaderStatus)); status {
	case http.StatusOK:
		l.remember(look, hour)
		return nil
	case http.StatusNotFound:
		return noTenant(look.Tenant)
	default:
		return notRecorded()
	}
}

func notRecorded() *serve.Problem {
	p := serve.NewProblem(http.StatusServiceUnavailable, "read_not_recorded", "This read cannot be recorded now",
		"What staff reads of a tenant is shown only after it is recorded, and the command side does not take that now. Try again in a moment.")
	p.RetryAfterSeconds = 1
	return p
}

func (l *looks) knows(look access.Look, hour time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.known[look]
	return known && l.hour.Equal(hour)
}

func (l *looks) remember(look access.Look, hour time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hour.Equal(hour) || len(l.known) >= looksKnownMax {
		l.hour, l.known = hour, map[access.Look]struct{}{}
	}
	l.known[look] = struct{}{}
}
