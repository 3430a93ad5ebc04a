-- Why: the timeline is asked for the events of a license, a user, a type or an actor, the audit for those of all tenants, and
-- a lease for its whole life.
-- Rebuild: derived. read.audit_entries and read.leases are emptied here, and their checkpoints with them: the projector fills
-- them again.

-- +goose Up
TRUNCATE read.audit_entries, read.leases;
DELETE FROM read.checkpoints WHERE projection IN ('audit_entries', 'leases');
ALTER TABLE read.leases ADD COLUMN renewed_at timestamptz NOT NULL; -- when it was acquired, borrowed, revived or its last heartbeat came
ALTER TABLE read.audit_entries
    ADD COLUMN license_id text    NOT NULL, -- that it is about; empty when it is about none
    ADD COLUMN "user"     text    NOT NULL, -- pseudonym of whom it is about; empty when it is about nobody, or several
    ADD COLUMN reason     text    NOT NULL, -- that somebody gave, or why it was refused; empty when there is none
    ADD COLUMN cause      text    NOT NULL, -- what led to it, of events with several causes; empty else
    ADD COLUMN traffic    boolean NOT NULL; -- about a seat, by a program or by time: no part of the audit of all tenants

CREATE INDEX audit_entries_of_license_id ON read.audit_entries (tenant_id, license_id, version) WHERE license_id <> '';
CREATE INDEX audit_entries_of_user ON read.audit_entries (tenant_id, "user", version) WHERE "user" <> '';
-- The types that most entries have are found soon without an index.
CREATE INDEX audit_entries_of_type ON read.audit_entries (tenant_id, type, version)
    WHERE type NOT IN ('ai.coditect.seat.acquired.v1', 'ai.coditect.seat.released.v1', 'ai.coditect.seat.expired.v1');
CREATE INDEX audit_entries_of_actor ON read.audit_entries (tenant_id, actor, version) WHERE NOT traffic;
CREATE INDEX audit_entries_of_all ON read.audit_entries (time, tenant_id, version) WHERE NOT traffic;

-- A tenant's events are in the order of time, so an instant is a place among its versions: returns the version up to which
-- the entries are before it. It halves its way there, so no index on time is needed.
-- +goose StatementBegin
CREATE FUNCTION read.version_before(of_tenant text, instant timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    low bigint := 0; -- entries up to here are before the instant
    high bigint := coalesce((SELECT max(version) FROM read.audit_entries WHERE tenant_id = of_tenant), 0); -- those after here are not
    mid bigint;
    entry record;
BEGIN
    WHILE low < high LOOP
        mid := (low + high + 1) / 2;
        SELECT version, time INTO entry FROM read.audit_entries
        WHERE tenant_id = of_tenant AND version <= mid AND version > low ORDER BY version DESC LIMIT 1;
        IF NOT FOUND OR entry.time < instant THEN
            low := mid;
        ELSE
            high := entry.version - 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;
-- +goose StatementEnd
