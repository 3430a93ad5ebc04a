-- Why: what was true at an instant begins with the commit that a time means, and ends with the last heartbeats before it. Both are in the
-- archive only, whose commits hold the events of many tenants: these functions give out of it what is asked for and no more.
-- Rebuild: no rows.

-- +goose Up

-- The last commit of a partition at or before a time, 0 when there is none, and where the archive of the partition ends. It halves the
-- commits until there is one left, because times never run backwards.
-- +goose StatementBegin
CREATE FUNCTION read.commit_at(of int, at timestamptz, OUT seq bigint, OUT archived bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    later bigint; -- a commit that is not in time
    middle bigint;
BEGIN
    SELECT coalesce(max(c.seq), 0) INTO archived FROM archive.commits c WHERE c.partition = of;
    seq := 0;
    later := archived + 1;
    WHILE seq + 1 < later LOOP
        middle := (seq + later) / 2;
        IF (SELECT c.time FROM archive.commits c WHERE c.partition = of AND c.seq = middle) <= at THEN
            seq := middle;
        ELSE
            later := middle;
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd

-- The slices of a tenant that begin before a version, newest first. app.tenant has to name the tenant.
-- +goose StatementBegin
CREATE FUNCTION read.slices_before(tenant text, before bigint, most int)
RETURNS TABLE (first bigint, "time" timestamptz, stored bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    RETURN QUERY
        SELECT s.first, c.time, substr(c.body, s.start + 1, s.length)
        FROM archive.slices s JOIN archive.commits c ON c.partition = s.partition AND c.seq = s.seq
        WHERE s.tenant_id = tenant AND tenant = nullif(current_setting('app.tenant', true), '') AND s.first < before
        ORDER BY s.first DESC LIMIT most;
END $$;
-- +goose StatementEnd
