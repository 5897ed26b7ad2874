-- By rowid: a row of a table without one keeps no more than a quarter of a page in its tree and takes a page of its own for
-- the rest, which is what nearly every attempt did.
CREATE TABLE attempts_by_rowid (
  tenant   TEXT NOT NULL,
  delivery BLOB NOT NULL,
  number   INTEGER NOT NULL,
  detail   TEXT NOT NULL,                        -- JSON: the attempt as it is shown
  PRIMARY KEY (tenant, delivery, number)
);

INSERT INTO attempts_by_rowid SELECT tenant, delivery, number, detail FROM attempts;
DROP TABLE attempts;
ALTER TABLE attempts_by_rowid RENAME TO attempts;
