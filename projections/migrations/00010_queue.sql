-- Why: who waits for a seat, and how long that may take.
-- Rebuild: derived. TRUNCATE read.queue and read.seat_ends, delete the checkpoints of "queue", restart the projector.

-- +goose Up
CREATE TABLE read.queue (
    tenant_id  text        NOT NULL,
    license_id text        NOT NULL,
    "user"     text        NOT NULL, -- pseudonyms
    machine    text        NOT NULL,
    process    text        NOT NULL, -- empty when the holder has none
    priority   int         NOT NULL, -- a higher one comes first
    version    bigint      NOT NULL, -- the tenant's version at which it came: among those of a priority the lower one comes first
    since      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, license_id, "user", machine, process)
);

CREATE TABLE read.seat_ends (
    tenant_id  text          NOT NULL,
    license_id text          NOT NULL,
    ended      timestamptz[] NOT NULL, -- when the last 32 leases ended, oldest first
    PRIMARY KEY (tenant_id, license_id)
) WITH (fillfactor = 70);
