-- Why: lists are filtered and sorted, and each order and each filter that may leave out much has an index.
-- Rebuild: derived. TRUNCATE every table of the schema "read" and restart the projector; it replays the journal.

-- +goose Up

-- When a license of this policy ends; infinity when it has no end. Immutable, because times in policies name their zone.
CREATE FUNCTION read.license_expires_at(policy jsonb) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(nullif((policy ->> 'expires_at')::timestamptz, '0001-01-01T00:00:00Z'), 'infinity');

CREATE INDEX tenants_by_name ON read.tenants ((lower(name) COLLATE "C"), tenant_id);
CREATE INDEX tenants_by_created_at ON read.tenants (created_at, tenant_id);
CREATE INDEX licenses_by_product ON read.licenses (tenant_id, product COLLATE "C", license_id);
CREATE INDEX licenses_by_issued_at ON read.licenses (tenant_id, issued_at, license_id);
CREATE INDEX licenses_by_expires_at ON read.licenses (tenant_id, read.license_expires_at(policy), license_id);
CREATE INDEX leases_of_user ON read.leases (tenant_id, "user", fence);
CREATE INDEX leases_of_machine ON read.leases (tenant_id, machine, fence);
CREATE INDEX leases_overage ON read.leases (tenant_id, fence) WHERE overage;
CREATE INDEX leases_borrowed ON read.leases (tenant_id, fence) WHERE borrowed;
CREATE INDEX directory_by_text ON read.directory (tenant_id, kind, text);
