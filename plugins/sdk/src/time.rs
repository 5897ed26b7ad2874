//! Times for people. Agile CRM sends seconds since 1970 in most fields and milliseconds in a few.

use jiff::Timestamp;

/// Seconds since 1970 as RFC 3339 in UTC, such as `2024-03-01T01:00:00Z`. None beyond the year 9999.
///
/// ```
/// assert_eq!(hookloom_sdk::time::rfc3339(1_709_254_800).as_deref(), Some("2024-03-01T01:00:00Z"));
/// ```
pub fn rfc3339(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// Seconds since 1970 as a date in UTC, such as `2024-03-07`. None beyond the year 9999.
///
/// ```
/// assert_eq!(hookloom_sdk::time::date(1_709_851_200).as_deref(), Some("2024-03-07"));
/// ```
pub fn date(seconds: i64) -> Option<String> {
    rfc3339(seconds)?.split_once('T').map(|(date, _)| date.to_owned())
}
