-- Requests with an Idempotency-Key, and what was answered.
CREATE TABLE idempotency_keys (
  tenant         TEXT NOT NULL,
  key            TEXT NOT NULL,
  body_sha256    BLOB NOT NULL,
  answer         TEXT NOT NULL,                  -- JSON: [[event, deliveries], …]
  received_at_ms INTEGER NOT NULL,
  PRIMARY KEY (tenant, key)
) WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (received_at_ms);

-- What is kept of a tenant, and what of it was pruned, by the state in which it ended.
ALTER TABLE ledgers ADD COLUMN events_kept INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_kept INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN events_pruned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN fan_out_pruned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN delivered_pruned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN dropped_pruned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN dead_pruned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN cancelled_pruned INTEGER NOT NULL DEFAULT 0;

INSERT INTO ledgers (tenant) SELECT id FROM tenants WHERE true ON CONFLICT DO NOTHING;
UPDATE ledgers SET
  events_kept = (SELECT COUNT(*) FROM events e WHERE e.tenant = ledgers.tenant),
  bytes_kept = (SELECT COALESCE(SUM(LENGTH(payload)), 0) FROM events e WHERE e.tenant = ledgers.tenant);
