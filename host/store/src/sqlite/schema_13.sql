-- By module before entity: contacts and deals have numbers of the same kind, and events of one touch next to no leaf of the other's.
DROP INDEX events_of_entity;
CREATE INDEX events_of_entity ON events (tenant, module, entity_id) WHERE entity_id IS NOT NULL;
