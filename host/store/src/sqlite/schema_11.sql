-- Who is signed in to the pages: the hash of a cookie, and the key that it stands for.
CREATE TABLE sessions (
  hash          BLOB PRIMARY KEY,
  key           BLOB NOT NULL,
  csrf          TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- Links that sign in once.
CREATE TABLE sign_in_links (
  hash          BLOB PRIMARY KEY,
  key           BLOB NOT NULL,
  expires_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

ALTER TABLE keys ADD COLUMN used_at_ms INTEGER;

-- Every change that somebody made: who, what, and how it was before and after, without secrets.
CREATE TABLE changes (
  tenant  TEXT NOT NULL,                          -- '': the host's own
  id      BLOB NOT NULL,
  at_ms   INTEGER NOT NULL,
  who     TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  before  TEXT,                                   -- JSON
  after   TEXT,                                   -- JSON
  PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- Request inspectors.
CREATE TABLE bins (
  id            TEXT PRIMARY KEY,                 -- what the receiving URL holds: cannot be guessed
  tenant        TEXT NOT NULL,
  settings      TEXT NOT NULL,                    -- JSON
  created_at_ms INTEGER NOT NULL,
  received      INTEGER NOT NULL DEFAULT 0        -- ever: which answer of a script is next
) WITHOUT ROWID;

CREATE INDEX bins_of_tenant ON bins (tenant, id);

CREATE TABLE bin_requests (
  bin            TEXT NOT NULL,
  id             BLOB NOT NULL,
  received_at_ms INTEGER NOT NULL,
  head           TEXT NOT NULL,                   -- JSON: method, path, query, headers, remote address, size
  body           BLOB NOT NULL,
  PRIMARY KEY (bin, id)
) WITHOUT ROWID;

CREATE INDEX bin_requests_by_age ON bin_requests (received_at_ms);

-- What happened in a span of time, for the overview: counts and latencies. Spans are a minute, kept for a day, and an hour,
-- kept for eight days.
CREATE TABLE figures (
  tenant       TEXT NOT NULL,
  span_s       INTEGER NOT NULL,
  at_s         INTEGER NOT NULL,                  -- the span's beginning, since the epoch
  subscription BLOB NOT NULL,
  plugin       TEXT NOT NULL,                     -- '': without one
  figures      TEXT NOT NULL,                     -- JSON
  PRIMARY KEY (tenant, span_s, at_s, subscription, plugin)
) WITHOUT ROWID;
