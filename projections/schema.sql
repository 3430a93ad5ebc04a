-- What the migrations add up to. Written by: go test ./projections -run TestSchema -update

CREATE SCHEMA read;

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
CREATE INDEX directory_by_text ON read.directory USING btree (tenant_id, kind, text);

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
CREATE INDEX leases_borrowed ON read.leases USING btree (tenant_id, fence) WHERE borrowed;
CREATE UNIQUE INDEX leases_newest ON read.leases USING btree (tenant_id, fence);
CREATE INDEX leases_of_license ON read.leases USING btree (tenant_id, license_id, fence);
CREATE INDEX leases_of_machine ON read.leases USING btree (tenant_id, machine, fence);
CREATE INDEX leases_of_state ON read.leases USING btree (tenant_id, state, fence);
CREATE INDEX leases_of_user ON read.leases USING btree (tenant_id, "user", fence);
CREATE INDEX leases_overage ON read.leases USING btree (tenant_id, fence) WHERE overage;

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
CREATE INDEX licenses_by_expires_at ON read.licenses USING btree (tenant_id, read.license_expires_at(policy), license_id);
CREATE INDEX licenses_by_issued_at ON read.licenses USING btree (tenant_id, issued_at, license_id);
CREATE INDEX licenses_by_product ON read.licenses USING btree (tenant_id, product COLLATE "C", license_id);

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
CREATE INDEX tenants_by_created_at ON read.tenants USING btree (created_at, tenant_id);
CREATE INDEX tenants_by_name ON read.tenants USING btree (lower(name) COLLATE "C", tenant_id);
