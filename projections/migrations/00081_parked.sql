-- Why: a projection that cannot apply a commit may be set aside, so that the others go on.
-- Rebuild: derived, with nothing to fill.

-- +goose Up
ALTER TABLE read.checkpoints
    ADD COLUMN parked_at      timestamptz, -- null: it is not
    ADD COLUMN parked_because text;
