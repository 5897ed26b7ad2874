-- What the database knows of the files that belong to it.
CREATE TABLE identity (
  only_row   INTEGER PRIMARY KEY,
  master_key BLOB NOT NULL            -- derived from the master key, so that another one is noticed
);
