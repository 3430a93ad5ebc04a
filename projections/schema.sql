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
    license_id text NOT NULL,
    "user" text NOT NULL,
    reason text NOT NULL,
    cause text NOT NULL,
    traffic boolean NOT NULL,
    machine text NOT NULL,
    CONSTRAINT audit_entries_pkey PRIMARY KEY (tenant_id, version)
);
CREATE INDEX audit_entries_borrowed ON read.audit_entries USING btree (tenant_id, subject, version) WHERE (type = 'ai.coditect.seat.borrowed.v1'::text);
CREATE INDEX audit_entries_of_actor ON read.audit_entries USING btree (tenant_id, actor, version) WHERE (NOT traffic);
CREATE INDEX audit_entries_of_all ON read.audit_entries USING btree ("time", tenant_id, version) WHERE (NOT traffic);
CREATE INDEX audit_entries_of_license ON read.audit_entries USING btree (tenant_id, subject, version) WHERE (type ~~ 'ai.coditect.license.%'::text);
CREATE INDEX audit_entries_of_license_id ON read.audit_entries USING btree (tenant_id, license_id, version) WHERE (license_id <> ''::text);
CREATE INDEX audit_entries_of_machine ON read.audit_entries USING btree (tenant_id, machine, version) WHERE (machine <> ''::text);
CREATE INDEX audit_entries_of_queue ON read.audit_entries USING btree (tenant_id, subject, version) WHERE (type = ANY (ARRAY['ai.coditect.seat.queued.v1'::text, 'ai.coditect.seat.dequeued.v1'::text]));
CREATE INDEX audit_entries_of_type ON read.audit_entries USING btree (tenant_id, type, version) WHERE (type <> ALL (ARRAY['ai.coditect.seat.acquired.v1'::text, 'ai.coditect.seat.released.v1'::text, 'ai.coditect.seat.expired.v1'::text]));
CREATE INDEX audit_entries_of_user ON read.audit_entries USING btree (tenant_id, "user", version) WHERE ("user" <> ''::text);

CREATE TABLE read.audit_entries_of_feature (
    tenant_id text NOT NULL,
    feature text NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT audit_entries_of_feature_pkey PRIMARY KEY (tenant_id, feature, version)
);

CREATE TABLE read.checkpoints (
    projection text NOT NULL,
    partition integer NOT NULL,
    ledger_id text NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    directory_seq bigint NOT NULL,
    commit_time timestamp with time zone,
    updated_at timestamp with time zone NOT NULL,
    parked_at timestamp with time zone,
    parked_because text,
    CONSTRAINT checkpoints_pkey PRIMARY KEY (projection, partition)
) WITH (fillfactor=50);

CREATE TABLE read.denials (
    tenant_id text NOT NULL,
    version bigint NOT NULL,
    "time" timestamp with time zone NOT NULL,
    license_id text NOT NULL,
    "user" text NOT NULL,
    machine text NOT NULL,
    process text NOT NULL,
    reason text NOT NULL,
    count integer NOT NULL,
    seats integer NOT NULL,
    in_use integer NOT NULL,
    CONSTRAINT denials_pkey PRIMARY KEY (tenant_id, version)
);
CREATE INDEX denials_of_license ON read.denials USING btree (tenant_id, license_id, version);
CREATE INDEX denials_of_machine ON read.denials USING btree (tenant_id, machine, version);
CREATE INDEX denials_of_reason ON read.denials USING btree (tenant_id, reason, version);
CREATE INDEX denials_of_user ON read.denials USING btree (tenant_id, "user", version);

CREATE TABLE read.directory (
    tenant_id text NOT NULL,
    pseudonym text NOT NULL,
    kind text NOT NULL,
    text text NOT NULL,
    CONSTRAINT directory_pkey PRIMARY KEY (tenant_id, pseudonym)
);
CREATE INDEX directory_by_text ON read.directory USING btree (tenant_id, kind, text);

