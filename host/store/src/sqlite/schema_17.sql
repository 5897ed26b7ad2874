-- Tables whose rows may be large, by rowid, as attempts are. SQLite compares keys of a table without rowid by reading the whole
-- row, however long it is: finding one of a thousand rejected requests of 256 KiB read megabytes.
CREATE TABLE rejected_requests_by_rowid (
  tenant         TEXT NOT NULL,
  id             BLOB NOT NULL,
  received_at_ms INTEGER NOT NULL,
  reason         TEXT NOT NULL,
  truncated      INTEGER NOT NULL,
  body           BLOB NOT NULL,
  PRIMARY KEY (tenant, id)
);
INSERT INTO rejected_requests_by_rowid SELECT tenant, id, received_at_ms, reason, truncated, body FROM rejected_requests;
DROP TABLE rejected_requests;
ALTER TABLE rejected_requests_by_rowid RENAME TO rejected_requests;

CREATE TABLE bin_requests_by_rowid (
  bin            TEXT NOT NULL,
  id             BLOB NOT NULL,
  received_at_ms INTEGER NOT NULL,
  head           TEXT NOT NULL,                   -- JSON: method, path, query, headers, remote address, size
  body           BLOB NOT NULL,
  PRIMARY KEY (bin, id)
);
INSERT INTO bin_requests_by_rowid SELECT bin, id, received_at_ms, head, body FROM bin_requests;
DROP TABLE bin_requests;
ALTER TABLE bin_requests_by_rowid RENAME TO bin_requests;
CREATE INDEX bin_requests_by_age ON bin_requests (received_at_ms);

CREATE TABLE bins_by_rowid (
  id            TEXT PRIMARY KEY,                 -- what the receiving URL holds: cannot be guessed
  tenant        TEXT NOT NULL,
  settings      TEXT NOT NULL,                    -- JSON
  created_at_ms INTEGER NOT NULL,
  received      INTEGER NOT NULL DEFAULT 0        -- ever: which answer of a script is next
);
INSERT INTO bins_by_rowid SELECT id, tenant, settings, created_at_ms, received FROM bins;
DROP TABLE bins;
ALTER TABLE bins_by_rowid RENAME TO bins;
CREATE INDEX bins_of_tenant ON bins (tenant, id);

CREATE TABLE changes_by_rowid (
  tenant  TEXT NOT NULL,                          -- '': the host's own
  id      BLOB NOT NULL,
  at_ms   INTEGER NOT NULL,
  who     TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  before  TEXT,                                   -- JSON
  after   TEXT,                                   -- JSON
  PRIMARY KEY (tenant, id)
);
INSERT INTO changes_by_rowid SELECT tenant, id, at_ms, who, action, subject, before, after FROM changes;
DROP TABLE changes;
ALTER TABLE changes_by_rowid RENAME TO changes;

CREATE TABLE subscriptions_by_rowid (
  tenant           TEXT NOT NULL,
  id               BLOB NOT NULL,
  settings         TEXT NOT NULL,                 -- JSON, without secrets
  sealed           BLOB NOT NULL,                 -- signing secrets and plugin secrets, encrypted
  state            INTEGER NOT NULL,              -- 0 active, 1 paused, 2 disabled
  state_reason     TEXT,
  paused_at_ms     INTEGER,                       -- when the age clock stopped
  generation       INTEGER NOT NULL,
  created_at_ms    INTEGER NOT NULL,
  failing_since_ms INTEGER,
  PRIMARY KEY (tenant, id)
);
INSERT INTO subscriptions_by_rowid
  SELECT tenant, id, settings, sealed, state, state_reason, paused_at_ms, generation, created_at_ms, failing_since_ms FROM subscriptions;
DROP TABLE subscriptions;
ALTER TABLE subscriptions_by_rowid RENAME TO subscriptions;

CREATE TABLE plugin_versions_by_rowid (
  tenant        TEXT NOT NULL,
  name          TEXT NOT NULL,
  sha256        TEXT NOT NULL,
  size          INTEGER NOT NULL,
  report        TEXT NOT NULL,                    -- JSON: what the check found
  created_at_ms INTEGER NOT NULL,
  created_by    TEXT NOT NULL,
  PRIMARY KEY (tenant, name, sha256)
);
INSERT INTO plugin_versions_by_rowid SELECT tenant, name, sha256, size, report, created_at_ms, created_by FROM plugin_versions;
DROP TABLE plugin_versions;
ALTER TABLE plugin_versions_by_rowid RENAME TO plugin_versions;
CREATE INDEX plugin_versions_of_component ON plugin_versions (sha256);

CREATE TABLE idempotency_keys_by_rowid (
  tenant         TEXT NOT NULL,
  key            TEXT NOT NULL,
  body_sha256    BLOB NOT NULL,
  answer         TEXT NOT NULL,                   -- JSON: [[event, deliveries], …]
  received_at_ms INTEGER NOT NULL,
  PRIMARY KEY (tenant, key)
);
INSERT INTO idempotency_keys_by_rowid SELECT tenant, key, body_sha256, answer, received_at_ms FROM idempotency_keys;
DROP TABLE idempotency_keys;
ALTER TABLE idempotency_keys_by_rowid RENAME TO idempotency_keys;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (received_at_ms);
