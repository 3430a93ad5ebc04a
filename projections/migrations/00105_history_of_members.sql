-- Why: who was a member, and with which role, is asked for as of an instant: read.history has members, too, and their id is the pseudonym.
-- Rebuild: derived. read.history is emptied here, and its checkpoints with it: the projector fills it again. Without the invitation
-- of a member there would be nothing that a change of its role could change.

-- +goose Up
TRUNCATE read.history;
DELETE FROM read.checkpoints WHERE projection = 'history';
