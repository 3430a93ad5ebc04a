-- Why: a forecast of what is wanted counts, by day, the users who were refused for lack of a seat.
-- Rebuild: derived, like 00050.

-- +goose Up
CREATE INDEX usage_holders_denied ON read.usage_holders (tenant_id, by, start) WHERE denials IS NOT NULL;
