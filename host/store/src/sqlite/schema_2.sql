-- Rollouts of versions in addition to the active one: at most one for each plugin. An ended rollout stays, with its reason.
CREATE TABLE rollouts (
  tenant        TEXT NOT NULL,
  name          TEXT NOT NULL,
  kind          INTEGER NOT NULL,                -- 0 canary, 1 shadow
  sha256        TEXT NOT NULL,
  percent       REAL NOT NULL,                   -- of a canary: how much of the events it judges
  started_at_ms INTEGER NOT NULL,
  ended_reason  TEXT,                            -- null: under way
  PRIMARY KEY (tenant, name)
) WITHOUT ROWID;
