-- What the migrations add up to. Written by: go test ./projections -run TestSchema -update

CREATE SCHEMA archive;
CREATE SCHEMA read;

CREATE TABLE archive.commits (
    partition integer NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    epoch bigint NOT NULL,
    directory bigint NOT NULL,
    prev bytea NOT NULL,
    hash bytea NOT NULL,
    "time" timestamp with time zone,
    body bytea NOT NULL,
    CONSTRAINT commits_pkey PRIMARY KEY (partition, seq)
);
CREATE INDEX commits_of_time ON archive.commits USING brin ("time");
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON archive.commits FOR EACH STATEMENT EXECUTE FUNCTION archive.refuse();
CREATE TRIGGER only_added_to BEFORE DELETE OR UPDATE ON archive.commits FOR EACH ROW EXECUTE FUNCTION archive.refuse();

CREATE TABLE archive.ledger (
    one boolean NOT NULL,
    ledger_id text NOT NULL,
    partitions integer NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT ledger_one_check CHECK (one),
    CONSTRAINT ledger_pkey PRIMARY KEY (one)
);
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON archive.ledger FOR EACH STATEMENT EXECUTE FUNCTION archive.refuse();
CREATE TRIGGER only_added_to BEFORE DELETE OR UPDATE ON archive.ledger FOR EACH ROW EXECUTE FUNCTION archive.refuse();

CREATE TABLE archive.names (
    partition integer NOT NULL,
    seq bigint NOT NULL,
    id text NOT NULL,
    header jsonb,
    body bytea,
    CONSTRAINT names_pkey PRIMARY KEY (partition, seq)
);
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON archive.names FOR EACH STATEMENT EXECUTE FUNCTION archive.refuse();
CREATE TRIGGER only_added_to BEFORE DELETE OR UPDATE ON archive.names FOR EACH ROW EXECUTE FUNCTION archive.refuse();

CREATE TABLE archive.slices (
    tenant_id text NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    partition integer NOT NULL,
    seq bigint NOT NULL,
    index integer NOT NULL,
    start integer NOT NULL,
    length integer NOT NULL,
    CONSTRAINT slices_pkey PRIMARY KEY (tenant_id, first)
);
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON archive.slices FOR EACH STATEMENT EXECUTE FUNCTION archive.refuse();
CREATE TRIGGER only_added_to BEFORE DELETE OR UPDATE ON archive.slices FOR EACH ROW EXECUTE FUNCTION archive.refuse();

CREATE TABLE read.audit_entries (
    tenant_id text NOT NULL,
    version bigint NOT NULL,
    partition integer NOT NULL,
    seq bigint NOT NULL,
    index integer NOT NULL,
    type text NOT NULL,
    "time" timestamp with time zone NOT NULL,
    subject text NOT NULL,
    actor text NOT NULL,
    command text NOT NULL,
    event text NOT NULL,
    before jsonb,
    after jsonb,
    CONSTRAINT audit_entries_pkey PRIMARY KEY (tenant_id, version)
);
CREATE INDEX audit_entries_of_license ON read.audit_entries USING btree (tenant_id, subject, version) WHERE (type ~~ 'ai.coditect.license.%'::text);

CREATE TABLE read.checkpoints (
    projection text NOT NULL,
    partition integer NOT NULL,
    ledger_id text NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    directory_seq bigint NOT NULL,
    commit_time timestamp with time zone,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT checkpoints_pkey PRIMARY KEY (projection, partition)
) WITH (fillfactor=50);

CREATE TABLE read.directory (
    tenant_id text NOT NULL,
    pseudonym text NOT NULL,
    kind text NOT NULL,
    text text NOT NULL,
    CONSTRAINT directory_pkey PRIMARY KEY (tenant_id, pseudonym)
);

CREATE TABLE read.leases (
    tenant_id text NOT NULL,
    lease_id text NOT NULL,
    license_id text NOT NULL,
    fence bigint NOT NULL,
    "user" text NOT NULL,
    machine text NOT NULL,
    process text NOT NULL,
    state text NOT NULL,
    acquired_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    overage boolean NOT NULL,
    borrowed boolean NOT NULL,
    CONSTRAINT leases_pkey PRIMARY KEY (tenant_id, lease_id)
) WITH (fillfactor=75);
CREATE INDEX leases_active_of_license ON read.leases USING btree (tenant_id, license_id, fence) WHERE (state = 'active'::text);
CREATE UNIQUE INDEX leases_newest ON read.leases USING btree (tenant_id, fence);
CREATE INDEX leases_of_license ON read.leases USING btree (tenant_id, license_id, fence);
CREATE INDEX leases_of_state ON read.leases USING btree (tenant_id, state, fence);

CREATE TABLE read.licenses (
    tenant_id text NOT NULL,
    license_id text NOT NULL,
    product text NOT NULL,
    status text NOT NULL,
    lease_seconds integer NOT NULL,
    issued_at timestamp with time zone NOT NULL,
    policy jsonb NOT NULL,
    seat_per text NOT NULL,
    CONSTRAINT licenses_pkey PRIMARY KEY (tenant_id, license_id)
);

CREATE TABLE read.seat_counts (
    tenant_id text NOT NULL,
    license_id text NOT NULL,
    seats integer NOT NULL,
    in_use integer NOT NULL,
    CONSTRAINT seat_counts_in_use_check CHECK ((in_use >= 0)),
    CONSTRAINT seat_counts_pkey PRIMARY KEY (tenant_id, license_id)
) WITH (fillfactor=50);

CREATE TABLE read.tenants (
    tenant_id text NOT NULL,
    name text NOT NULL,
    status text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id)
) WITH (fillfactor=70);