CREATE TABLE read.history (
    tenant_id text NOT NULL,
    kind text NOT NULL,
    id text NOT NULL,
    version bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    until_version bigint,
    until_at timestamp with time zone,
    state jsonb NOT NULL,
    CONSTRAINT history_pkey PRIMARY KEY (tenant_id, kind, id, version),
    CONSTRAINT history_state_check CHECK ((state ? 'status'::text))
);
CREATE INDEX history_present ON read.history USING btree (tenant_id, kind, id) WHERE (until_version IS NULL);

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
    renewed_at timestamp with time zone NOT NULL,
    held int8multirange NOT NULL,
    renewed bigint NOT NULL,
    heartbeats integer NOT NULL,
    span smallint NOT NULL,
    moved_fence bigint,
    features jsonb,
    CONSTRAINT leases_pkey PRIMARY KEY (tenant_id, lease_id)
) WITH (fillfactor=50);
CREATE INDEX leases_active_of_license ON read.leases USING btree (tenant_id, license_id, fence) WHERE (state = 'active'::text);
CREATE INDEX leases_borrowed ON read.leases USING btree (tenant_id, fence) WHERE borrowed;
CREATE UNIQUE INDEX leases_newest ON read.leases USING btree (tenant_id, fence);
CREATE INDEX leases_of_license ON read.leases USING btree (tenant_id, license_id, fence);
CREATE INDEX leases_of_machine ON read.leases USING btree (tenant_id, machine, fence);
CREATE INDEX leases_of_span ON read.leases USING btree (tenant_id, license_id, span, fence);
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
    transfer jsonb NOT NULL,
    CONSTRAINT licenses_pkey PRIMARY KEY (tenant_id, license_id)
);
CREATE INDEX licenses_by_expires_at ON read.licenses USING btree (tenant_id, read.license_expires_at(policy), license_id);
CREATE INDEX licenses_by_issued_at ON read.licenses USING btree (tenant_id, issued_at, license_id);
CREATE INDEX licenses_by_product ON read.licenses USING btree (tenant_id, product COLLATE "C", license_id);

CREATE TABLE read.members (
    tenant_id text NOT NULL,
    "user" text NOT NULL,
    role text NOT NULL,
    invited_at timestamp with time zone NOT NULL,
    removed_at timestamp with time zone,
    CONSTRAINT members_pkey PRIMARY KEY (tenant_id, "user")
);

CREATE TABLE read.queue (
    tenant_id text NOT NULL,
    license_id text NOT NULL,
    "user" text NOT NULL,
    machine text NOT NULL,
    process text NOT NULL,
    priority integer NOT NULL,
    version bigint NOT NULL,
    since timestamp with time zone NOT NULL,
    CONSTRAINT queue_pkey PRIMARY KEY (tenant_id, license_id, "user", machine, process)
);

CREATE TABLE read.seat_counts (
    tenant_id text NOT NULL,
    license_id text NOT NULL,
    seats integer NOT NULL,
    in_use integer NOT NULL,
    CONSTRAINT seat_counts_in_use_check CHECK ((in_use >= 0)),
    CONSTRAINT seat_counts_pkey PRIMARY KEY (tenant_id, license_id)
) WITH (fillfactor=50);

CREATE TABLE read.seat_ends (
    tenant_id text NOT NULL,
    license_id text NOT NULL,
    ended timestamp with time zone[] NOT NULL,
    CONSTRAINT seat_ends_pkey PRIMARY KEY (tenant_id, license_id)
) WITH (fillfactor=70);

CREATE TABLE read.tenant_keys (
    tenant_id text NOT NULL,
    key_id text NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    member text NOT NULL,
    hash bytea,
    created_at timestamp with time zone NOT NULL,
    version bigint NOT NULL,
    until timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT tenant_keys_pkey PRIMARY KEY (tenant_id, key_id)
);
CREATE INDEX tenant_keys_of_member ON read.tenant_keys USING btree (tenant_id, member) WHERE (member <> ''::text);

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

