-- An entity id has at most 255 bytes: what is longer names no entity.
UPDATE events SET entity_id = NULL WHERE LENGTH(CAST(entity_id AS BLOB)) > 255;

-- Order keys have a fixed size, 16 bytes, whatever an entity's id has: they stand in every row of an ordered subscription.
UPDATE deliveries SET order_key = order_key_of(order_key) WHERE order_key IS NOT NULL;
