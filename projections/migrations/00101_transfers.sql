-- Why: where a license goes, went, or came from is shown with it.
-- Rebuild: licenses and history, where licenses were transferred before: until then that is not shown.

-- +goose Up
-- Fields by their names in read.history; null, or not there: nothing to tell.
ALTER TABLE read.licenses ADD COLUMN transfer jsonb NOT NULL DEFAULT '{}';