CREATE TABLE read.usage_days (
    tenant_id text NOT NULL,
    license_id text NOT NULL,
    start timestamp with time zone NOT NULL,
    at timestamp with time zone NOT NULL,
    seats_min integer NOT NULL,
    seats_max integer NOT NULL,
    seats_last integer NOT NULL,
    seat_ms bigint NOT NULL,
    over_max integer NOT NULL,
    over_last integer NOT NULL,
    over_ms bigint NOT NULL,
    seats integer NOT NULL,
    acquires integer NOT NULL,
    denials jsonb,
    CONSTRAINT usage_days_pkey PRIMARY KEY (tenant_id, license_id, start)
) WITH (fillfactor=70);

CREATE TABLE read.usage_holders (
    tenant_id text NOT NULL,
    by text NOT NULL,
    license_id text NOT NULL,
    key text NOT NULL,
    start timestamp with time zone NOT NULL,
    at timestamp with time zone NOT NULL,
    seats_last integer NOT NULL,
    seat_ms bigint NOT NULL,
    acquires integer NOT NULL,
    denials jsonb,
    seats_min integer NOT NULL,
    seats_max integer NOT NULL,
    CONSTRAINT usage_holders_pkey PRIMARY KEY (tenant_id, by, license_id, key, start)
) WITH (fillfactor=50);
CREATE INDEX usage_holders_denied ON read.usage_holders USING btree (tenant_id, by, start) WHERE (denials IS NOT NULL);
CREATE INDEX usage_holders_of_day ON read.usage_holders USING btree (tenant_id, by, start);

CREATE TABLE read.usage_hours (
    tenant_id text NOT NULL,
    license_id text NOT NULL,
    start timestamp with time zone NOT NULL,
    at timestamp with time zone NOT NULL,
    seats_min integer NOT NULL,
    seats_max integer NOT NULL,
    seats_last integer NOT NULL,
    seat_ms bigint NOT NULL,
    over_max integer NOT NULL,
    over_last integer NOT NULL,
    over_ms bigint NOT NULL,
    seats integer NOT NULL,
    acquires integer NOT NULL,
    denials jsonb,
    CONSTRAINT usage_hours_pkey PRIMARY KEY (tenant_id, license_id, start)
) WITH (fillfactor=70);

CREATE TABLE read.usage_leases (
    tenant_id text NOT NULL,
    license_id text NOT NULL,
    lease_id text NOT NULL,
    "user" text NOT NULL,
    machine text NOT NULL,
    features text[] NOT NULL,
    seat text,
    CONSTRAINT usage_leases_pkey PRIMARY KEY (tenant_id, license_id, lease_id)
);
CREATE INDEX usage_leases_of_seat ON read.usage_leases USING btree (tenant_id, license_id, seat) WHERE (seat IS NOT NULL);

CREATE TABLE read.usage_licenses (
    tenant_id text NOT NULL,
    license_id text NOT NULL,
    seat_per text NOT NULL,
    CONSTRAINT usage_licenses_pkey PRIMARY KEY (tenant_id, license_id)
);

CREATE TABLE read.usage_minutes (
    tenant_id text NOT NULL,
    license_id text NOT NULL,
    start timestamp with time zone NOT NULL,
    at timestamp with time zone NOT NULL,
    seats_min integer NOT NULL,
    seats_max integer NOT NULL,
    seats_last integer NOT NULL,
    seat_ms bigint NOT NULL,
    over_max integer NOT NULL,
    over_last integer NOT NULL,
    over_ms bigint NOT NULL,
    seats integer NOT NULL,
    acquires integer NOT NULL,
    denials jsonb,
    CONSTRAINT usage_minutes_pkey PRIMARY KEY (tenant_id, license_id, start)
) WITH (fillfactor=90);
