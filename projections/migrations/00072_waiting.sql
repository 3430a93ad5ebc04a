-- Why: who waited for a seat when somebody was refused one is found in the events that begin and end the waiting.
-- Rebuild: no rows.

-- +goose Up
CREATE INDEX audit_entries_of_queue ON read.audit_entries (tenant_id, subject, version)
    WHERE type IN ('ai.coditect.seat.queued.v1', 'ai.coditect.seat.dequeued.v1');
