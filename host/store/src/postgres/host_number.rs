//! Number of this host, as a setting of its connections. Rows that each host has for itself name it.
//!
//! # Limits
//! One host at a time uses a database, so its number is fixed.

/// SQL that gives a connection the number of this host.
pub(super) const SET: &str = "SET hookloom.host = 1";

/// SQL of the number that a connection has. Connections of no host have 0.
pub(super) const OF_CONNECTION: &str = "coalesce(nullif(current_setting('hookloom.host', true), ''), '0')::int2";
