-- Versions of plugins in whose call the host died, and which it does not call again.
CREATE TABLE quarantine (
    tenant TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (tenant, sha256)
) WITHOUT ROWID;
