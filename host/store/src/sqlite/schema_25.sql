-- Settling: of the deliveries of one contact or deal that follow each other within a quiet time, the last one supersedes the others.
ALTER TABLE deliveries ADD COLUMN settles_key BLOB;         -- the entity, until the delivery is taken up or superseded
ALTER TABLE deliveries ADD COLUMN settles_until_ms INTEGER; -- latest due time of the burst
ALTER TABLE deliveries ADD COLUMN settled_events INTEGER;   -- number of events that the delivery stands for
ALTER TABLE deliveries ADD COLUMN settled_first BLOB;       -- the first of them
ALTER TABLE deliveries ADD COLUMN superseded_by BLOB;       -- the delivery that stands for this one
-- Not `state = 0` as well: the outcome of an attempt would evaluate it for every delivery.
CREATE INDEX deliveries_settling ON deliveries (tenant, subscription, settles_key) WHERE settles_key IS NOT NULL;
ALTER TABLE ledgers ADD COLUMN superseded_pruned INTEGER NOT NULL DEFAULT 0;
