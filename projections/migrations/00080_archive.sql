-- Why: a second copy of the journal, from which read models and a lost journal can be made again, and by which one tenant's history is found
-- without reading everybody's.
-- Rebuild: no. What is here may be the last copy. It outlives the schema "read" and its migrations, so this may run again.

-- +goose Up
CREATE SCHEMA IF NOT EXISTS archive;

-- The ledger that is archived here: one row.
CREATE TABLE IF NOT EXISTS archive.ledger (
    one        boolean     NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    ledger_id  text        NOT NULL,
    partitions int         NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS archive.commits (
    partition int         NOT NULL,
    seq       bigint      NOT NULL,
    id        uuid        NOT NULL,
    epoch     bigint      NOT NULL,
    directory bigint      NOT NULL, -- the names up to here belong to the commits up to this one
    prev      bytea       NOT NULL,
    hash      bytea       NOT NULL, -- SHA-256 of prev and body
    time      timestamptz,          -- null: the body cannot be read, and no slice of it is known
    body      bytea       NOT NULL, -- as stored
    PRIMARY KEY (partition, seq)
);
CREATE INDEX IF NOT EXISTS commits_of_time ON archive.commits USING brin (time);

-- Where a tenant's events are.
CREATE TABLE IF NOT EXISTS archive.slices (
    tenant_id text   NOT NULL,
    first     bigint NOT NULL, -- version of its first event
    last      bigint NOT NULL,
    partition int    NOT NULL,
    seq       bigint NOT NULL,
    index     int    NOT NULL, -- of the first event in the commit, from 0
    start     int    NOT NULL, -- of the slice in the body, in bytes
    length    int    NOT NULL,
    PRIMARY KEY (tenant_id, first)
);

-- The records of the directories.
CREATE TABLE IF NOT EXISTS archive.names (
    partition int    NOT NULL,
    seq       bigint NOT NULL,
    id        text   NOT NULL, -- empty: the record was erased before it came here
    header    jsonb,
    body      bytea,           -- null: erased, because a person was forgotten
    PRIMARY KEY (partition, seq)
);

-- +goose StatementBegin
DO $$ BEGIN
    ALTER TABLE archive.commits ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL; -- a Postgres built without it: pglz, which is slower
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION archive.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'names' THEN
        IF NEW.body IS NULL AND (NEW.partition, NEW.seq, NEW.id, NEW.header) IS NOT DISTINCT FROM (OLD.partition, OLD.seq, OLD.id, OLD.header) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the archive is only added to: % of archive.% refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd

CREATE OR REPLACE TRIGGER only_added_to BEFORE UPDATE OR DELETE ON archive.ledger FOR EACH ROW EXECUTE FUNCTION archive.refuse();
CREATE OR REPLACE TRIGGER never_emptied BEFORE TRUNCATE ON archive.ledger EXECUTE FUNCTION archive.refuse();
CREATE OR REPLACE TRIGGER only_added_to BEFORE UPDATE OR DELETE ON archive.commits FOR EACH ROW EXECUTE FUNCTION archive.refuse();
CREATE OR REPLACE TRIGGER never_emptied BEFORE TRUNCATE ON archive.commits EXECUTE FUNCTION archive.refuse();
CREATE OR REPLACE TRIGGER only_added_to BEFORE UPDATE OR DELETE ON archive.slices FOR EACH ROW EXECUTE FUNCTION archive.refuse();
CREATE OR REPLACE TRIGGER never_emptied BEFORE TRUNCATE ON archive.slices EXECUTE FUNCTION archive.refuse();
CREATE OR REPLACE TRIGGER only_added_to BEFORE UPDATE OR DELETE ON archive.names FOR EACH ROW EXECUTE FUNCTION archive.refuse();
CREATE OR REPLACE TRIGGER never_emptied BEFORE TRUNCATE ON archive.names EXECUTE FUNCTION archive.refuse();
