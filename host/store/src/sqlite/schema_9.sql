-- What people look for among a million: what did not end well.
CREATE INDEX deliveries_ended_otherwise ON deliveries (tenant, state, id) WHERE state >= 2;
