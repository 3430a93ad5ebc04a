-- Why: licenses have rules beside their seats, and a lease may take a seat beyond them.
-- Rebuild: derived. TRUNCATE every table of the schema "read" and restart the projector; it replays the journal.

-- +goose Up
ALTER TABLE read.licenses
    ADD COLUMN policy   jsonb NOT NULL DEFAULT '{}', -- as in the events: what is not there is the default
    ADD COLUMN seat_per text  NOT NULL DEFAULT '';   -- of the policy: machine, user, or empty for each lease
UPDATE read.licenses SET policy = jsonb_build_object('lease_seconds', lease_seconds);
ALTER TABLE read.leases ADD COLUMN overage boolean NOT NULL DEFAULT false; -- it took a seat beyond those of the license
