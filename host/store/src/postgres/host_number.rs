//! Number of a host, as a setting of its connections. Rows that each host has for itself name it.

/// SQL of the setting with a host's number, to follow `SET` or `SET LOCAL`.
pub(super) fn assigned(host: i16) -> String {
    format!("hookloom.host = {host}")
}

/// SQL of the number that a connection has. Connections of no host have 0.
pub(super) const OF_CONNECTION: &str = "coalesce(nullif(current_setting('hookloom.host', true), ''), '0')::int2";
