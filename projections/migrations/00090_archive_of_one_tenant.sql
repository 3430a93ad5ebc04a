-- Why: a tenant's events are read from commits that hold those of others, too.
-- Rebuild: no rows.

-- +goose Up
-- The events of a slice as stored, of the tenant that the setting app.tenant names; null when it has no such slice. Who may call this
-- needs no right to read the commits.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION archive.stored(first_version bigint) RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT substr(c.body, s.start + 1, s.length)
    FROM archive.slices s JOIN archive.commits c USING (partition, seq)
    WHERE s.tenant_id = nullif(current_setting('app.tenant', true), '') AND s.first = first_version
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION archive.stored FROM PUBLIC;
