-- How a tenant's requests are narrowed: JSON, {"deny": ["203.0.113.0/24"], "only": []}.
ALTER TABLE tenants ADD COLUMN egress TEXT NOT NULL DEFAULT '{}';
