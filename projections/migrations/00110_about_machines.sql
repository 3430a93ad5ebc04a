-- Why: the timeline is asked for the events of a machine or a feature, so that their usage can be followed to the events behind it.
-- Rebuild: derived. read.audit_entries and read.leases are emptied here, and their checkpoints with them: the projector fills
-- them again.

-- +goose Up
TRUNCATE read.audit_entries, read.leases;
DELETE FROM read.checkpoints WHERE projection IN ('audit_entries', 'leases');
ALTER TABLE read.leases ADD COLUMN features jsonb; -- a list of those that were asked for; null: none
ALTER TABLE read.audit_entries ADD COLUMN machine text NOT NULL; -- pseudonym of the one that it is about; empty when it is about none, or several
CREATE INDEX audit_entries_of_machine ON read.audit_entries (tenant_id, machine, version) WHERE machine <> '';

-- The features that an entry is about. Most are about none, and some about several: they have rows, and an index, of their own.
CREATE TABLE read.audit_entries_of_feature (
    tenant_id text   NOT NULL,
    feature   text   NOT NULL,
    version   bigint NOT NULL,
    PRIMARY KEY (tenant_id, feature, version)
);
