-- Row-level security under all read models. It runs after the migrations, each time, and does what is not done yet: so a new
-- table needs no line of its own. A table with a column tenant_id holds tenants' rows; no service role sees more of it than
-- its policy says. Those of the schema "read" without one hold none, and every role may read them. Those of the archive without
-- one hold everybody's commits, and only the projector may read them: archive.stored gives a tenant its own part.
--
-- Who is no member of a role sees nothing at all: a table that this has not reached yet is closed, not open.
DO $$
DECLARE
    role  text;
    t     record;
    -- An empty setting is what a transaction leaves behind that set it: it names no tenant.
    mine  constant text := $q$tenant_id = nullif(current_setting('app.tenant', true), '')$q$;
BEGIN
    PERFORM pg_advisory_xact_lock(5041377116123); -- one at a time; else two would make the same policy
    FOREACH role IN ARRAY ARRAY['ledger_projector', 'ledger_query', 'ledger_staff'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- roles are the cluster's: another database's ledger made it just now
            END;
        END IF;
        -- The owner may act as each of them: one DATABASE_URL is enough for all services.
        IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
            EXECUTE format('GRANT %I TO %I', role, current_user);
        END IF;
        IF NOT has_schema_privilege(role, 'read', 'USAGE') OR NOT has_schema_privilege(role, 'archive', 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA read, archive TO %I', role);
        END IF;
        IF NOT has_table_privilege(role, 'read_migrations', 'SELECT') THEN
            EXECUTE format('GRANT SELECT ON read_migrations TO %I', role);
        END IF;
    END LOOP;
    FOR t IN
        SELECT c.oid::regclass AS name, c.relrowsecurity AND c.relforcerowsecurity AS secured,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped) AS of_tenants,
            EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'projector') AS has_projector,
            EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant') AS has_tenant,
            EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'staff') AS has_staff,
            has_table_privilege('ledger_projector', c.oid, 'SELECT') AND has_table_privilege('ledger_projector', c.oid, 'INSERT')
                AND has_table_privilege('ledger_projector', c.oid, 'UPDATE') AS granted,
            has_table_privilege('ledger_projector', c.oid, 'DELETE') AND has_table_privilege('ledger_projector', c.oid, 'TRUNCATE') AS granted_all,
            has_table_privilege('ledger_query', c.oid, 'SELECT') AND has_table_privilege('ledger_staff', c.oid, 'SELECT') AS readable,
            c.relnamespace = 'archive'::regnamespace AS archived
        FROM pg_class c WHERE c.relnamespace IN ('read'::regnamespace, 'archive'::regnamespace) AND c.relkind IN ('r', 'p')
    LOOP
        IF t.of_tenants THEN
            IF NOT t.secured THEN
                EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t.name);
            END IF;
            IF NOT t.has_projector THEN
                EXECUTE format('CREATE POLICY projector ON %s TO ledger_projector USING (true) WITH CHECK (true)', t.name);
            END IF;
            IF NOT t.has_tenant THEN
                EXECUTE format('CREATE POLICY tenant ON %s FOR SELECT TO ledger_query USING (%s)', t.name, mine);
            END IF;
            IF NOT t.has_staff THEN
                EXECUTE format('CREATE POLICY staff ON %s FOR SELECT TO ledger_staff USING (true)', t.name);
            END IF;
        END IF;
        IF NOT t.granted THEN
            EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %s TO ledger_projector', t.name);
        END IF;
        IF NOT t.granted_all AND NOT t.archived THEN
            EXECUTE format('GRANT DELETE, TRUNCATE ON %s TO ledger_projector', t.name);
        END IF;
        IF NOT t.readable AND (t.of_tenants OR NOT t.archived) THEN
            EXECUTE format('GRANT SELECT ON %s TO ledger_query, ledger_staff', t.name);
        END IF;
    END LOOP;
    -- Indexes are on functions of the schema, too. Under row-level security Postgres compares by such an index only when it trusts
    -- the function to tell nobody of the rows it sees, and only a superuser may say so. Without, it reads the tenant's part of the index.
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        FOR t IN
            SELECT p.oid::regprocedure AS name FROM pg_proc p
            WHERE p.pronamespace = 'read'::regnamespace AND p.prokind = 'f' AND p.provolatile = 'i' AND NOT p.proleakproof
        LOOP
            EXECUTE format('ALTER FUNCTION %s LEAKPROOF', t.name);
        END LOOP;
    END IF;
    IF NOT has_function_privilege('ledger_query', 'archive.stored(bigint)', 'EXECUTE') THEN
        GRANT EXECUTE ON FUNCTION archive.stored TO ledger_projector, ledger_query;
    END IF;
    -- A view reads with the rights of who asks, not of its owner.
    FOR t IN
        SELECT c.oid::regclass AS name FROM pg_class c
        WHERE c.relnamespace IN ('read'::regnamespace, 'archive'::regnamespace) AND c.relkind = 'v'
            AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)
    LOOP
        EXECUTE format('ALTER VIEW %s SET (security_invoker = true)', t.name);
        EXECUTE format('GRANT SELECT ON %s TO ledger_projector, ledger_query, ledger_staff', t.name);
    END LOOP;
END $$;
