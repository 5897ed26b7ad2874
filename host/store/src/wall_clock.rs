//! The system's wall clock, in the unit of all stored times.

/// Returns the present time in milliseconds since the epoch.
pub fn now_ms() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
