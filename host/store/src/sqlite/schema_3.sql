-- A tenant's own maxima for plugin calls: JSON, by the limits' names, such as {"cpu_ms": 20}.
ALTER TABLE tenants ADD COLUMN limits_max TEXT NOT NULL DEFAULT '{}';
