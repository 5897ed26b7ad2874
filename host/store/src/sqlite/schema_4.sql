-- What plugins read as history: the last event of the same entity that was accepted before.
CREATE INDEX events_of_entity ON events (tenant, entity_id, module) WHERE entity_id IS NOT NULL;
