-- What waits for another plugin version or config, and the oldest delivery that was attempted before: found without a look at
-- the rest of a backlog. Deliveries that arrive at the first attempt never enter it. The last column is there so that the index
-- alone answers.
CREATE INDEX deliveries_retried ON deliveries (tenant, subscription, awaiting_plugin, id, attempts_made) WHERE state = 0 AND attempts_made > 0;

-- Changes whose effect on deliveries is not complete: these become due in steps, also after a restart. One of the two names what
-- changed; the other one is empty.
CREATE TABLE sweeps (
  tenant       TEXT NOT NULL,
  plugin       TEXT NOT NULL,
  subscription BLOB NOT NULL,
  at_ms        INTEGER NOT NULL,
  PRIMARY KEY (tenant, plugin, subscription)
) WITHOUT ROWID;

-- When a subscription was paused: JSON, [[from, to], …]. That time does not count as the age of its deliveries.
ALTER TABLE subscriptions ADD COLUMN pauses TEXT NOT NULL DEFAULT '[]';

-- Rows that cannot be read: what is known of them.
CREATE TABLE damage (
  tenant       TEXT NOT NULL,                     -- '': the host's own, or unknown
  kind         TEXT NOT NULL,                     -- 'event', 'delivery', or the name of a table or an index
  id           BLOB NOT NULL,                     -- of the event or the delivery; empty: of no single row
  found_at_ms  INTEGER NOT NULL,
  detail       TEXT NOT NULL,
  PRIMARY KEY (tenant, kind, id)
);

-- What expired is found without a look at the rest.
CREATE INDEX sessions_by_end ON sessions (expires_at_ms);
CREATE INDEX sign_in_links_by_end ON sign_in_links (expires_at_ms);
