-- Why: every read model can be asked as of an instant. A lease says between which of its tenant's versions it was held; tenants
-- and licenses have a row for each time that something was true of them.
-- Rebuild: derived. read.leases is emptied here, and its checkpoints with it: the projector fills it again. read.history begins at
-- the first commit by itself.

-- +goose Up
TRUNCATE read.leases;
DELETE FROM read.checkpoints WHERE projection = 'leases';
ALTER TABLE read.leases
    ADD COLUMN held       int8multirange NOT NULL, -- versions of the tenant at which it was active; more than one range when it was revived
    ADD COLUMN renewed    bigint         NOT NULL, -- the version that set expires_at and borrowed
    ADD COLUMN heartbeats int            NOT NULL, -- so far
    -- The number of bits of how many versions passed from its acquire to its end; 62 while it is active. What was held at version v
    -- and has the span s was acquired after v - 2^s: so an index finds it, whatever became of it since.
    ADD COLUMN span       smallint       NOT NULL GENERATED ALWAYS AS (
        CASE WHEN upper_inf(held) THEN 62 ELSE length(ltrim((upper(held) - fence)::bit(64)::text, '0')) END) STORED;
CREATE INDEX leases_of_span ON read.leases (tenant_id, license_id, span, fence);

CREATE AGGREGATE read.merged(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb, INITCOND = '{}');

CREATE TABLE read.history (
    tenant_id     text        NOT NULL,
    kind          text        NOT NULL, -- tenant or license
    id            text        NOT NULL, -- empty for the tenant itself
    version       bigint      NOT NULL, -- the tenant's version from which on it was so, and when that was
    at            timestamptz NOT NULL,
    until_version bigint,               -- from which on it was not; null: it is so
    until_at      timestamptz,
    state         jsonb       NOT NULL CHECK (state ? 'status'), -- every field; null: it has its default
    PRIMARY KEY (tenant_id, kind, id, version)
);
CREATE INDEX history_present ON read.history (tenant_id, kind, id) WHERE until_version IS NULL;
CREATE INDEX audit_entries_borrowed ON read.audit_entries (tenant_id, subject, version) WHERE type = 'ai.coditect.seat.borrowed.v1';
