package projections

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/domain"
)

// The roles of the services in Postgres. None owns anything, and none bypasses row-level security: see secure.sql.
const (
	// ProjectorRole writes the rows of all tenants.
	ProjectorRole = "ledger_projector"
	// QueryRole reads the rows of the tenant that the setting app.tenant of its transaction names, and nothing when it names
	// none.
	QueryRole = "ledger_query"
	// StaffRole reads the rows of all tenants.
	StaffRole = "ledger_staff"
)

// OfTenant begins a transaction whose statements all see the rows as they were at its first, and, in the role QueryRole, only
// those of one tenant, whatever they ask for. It is one round trip, and ends with the transaction.
func OfTenant(tenant domain.TenantID) pgx.TxOptions {
	if !domain.ValidTenantID(string(tenant)) {
		panic("not a tenant id: " + tenant) // it would be SQL
	}
	return pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL app.tenant = '" + string(tenant) + "'"}
}

// OfAll is OfTenant for the rows of all tenants.
func OfAll() pgx.TxOptions {
	return pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL ROLE " + StaffRole}
}

//go:embed secure.sql
var secureSQL string

// secure brings roles, policies and grants to what the tables need that are there now. It changes nothing the second time.
func secure(ctx context.Context, db *pgxpool.Pool) error {
	if _, err := db.Exec(ctx, secureSQL); err != nil {
		return fmt.Errorf("secure the read models: %w", err)
	}
	return nil
}
