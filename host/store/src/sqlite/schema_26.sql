-- Alerts: settings of each tenant, incidents, and e-mails about them. Event types of a tenant's own that have a name of the new host
-- events, which are few if any, are left out.
ALTER TABLE tenants ADD COLUMN alerts TEXT NOT NULL DEFAULT '{}'; -- JSON: recipients, thresholds, quiet hours
UPDATE tenants SET event_types = json_remove(event_types, '$."Incident is Opened"', '$."Incident is Closed"');
CREATE TABLE incidents (
  tenant  TEXT NOT NULL,
  id      BLOB NOT NULL,    -- UUID version 7: sorts by time
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  live    INTEGER NOT NULL, -- 1: it is open, or over without its closing message
  record  TEXT NOT NULL,    -- JSON
  PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX incidents_live ON incidents (tenant, kind, subject) WHERE live = 1;
CREATE TABLE alert_emails (
  tenant    TEXT NOT NULL,
  id        BLOB NOT NULL,  -- UUID version 7: sorts by time
  due_at_ms INTEGER,        -- null: it was sent, or given up
  record    TEXT NOT NULL,  -- JSON
  PRIMARY KEY (tenant, id)
);
CREATE INDEX alert_emails_due ON alert_emails (due_at_ms) WHERE due_at_ms IS NOT NULL;
