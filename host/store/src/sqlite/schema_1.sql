-- Times are milliseconds since the epoch. Ids are 16-byte uuids (version 7, so they sort by time).

-- Written by each readiness check: only a write that changes something is flushed, and only a flush tells.
CREATE TABLE readiness (
  only_row      INTEGER PRIMARY KEY,
  checked_at_ms INTEGER NOT NULL
);

CREATE TABLE tenants (
  id                TEXT PRIMARY KEY,
  extra_event_names TEXT NOT NULL,               -- JSON: {"Contact is Deleted": "Contact"}
  created_at_ms     INTEGER NOT NULL
) WITHOUT ROWID;

-- Only hashes: a stolen database opens no door.
CREATE TABLE keys (
  id            BLOB PRIMARY KEY,
  tenant        TEXT,                            -- null: an admin key
  hash          BLOB NOT NULL UNIQUE,
  hint          TEXT NOT NULL,                   -- the first characters, to tell keys apart
  scopes        TEXT NOT NULL,                   -- JSON: ["send", "read", "manage"]
  label         TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  revoked_at_ms INTEGER
) WITHOUT ROWID;

CREATE TABLE intake_tokens (
  tenant        TEXT NOT NULL,
  id            BLOB NOT NULL,
  hash          BLOB NOT NULL UNIQUE,
  hint          TEXT NOT NULL,
  label         TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  revoked_at_ms INTEGER,
  PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

CREATE TABLE subscriptions (
  tenant        TEXT NOT NULL,
  id            BLOB NOT NULL,
  settings      TEXT NOT NULL,                   -- JSON, without secrets
  sealed        BLOB NOT NULL,                   -- signing secrets and plugin secrets, encrypted
  state         INTEGER NOT NULL,                -- 0 active, 1 paused, 2 disabled
  state_reason  TEXT,
  paused_at_ms  INTEGER,                         -- when the age clock stopped
  generation    INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- Components by content; tenants that upload the same bytes share a row but never see each other's versions.
CREATE TABLE components (
  sha256 TEXT PRIMARY KEY,
  bytes  BLOB NOT NULL
);

CREATE TABLE plugin_versions (
  tenant        TEXT NOT NULL,
  name          TEXT NOT NULL,
  sha256        TEXT NOT NULL,
  size          INTEGER NOT NULL,
  report        TEXT NOT NULL,                   -- JSON: what the check found
  created_at_ms INTEGER NOT NULL,
  created_by    TEXT NOT NULL,
  PRIMARY KEY (tenant, name, sha256)
) WITHOUT ROWID;

CREATE TABLE plugins (
  tenant          TEXT NOT NULL,
  name            TEXT NOT NULL,
  active_sha256   TEXT NOT NULL,
  activated_at_ms INTEGER NOT NULL,
  PRIMARY KEY (tenant, name)
) WITHOUT ROWID;

-- The last component that came from each file of the plugins folder: the same file does not come twice, so a restart
-- never undoes an activation by API.
CREATE TABLE plugin_files (
  tenant TEXT NOT NULL,
  name   TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  PRIMARY KEY (tenant, name)
) WITHOUT ROWID;

CREATE TABLE events (
  tenant         TEXT NOT NULL,
  id             BLOB NOT NULL,
  name           TEXT NOT NULL,
  module         TEXT NOT NULL,
  entity_id      TEXT,
  received_at_ms INTEGER NOT NULL,
  fan_out        INTEGER NOT NULL,               -- how many deliveries the accept transaction made; never changes
  payload        BLOB NOT NULL,
  PRIMARY KEY (tenant, id)
);

CREATE TABLE deliveries (
  tenant          TEXT NOT NULL,
  id              BLOB NOT NULL,
  event           BLOB NOT NULL,
  subscription    BLOB NOT NULL,
  state           INTEGER NOT NULL,              -- 0 pending, 1 delivered, 2 dropped, 3 dead, 4 cancelled
  due_at_ms       INTEGER NOT NULL,
  awaiting_plugin INTEGER NOT NULL DEFAULT 0,    -- 1: due when version or config changes, at the latest at due_at_ms
  attempts_made   INTEGER NOT NULL DEFAULT 0,    -- ever
  budget_spent    INTEGER NOT NULL DEFAULT 0,    -- of the schedule, since it was last made pending by hand
  age_from_ms     INTEGER NOT NULL,
  reason          TEXT,                          -- JSON: {"code", "message"} of the last attempt or of the end
  created_at_ms   INTEGER NOT NULL,
  updated_at_ms   INTEGER NOT NULL,
  PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

CREATE INDEX deliveries_due ON deliveries (tenant, subscription, due_at_ms, id) WHERE state = 0;
CREATE INDEX deliveries_of_subscription ON deliveries (tenant, subscription, id);
CREATE INDEX deliveries_of_event ON deliveries (tenant, event);

CREATE TABLE attempts (
  tenant   TEXT NOT NULL,
  delivery BLOB NOT NULL,
  number   INTEGER NOT NULL,
  detail   TEXT NOT NULL,                        -- JSON: the attempt as it is shown
  PRIMARY KEY (tenant, delivery, number)
) WITHOUT ROWID;

-- What /in received and could not be an event: kept for 7 days, because the vendor sends nothing twice.
CREATE TABLE rejected_requests (
  tenant         TEXT NOT NULL,
  id             BLOB NOT NULL,
  received_at_ms INTEGER NOT NULL,
  reason         TEXT NOT NULL,
  truncated      INTEGER NOT NULL,
  body           BLOB NOT NULL,
  PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
