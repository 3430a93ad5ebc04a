package projections_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

// ofNobody are the tables that hold nothing of a tenant, and that every service may read; and those of the archive, which hold
// something of all, and which only the projector may read.
var ofNobody = []string{"checkpoints", "ledger", "commits", "names"}

// The catalog of Postgres, not the code: whoever adds a table or a view to the schema "read" gets row-level security under it
// by Migrate, as long as the table has a column tenant_id.
func TestNothingIsOpenToAll(t *testing.T) {
	f := setup(t)
	f.checkNothingIsOpen(t)
	f.busy(100)
	f.project(t, projections.Options{})
	if _, err := projections.Rebuild(deadline(t), projections.RebuildOptions{DB: f.db, Store: f.store, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	f.checkNothingIsOpen(t)
	mustBe(t, "tenants that a query sees", inTransaction(t, projectionstest.As(t, f.db, projections.QueryRole), `SET LOCAL app.tenant = 'tenant1'`,
		`SELECT string_agg(tenant_id, ' ') FROM read.tenants`), "tenant1")
}

func (f fixture) checkNothingIsOpen(t *testing.T) {
	t.Helper()
	roles := "'" + strings.Join([]string{projections.ProjectorRole, projections.QueryRole, projections.StaffRole}, "','") + "'"
	for what, sql := range map[string]string{
		"a table without tenant_id; if it holds nothing of tenants add it to ofNobody, else give it tenant_id as the first column of its key": `
			SELECT string_agg(c.relname, ', ') FROM pg_class c
			WHERE c.relnamespace IN ('read'::regnamespace, 'archive'::regnamespace) AND c.relkind IN ('r', 'p') AND c.relname <> ALL (ARRAY['` + strings.Join(ofNobody, "','") + `'])
				AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')`,
		"a table whose key does not begin with tenant_id": `
			SELECT string_agg(c.relname, ', ') FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid AND i.indisunique
			JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
			WHERE c.relnamespace IN ('read'::regnamespace, 'archive'::regnamespace) AND c.relname <> ALL (ARRAY['` + strings.Join(ofNobody, "','") + `']) AND a.attname <> 'tenant_id'`,
		"a table of tenants without ENABLE and FORCE ROW LEVEL SECURITY, or without its three policies": `
			SELECT string_agg(c.relname, ', ') FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
			WHERE c.relnamespace IN ('read'::regnamespace, 'archive'::regnamespace) AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity
				AND 3 = (SELECT count(*) FROM pg_policies p WHERE p.tablename = c.relname AND p.schemaname = c.relnamespace::regnamespace::text
					AND (p.policyname, p.roles[1], p.cmd) IN (('projector', 'ledger_projector', 'ALL'), ('tenant', 'ledger_query', 'SELECT'), ('staff', 'ledger_staff', 'SELECT'))))`,
		"a policy that is not one of the three, or lets a tenant see another": `
			SELECT string_agg(tablename || '.' || policyname, ', ') FROM pg_policies
			WHERE schemaname IN ('read', 'archive') AND (policyname NOT IN ('projector', 'tenant', 'staff') OR array_length(roles, 1) <> 1 OR
				policyname = 'tenant' AND qual <> $q$(tenant_id = NULLIF(current_setting('app.tenant'::text, true), ''::text))$q$)`,
		"a view that reads with its owner's rights": `
			SELECT string_agg(c.relname, ', ') FROM pg_class c WHERE c.relnamespace IN ('read'::regnamespace, 'archive'::regnamespace) AND c.relkind = 'v'
				AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)`,
		"a materialized view or foreign table, which no policy covers": `
			SELECT string_agg(c.relname, ', ') FROM pg_class c WHERE c.relnamespace IN ('read'::regnamespace, 'archive'::regnamespace) AND c.relkind IN ('m', 'f')`,
		"a function with its owner's rights": `
			SELECT string_agg(p.proname, ', ') FROM pg_proc p WHERE p.pronamespace IN ('read'::regnamespace, 'archive'::regnamespace) AND p.prosecdef
				AND NOT (p.proname IN ('stored', 'slices_before', 'commit_at') AND p.proconfig && '{search_path=pg_catalog,"search_path=\"\""}')`,
		"a service role that may do more than it has to": `
			SELECT string_agg(rolname, ', ') FROM pg_roles WHERE rolname IN (` + roles + `)
				AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication)`,
		"a service role that is a member of another role": `
			SELECT string_agg(m.member::regrole::text, ', ') FROM pg_auth_members m WHERE m.member::regrole::text IN (` + roles + `)`,
		"something that a service role owns": `
			SELECT string_agg(d.classid::regclass || ' ' || d.objid, ', ') FROM pg_shdepend d
			WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND d.refobjid::regrole::text IN (` + roles + `)`,
		"a table of the archive that others than the projector may read": `
			SELECT string_agg(c.relname, ', ') FROM pg_class c WHERE c.relnamespace = 'archive'::regnamespace AND c.relkind = 'r' AND c.relname <> 'slices'
				AND (has_table_privilege('ledger_query', c.oid, 'SELECT') OR has_table_privilege('ledger_staff', c.oid, 'SELECT'))`,
		"a table that everybody may read": `
			SELECT string_agg(c.relname, ', ') FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace IN ('read'::regnamespace, 'archive'::regnamespace) AND a.grantee = 0`,
	} {
		if got := f.value(t, sql); got != "null" {
			t.Errorf("there is %s: %s", what, got)
		}
	}
}

// tablesOf returns the tables with rows of tenants.
func (f fixture) tablesOf(t *testing.T) []string {
	t.Helper()
	tables := strings.Fields(f.value(t, `SELECT string_agg(DISTINCT c.relname, ' ') FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
		WHERE c.relnamespace = 'read'::regnamespace AND c.relkind IN ('r', 'p')`))
	if len(tables) < 8 {
		t.Fatalf("only %d tables", len(tables))
	}
	return tables
}

// inTransaction runs statements in one transaction of a role and returns the text of the last one's answer, or the error.
func inTransaction(t *testing.T, db *pgxpool.Pool, statements ...string) (answer string) {
	t.Helper()
	err := pgx.BeginFunc(deadline(t), db, func(tx pgx.Tx) error {
		for _, sql := range statements[:len(statements)-1] {
			if _, err := tx.Exec(deadline(t), sql); err != nil {
				return err
			}
		}
		return tx.QueryRow(deadline(t), statements[len(statements)-1]).Scan(&answer)
	})
	if err != nil {
		return "error: " + err.Error()
	}
	return answer
}

func TestATenantSeesItsOwnRowsOnly(t *testing.T) {
	f := setup(t)
	for _, tenant := range []domain.TenantID{"acme", "globex"} {
		f.Name(tenant, "u_ada", "user", "ada")
		f.Create(tenant, "lic_1", 1)
		f.Acquire(tenant, "lic_1", "ada")
		f.Do(tenant, domain.InviteMember{User: "u_ada", Role: domain.RoleAdmin})
		f.Do(tenant, domain.CreateTenantKey{Key: domain.StoredKey{ID: "k1", Hash: []byte{1}}, Name: "k", Member: "u_ada"})
	}
	f.Commit()
	// The projector works in its own role.
	if err := projections.NewRunner(projections.Options{DB: projectionstest.As(t, f.db, projections.ProjectorRole), Store: f.store}).CatchUp(deadline(t)); err != nil {
		t.Fatal(err)
	}
	f.checkSame(t)
	query, staff := projectionstest.As(t, f.db, projections.QueryRole), projectionstest.As(t, f.db, projections.StaffRole)
	for _, table := range f.tablesOf(t) {
		names := `SELECT coalesce(string_agg(DISTINCT tenant_id, ' ' ORDER BY tenant_id), 'none') FROM read.` + table
		all := f.value(t, names)
		one := strings.Fields(all)[0]
		if table == "tenants" || table == "leases" || table == "tenant_keys" || table == "directory" {
			mustBe(t, table, all, "acme globex")
		}
		mustBe(t, table+" of acme", inTransaction(t, query, `SET LOCAL app.tenant = 'acme'`, names), one)
		// Neither before, nor after, nor with a tenant that is not there.
		mustBe(t, table+" afterwards", inTransaction(t, query, names), "none")
		mustBe(t, table+" of nobody", inTransaction(t, query, `SET LOCAL app.tenant = 'nobody'`, names), "none")
		mustBe(t, table+" of all", inTransaction(t, staff, names), all)
		for who, db := range map[string]*pgxpool.Pool{"query": query, "staff": staff} {
			for _, write := range []string{`DELETE FROM read.` + table, `TRUNCATE read.` + table, `UPDATE read.` + table + ` SET tenant_id = 'acme'`, `DROP TABLE read.` + table} {
				if got := inTransaction(t, db, `SET LOCAL app.tenant = 'acme'`, write, `SELECT 'done'`); !strings.Contains(got, "permission denied") && !strings.Contains(got, "must be owner") {
					t.Errorf("%s may: %s: %s", who, write, got)
				}
			}
		}
	}
}

// A schema whose owner is no superuser, as in a hosted Postgres; and a service whose user only is a member of its role.
func TestAnOrdinaryOwnerMigrates(t *testing.T) {
	t.Parallel()
	db := projectionstest.New(t)
	name := db.Config().ConnConfig.Database
	owner, login := "owner_of_"+name, "login_of_"+name
	for _, sql := range []string{
		`DROP SCHEMA read CASCADE; DROP SCHEMA archive CASCADE; DROP TABLE read_migrations`,
		fmt.Sprintf(`CREATE ROLE %s CREATEROLE; CREATE ROLE %s; ALTER DATABASE %s OWNER TO %[1]s; ALTER SCHEMA public OWNER TO %[1]s`, owner, login, name),
		// The roles are there already, because they are the cluster's: who made them lets the owner give them away.
		fmt.Sprintf(`GRANT ledger_projector, ledger_query, ledger_staff TO %s WITH ADMIN OPTION; GRANT ledger_query TO %s`, owner, login),
	} {
		if _, err := db.Exec(deadline(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_, err := db.Exec(context.Background(), fmt.Sprintf(`REASSIGN OWNED BY %s TO CURRENT_USER; DROP OWNED BY %[1]s; DROP OWNED BY %s; DROP ROLE %[1]s, %[2]s`, owner, login))
		if err != nil {
			t.Error(err)
		}
	})
	service := projectionstest.As(t, db, login)
	for range 2 {
		if err := projections.Migrate(deadline(t), projectionstest.As(t, db, owner)); err != nil {
			t.Fatal(err)
		}
		if err := projections.Migrate(deadline(t), service); err != nil {
			t.Errorf("a service that owns nothing: %v", err)
		}
	}
	f := fixture{db: db}
	mustBe(t, "owners", f.value(t, `SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class WHERE relnamespace = 'read'::regnamespace`), owner)
	if _, err := db.Exec(deadline(t), `DELETE FROM read_migrations WHERE version_id = (SELECT max(version_id) FROM read_migrations)`); err != nil {
		t.Fatal(err)
	}
	if err := projections.Migrate(deadline(t), service); err == nil || !strings.Contains(err.Error(), "as the owner") {
		t.Errorf("a schema that is too old: %v", err)
	}
}
