package queryapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// callerOf says who asks: the operator, or a tenant's key as the read models know it. They lag behind the commands: a key
// that was made a moment ago may not open yet, and one that was revoked a moment ago may still open, for as long as the lag. A
// query that names the position gets it right.
//
// Errors: 401; 503 projection_behind.
func (a *API) callerOf(r *http.Request) (access.Caller, error) {
	bearer, err := serve.Bearer(r)
	if err != nil {
		return access.Caller{}, err
	}
	if a.operator.Is(bearer) {
		return access.Caller{Role: access.Operator}, nil
	}
	key, err := a.keys.Parse(bearer)
	if err != nil {
		return access.Caller{}, serve.Unauthorized("This call needs the operator key (op_…) or a key of the tenant (tk_…); this is none, or it is mistyped or cut off.")
	}
	if err := a.awaitLeast(r, key.Tenant); err != nil {
		return access.Caller{}, err
	}
	return a.prove(r.Context(), key)
}

// errUnknownKey: the read models do not know the key, or know that it has ended.
var errUnknownKey = serve.Unauthorized("This key is not known here, or it was revoked or replaced.")

const keySelect = `
	SELECT role, member, hash FROM read.tenant_keys
	WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL AND (until IS NULL OR until > now())`

// prove returns whose key it is. Errors: errUnknownKey.
func (a *API) prove(ctx context.Context, key identity.Presented) (access.Caller, error) {
	caller := access.Caller{Tenant: key.Tenant}
	stored := domain.StoredKey{ID: key.ID}
	err := pgx.BeginTxFunc(ctx, a.db, snapshotOf(key.Tenant), func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, keySelect, key.Tenant, key.ID).Scan(&caller.Role, &caller.Member, &stored.Hash)
	})
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && !key.Opens(stored)) {
		err = errUnknownKey
	}
	return caller, err
}

// awaitLeast waits until the rows of a tenant are as new as the request asks for. Errors: 400 Ledger-Min-Position, 503
// projection_behind.
func (a *API) awaitLeast(r *http.Request, tenant domain.TenantID) error {
	least, err := a.leastOf(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), waitMax)
	defer cancel()
	for _, position := range least {
		if position.Partition == a.ledger.PartitionOf(tenant) && a.waiting.until(ctx, position) != nil {
			if r.Context().Err() != nil {
				return r.Context().Err()
			}
			a.metrics.behind.Inc()
			return (&behindError{least: position}).problem()
		}
	}
	return nil
}

// stillMay is callerOf and its check once more, for an answer that goes on for long.
func (a *API) stillMay(r *http.Request, p access.Permission, tenant domain.TenantID) error {
	bearer, err := serve.Bearer(r)
	if err != nil || a.operator.Is(bearer) {
		return err
	}
	key, err := a.keys.Parse(bearer)
	if err != nil {
		return err
	}
	caller, err := a.prove(r.Context(), key)
	if err != nil {
		return err
	}
	return caller.Check(p, tenant)
}

// changesAccess reports whether a change that is about to be shown may have ended what a key opens.
func changesAccess(change []byte) bool {
	return bytes.Contains(change, []byte(`"type":"ai.coditect.key.`)) || bytes.Contains(change, []byte(`"type":"ai.coditect.member.`))
}
