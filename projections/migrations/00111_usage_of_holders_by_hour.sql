-- Why: usage of a user, a machine or a feature is asked for by the hour, too, with the fewest and the most seats at once.
-- Rebuild: derived. The tables read.usage_* are emptied here, and their checkpoints with them: the projector fills them again.

-- +goose Up
TRUNCATE read.usage_licenses, read.usage_leases, read.usage_minutes, read.usage_hours, read.usage_days, read.usage_holders;
DELETE FROM read.checkpoints WHERE projection = 'usage';
-- The rows are hours now, and those of a day make it. There is a row for each hour in which something happened, and for the first hour of
-- each day that began with a seat: whoever held something on a day has rows that day, until nothing happened any more.
ALTER TABLE read.usage_holders
    ADD COLUMN seats_min int NOT NULL, -- seats that it had part in, after each event and when the hour began
    ADD COLUMN seats_max int NOT NULL;
COMMENT ON COLUMN read.usage_holders.at IS 'Of the last event; before start where the hour is silent.';
