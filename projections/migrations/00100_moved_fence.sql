-- Why: a lease of a license that came from another tenant has a fence that goes on above those given out there.
-- Rebuild: no rows; null is right for all that there are.

-- +goose Up
-- The fence of the lease, where it is not the version in "fence", which is that of the event with which the tenant got it.
ALTER TABLE read.leases ADD COLUMN moved_fence bigint;
