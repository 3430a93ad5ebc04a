-- Why: the first read models: tenants, licenses, leases, seats in use, the audit timeline and the names behind pseudonyms.
-- Rebuild: derived. TRUNCATE every table of the schema "read" and restart the projector; it replays the journal.

-- +goose Up
CREATE SCHEMA read;

-- Where each projection stands in each partition. The row is locked by whoever applies the next batch.
CREATE TABLE read.checkpoints (
    projection    text        NOT NULL,
    partition     int         NOT NULL,
    ledger_id     text        NOT NULL,
    seq           bigint      NOT NULL,
    hash          bytea       NOT NULL,
    directory_seq bigint      NOT NULL, -- the names up to here belong to the commits up to seq
    commit_time   timestamptz,          -- of commit seq; null before the first
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (projection, partition)
) WITH (fillfactor = 50);

CREATE TABLE read.tenants (
    tenant_id  text        NOT NULL,
    name       text        NOT NULL,
    status     text        NOT NULL,
    created_at timestamptz NOT NULL,
    version    bigint      NOT NULL, -- of the tenant's last event
    PRIMARY KEY (tenant_id)
) WITH (fillfactor = 70);

CREATE TABLE read.licenses (
    tenant_id     text        NOT NULL,
    license_id    text        NOT NULL,
    product       text        NOT NULL,
    status        text        NOT NULL,
    lease_seconds int         NOT NULL,
    issued_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, license_id)
);

CREATE TABLE read.seat_counts (
    tenant_id  text NOT NULL,
    license_id text NOT NULL,
    seats      int  NOT NULL,
    in_use     int  NOT NULL CHECK (in_use >= 0), -- may pass seats after a resize below use
    PRIMARY KEY (tenant_id, license_id)
) WITH (fillfactor = 50);

-- A heartbeat changes expires_at only, which no index holds, so that it is a heap-only update.
CREATE TABLE read.leases (
    tenant_id   text        NOT NULL,
    lease_id    text        NOT NULL,
    license_id  text        NOT NULL,
    fence       bigint      NOT NULL, -- the tenant's version at the acquire: newest first is descending fence
    "user"      text        NOT NULL, -- pseudonyms; read.directory has the text
    machine     text        NOT NULL,
    process     text        NOT NULL, -- empty when the program gave none
    state       text        NOT NULL,
    acquired_at timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    ended_at    timestamptz,          -- null while active
    PRIMARY KEY (tenant_id, lease_id)
) WITH (fillfactor = 75);
CREATE UNIQUE INDEX leases_newest ON read.leases (tenant_id, fence);
CREATE INDEX leases_of_state ON read.leases (tenant_id, state, fence);
CREATE INDEX leases_of_license ON read.leases (tenant_id, license_id, fence);
CREATE INDEX leases_active_of_license ON read.leases (tenant_id, license_id, fence) WHERE state = 'active';

-- Every event of a tenant but heartbeats.
CREATE TABLE read.audit_entries (
    tenant_id text        NOT NULL,
    version   bigint      NOT NULL,
    partition int         NOT NULL,
    seq       bigint      NOT NULL,
    index     int         NOT NULL, -- in the commit, from 0
    type      text        NOT NULL,
    time      timestamptz NOT NULL,
    subject   text        NOT NULL, -- license or lease; empty for the tenant itself
    actor     text        NOT NULL,
    command   text        NOT NULL,
    event     text        NOT NULL, -- the stored bytes; jsonb would not keep them
    before    jsonb,                -- the fields that changed
    after     jsonb,
    PRIMARY KEY (tenant_id, version)
);
CREATE INDEX audit_entries_of_license ON read.audit_entries (tenant_id, subject, version)
    WHERE type LIKE 'ai.coditect.license.%';

CREATE TABLE read.directory (
    tenant_id text NOT NULL,
    pseudonym text NOT NULL,
    kind      text NOT NULL,
    text      text NOT NULL,
    PRIMARY KEY (tenant_id, pseudonym)
);
