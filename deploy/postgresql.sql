-- Database and account of a host, for psql as an administrator of the server. Take another password.
CREATE ROLE hookloom LOGIN PASSWORD 'a long random password';
CREATE DATABASE hookloom OWNER hookloom ENCODING 'UTF8' TEMPLATE template0;
