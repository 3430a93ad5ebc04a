-- Why: a large batch renews all leases of a page in one transaction. Those for which the page had no room moved to another page, and
-- into all nine indexes again: the table and its indexes became larger than with the room that this leaves.
-- Rebuild: nothing. Pages that are there keep what room they have.

-- +goose Up
ALTER TABLE read.leases SET (fillfactor = 50);
ALTER TABLE read.usage_holders SET (fillfactor = 50);
