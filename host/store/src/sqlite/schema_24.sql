-- Event names of a tenant's own become event types: {"name": "Contact"} becomes {"name": {"module": "Contact"}}. Names of the vendor and
-- the host, which had no effect, are left out.
ALTER TABLE tenants RENAME COLUMN extra_event_names TO event_types;
UPDATE tenants SET event_types =
  (SELECT json_group_object(key, json_object('module', value)) FROM json_each(event_types)
   WHERE key NOT IN ('Contact is Created', 'Contact is Updated', 'Opportunity is Created', 'Opportunity is Updated',
                     'Subscription is Disabled', 'Subscription is Paused'));
