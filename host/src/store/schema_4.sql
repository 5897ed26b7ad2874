-- The latest event of the same entity that was accepted before: what plugins read as history.
ALTER TABLE events ADD COLUMN previous BLOB;

-- By rowid, which is the order of acceptance also when the clock was set back.
CREATE INDEX events_of_entity ON events (tenant, entity_id, module) WHERE entity_id IS NOT NULL;
