-- Why: who was denied a seat, when and why, is listed by license, user, machine and reason.
-- Rebuild: derived. A new projection: it begins at the first commit by itself.

-- +goose Up
CREATE TABLE read.denials (
    tenant_id  text        NOT NULL,
    version    bigint      NOT NULL, -- of its event, which is its id
    time       timestamptz NOT NULL,
    license_id text        NOT NULL,
    "user"     text        NOT NULL, -- pseudonyms
    machine    text        NOT NULL,
    process    text        NOT NULL, -- empty when the program gave none
    reason     text        NOT NULL,
    count      int         NOT NULL, -- of refusals that it stands for
    seats      int         NOT NULL, -- of the license then
    in_use     int         NOT NULL,
    PRIMARY KEY (tenant_id, version)
);
CREATE INDEX denials_of_license ON read.denials (tenant_id, license_id, version);
CREATE INDEX denials_of_user ON read.denials (tenant_id, "user", version);
CREATE INDEX denials_of_machine ON read.denials (tenant_id, machine, version);
CREATE INDEX denials_of_reason ON read.denials (tenant_id, reason, version);
