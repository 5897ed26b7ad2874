-- Bytes kept for each tenant, by kind. The writer's transactions and the triggers of store/usage.rs keep them exact.
ALTER TABLE ledgers ADD COLUMN bytes_of_events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_of_deliveries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_of_attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_of_plugins INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_of_subscriptions INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_of_bins INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_of_rejected_requests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_of_idempotency_keys INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_of_changes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_of_access INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledgers ADD COLUMN bytes_of_statistics INTEGER NOT NULL DEFAULT 0;
INSERT INTO ledgers (tenant) SELECT id FROM tenants WHERE true ON CONFLICT DO NOTHING;

-- A tenant that is being deleted: nothing is written for it any more, and its rows go in steps.
ALTER TABLE tenants ADD COLUMN deleting_since_ms INTEGER;
ALTER TABLE ledgers ADD COLUMN deleting INTEGER NOT NULL DEFAULT 0;

-- Finds out whether another version has the same component.
CREATE INDEX plugin_versions_of_component ON plugin_versions (sha256);

-- Finds the sessions and links of a key, which are bounded for each key and end with it.
CREATE INDEX sessions_of_key ON sessions (key, created_at_ms);
CREATE INDEX sign_in_links_of_key ON sign_in_links (key, expires_at_ms);

-- Revoked credentials were kept for ever and read by nobody. The log of changes says who revoked them.
DELETE FROM sessions WHERE key NOT IN (SELECT id FROM keys WHERE revoked_at_ms IS NULL);
DELETE FROM sign_in_links WHERE key NOT IN (SELECT id FROM keys WHERE revoked_at_ms IS NULL);
DELETE FROM keys WHERE revoked_at_ms IS NOT NULL;
DELETE FROM intake_tokens WHERE revoked_at_ms IS NOT NULL;
