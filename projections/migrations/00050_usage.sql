-- Why: usage over time: exact peaks, seat-seconds, acquires and denials, of each tenant and license by minute, hour and day,
-- and of each user, machine and feature by day.
-- Rebuild: derived. TRUNCATE the tables read.usage_*, delete the checkpoints of the projection "usage" and restart the projector.

-- +goose Up
-- What takes a seat of a license, as of the projection's own position: that of read.licenses may be ahead.
CREATE TABLE read.usage_licenses (
    tenant_id  text NOT NULL,
    license_id text NOT NULL,
    seat_per   text NOT NULL,
    PRIMARY KEY (tenant_id, license_id)
);

-- The active leases, as of the projection's own position.
CREATE TABLE read.usage_leases (
    tenant_id  text   NOT NULL,
    license_id text   NOT NULL,
    lease_id   text   NOT NULL,
    "user"     text   NOT NULL,
    machine    text   NOT NULL,
    features   text[] NOT NULL,
    seat       text,            -- the user or machine whose seat it shares; null when it has its own
    PRIMARY KEY (tenant_id, license_id, lease_id)
);
CREATE INDEX usage_leases_of_seat ON read.usage_leases (tenant_id, license_id, seat) WHERE seat IS NOT NULL;

-- A row is there for each bucket in which something happened. From "at" to the next row everything stayed as it was last.
-- The newest row is the state that the next batch goes on from.
CREATE TABLE read.usage_minutes (
    tenant_id   text        NOT NULL,
    license_id  text        NOT NULL, -- empty: the tenant as a whole
    start       timestamptz NOT NULL,
    at          timestamptz NOT NULL, -- of the last event in the bucket
    seats_min   int         NOT NULL, -- seats in use, after each event and when the bucket began
    seats_max   int         NOT NULL,
    seats_last  int         NOT NULL,
    seat_ms     bigint      NOT NULL, -- seats × milliseconds from start to at
    over_max    int         NOT NULL, -- seats in use beyond those of the license
    over_last   int         NOT NULL,
    over_ms     bigint      NOT NULL,
    seats       int         NOT NULL, -- of the license, at the end
    acquires    int         NOT NULL,
    denials     jsonb,                -- by reason; null: none
    PRIMARY KEY (tenant_id, license_id, start)
) WITH (fillfactor = 90);
CREATE TABLE read.usage_hours (LIKE read.usage_minutes INCLUDING ALL) WITH (fillfactor = 70);
CREATE TABLE read.usage_days (LIKE read.usage_minutes INCLUDING ALL) WITH (fillfactor = 70);

-- The seats that a user, machine or feature has part in, by day: a row for each day on which there was one, or a denial.
CREATE TABLE read.usage_holders (
    tenant_id  text        NOT NULL,
    by         text        NOT NULL, -- user, machine or feature
    license_id text        NOT NULL,
    key        text        NOT NULL, -- a pseudonym, or the feature
    start      timestamptz NOT NULL,
    at         timestamptz NOT NULL,
    seats_last int         NOT NULL,
    seat_ms    bigint      NOT NULL,
    acquires   int         NOT NULL,
    denials    jsonb,
    PRIMARY KEY (tenant_id, by, license_id, key, start)
) WITH (fillfactor = 70);
CREATE INDEX usage_holders_of_day ON read.usage_holders (tenant_id, by, start);
