-- Account of hosts that may use the tables of the account hookloom, and not change them. For psql as an administrator, in the database hookloom,
-- after `hookloom migrate`. Take another password.
CREATE ROLE hookloom_host LOGIN PASSWORD 'another long random password';
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO hookloom_host;
ALTER DEFAULT PRIVILEGES FOR ROLE hookloom IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO hookloom_host;
