-- First attempts and further ones are read apart, so that no backlog of retries stands before new events.
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (tenant, subscription, (attempts_made > 0), due_at_ms, id) WHERE state = 0;

-- The entity, where deliveries of one entity keep their order.
ALTER TABLE deliveries ADD COLUMN order_key TEXT;
CREATE INDEX deliveries_in_order ON deliveries (tenant, subscription, order_key, id) WHERE state = 0 AND order_key IS NOT NULL;

ALTER TABLE subscriptions ADD COLUMN failing_since_ms INTEGER;
