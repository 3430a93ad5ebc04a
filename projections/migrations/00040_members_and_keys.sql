-- Why: a tenant's people have keys of their own, and the query side has to know whether one opens.
-- Rebuild: derived. New tables: their projections start at the journal's beginning by themselves.

-- +goose Up
CREATE TABLE read.members (
    tenant_id  text NOT NULL,
    "user"     text NOT NULL, -- pseudonym
    role       text NOT NULL,
    invited_at timestamptz NOT NULL,
    removed_at timestamptz, -- null: a member
    PRIMARY KEY (tenant_id, "user")
);

CREATE TABLE read.tenant_keys (
    tenant_id  text NOT NULL,
    key_id     text NOT NULL,
    name       text NOT NULL,
    role       text NOT NULL,
    member     text NOT NULL, -- pseudonym; empty: nobody's
    hash       bytea, -- null: revoked
    created_at timestamptz NOT NULL,
    version    bigint NOT NULL, -- of the tenant, when it was created
    until      timestamptz, -- null: it was not replaced
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, key_id)
);
CREATE INDEX tenant_keys_of_member ON read.tenant_keys (tenant_id, member) WHERE member <> '';
