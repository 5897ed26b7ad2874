-- Why a delivery exists: 0 it was promised when the event was accepted, 1 it was replayed, 2 it is a test.
ALTER TABLE deliveries ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;

-- The part of a tenant's ledger that cannot be counted from the other tables.
CREATE TABLE ledgers (
  tenant   TEXT PRIMARY KEY,
  replayed INTEGER NOT NULL DEFAULT 0,
  tests    INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
