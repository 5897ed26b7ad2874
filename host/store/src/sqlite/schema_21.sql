-- Requests whose events are durable and whose deliveries are not all made yet: they are made in steps, also after a restart.
CREATE TABLE fan_outs (
  tenant TEXT NOT NULL,
  id     BLOB NOT NULL,
  events BLOB NOT NULL,                           -- ids of the events that lack deliveries, 16 bytes each, in their order
  after  BLOB NOT NULL,                           -- the subscription up to which the first of them has its deliveries; empty: none has
  made   INTEGER NOT NULL,                        -- number of deliveries that the first of them has
  lacks  INTEGER NOT NULL,                        -- number of deliveries that all of them lack
  PRIMARY KEY (tenant, id)
);
