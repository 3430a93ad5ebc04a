-- Why: a seat may be held offline, which the page shows. Reservations are in the policy, which is here already.
-- Rebuild: derived. TRUNCATE every table of the schema "read" and restart the projector; it replays the journal.

-- +goose Up
ALTER TABLE read.leases ADD COLUMN borrowed boolean NOT NULL DEFAULT false; -- it is, or was at its end, held offline
