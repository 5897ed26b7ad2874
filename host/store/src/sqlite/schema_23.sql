-- The order of acceptance has a name: the rowid becomes the column `seq`. A row does not store it, so no row is rewritten, however large
-- the table is. The primary key becomes a unique constraint with the same index.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(sql, 'PRIMARY KEY (tenant, id)', 'seq            INTEGER PRIMARY KEY,           -- the order of acceptance
  UNIQUE (tenant, id)')
WHERE type = 'table' AND name = 'events';
-- A change of the schema that other connections notice; then this one reads it again.
CREATE TABLE schema_changed (x);
DROP TABLE schema_changed;
PRAGMA writable_schema = RESET;
-- Fails if the text was another one.
SELECT seq FROM events LIMIT 0;
