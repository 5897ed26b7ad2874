-- Since when a canary judged how much before: JSON, [[ms, percent], …]. Which arm an event has never changes.
ALTER TABLE rollouts ADD COLUMN earlier TEXT NOT NULL DEFAULT '[]';

-- Who made the active version the active one.
ALTER TABLE plugins ADD COLUMN activated_by TEXT NOT NULL DEFAULT '';
