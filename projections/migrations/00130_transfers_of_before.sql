-- Why: 00101 added where a license goes, went or came from, and left it empty for those that were transferred before: nobody told the
-- owner of such a ledger that only a rebuild would show it.
-- Rebuild: derived. read.licenses is emptied here, and its checkpoints with it: the projector fills it again.

-- +goose Up
TRUNCATE read.licenses;
DELETE FROM read.checkpoints WHERE projection = 'licenses';
