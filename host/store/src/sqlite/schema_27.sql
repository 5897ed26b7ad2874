-- Portal: links that sign a customer of a platform in once, and the sessions that began with them.
CREATE TABLE portal_sessions (
  hash          BLOB PRIMARY KEY NOT NULL, -- of the link's token, or of the session's cookie
  tenant        TEXT NOT NULL,
  id            BLOB NOT NULL,             -- a session keeps that of its link
  csrf          TEXT,                      -- null: a link that was not used
  session_s     INTEGER NOT NULL,
  read_only     INTEGER NOT NULL,
  return_url    TEXT,
  created_at_ms INTEGER NOT NULL,          -- of the link, or the beginning of the session
  expires_at_ms INTEGER NOT NULL
);
CREATE INDEX portal_sessions_of_tenant ON portal_sessions (tenant, created_at_ms);
CREATE INDEX portal_sessions_by_end ON portal_sessions (expires_at_ms);
