//! Quiet hours: a part of each day, in a time zone, in which no message is sent.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Time of a day, to the minute, such as `22:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay {
    /// Minutes since midnight.
    minutes: u16,
}

impl TimeOfDay {
    /// Returns the time with these hours and minutes. None: there is no such time.
    pub fn new(hours: u16, minutes: u16) -> Option<Self> {
        (hours < 24 && minutes < 60).then_some(TimeOfDay { minutes: hours * 60 + minutes })
    }

    fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        TimeOfDay::new(two_digits(hours)?, two_digits(minutes)?)
    }
}

fn two_digits(text: &str) -> Option<u16> {
    let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

impl TryFrom<String> for TimeOfDay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        TimeOfDay::parse(&text).ok_or_else(|| format!("{text:?} is not a time of day from 00:00 to 23:59"))
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minutes / 60, self.minutes % 60)
    }
}

/// Part of each day in which no message is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// Beginning, such as `22:00`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub from: TimeOfDay,
    /// End, such as `07:00`. Before the beginning: it is of the next day.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub to: TimeOfDay,
    /// IANA time zone, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Sends messages about critical incidents at once.
    #[serde(default = "yes")]
    pub except_critical: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn yes() -> bool {
    true
}

impl QuietHours {
    /// Returns true if a time, in milliseconds since the epoch, is within the quiet hours. By the clock on the wall: an hour that a zone
    /// repeats is quiet twice. With an unknown zone, the times are of UTC.
    pub fn contain(&self, now_ms: i64) -> bool {
        let zone = TimeZone::get(&self.time_zone).unwrap_or(TimeZone::UTC);
        let Ok(now) = Timestamp::from_millisecond(now_ms) else { return false };
        let time = now.to_zoned_datetime(zone).time();
        let minutes = u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs());
        let from = self.from.minutes;
        let to = self.to.minutes;
        if from <= to { (from..to).contains(&minutes) } else { minutes >= from || minutes < to }
    }

    /// Returns the names of all time zones.
    pub fn time_zones() -> Vec<String> {
        jiff::tz::db().available().map(|name| name.to_string()).collect()
    }

    /// Returns true if the time zone is known.
    pub(super) fn has_known_zone(&self) -> bool {
        TimeZone::get(&self.time_zone).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> TimeOfDay {
        TimeOfDay::parse(text).expect("a time")
    }

    fn quiet(from: &str, to: &str, zone: &str) -> QuietHours {
        QuietHours { from: time(from), to: time(to), time_zone: zone.to_owned(), except_critical: true }
    }

    #[track_caller]
    fn check(hours: &QuietHours, at: &str, expected: bool) {
        let at_ms = at.parse::<Timestamp>().expect("a time").as_millisecond();
        assert_eq!(hours.contain(at_ms), expected, "{hours:?} at {at}");
    }

    #[test]
    fn hours_are_of_the_zone_and_may_pass_midnight() {
        let night = quiet("22:00", "07:00", "Europe/Berlin");
        // Winter: UTC+1.
        check(&night, "2026-01-15T20:59:59Z", false);
        check(&night, "2026-01-15T21:00:00Z", true);
        check(&night, "2026-01-16T05:59:59Z", true);
        check(&night, "2026-01-16T06:00:00Z", false);
        // Summer: UTC+2.
        check(&night, "2026-07-15T20:00:00Z", true);
        check(&night, "2026-07-16T05:00:00Z", false);
        let lunch = quiet("12:00", "13:30", "UTC");
        check(&lunch, "2026-07-15T11:59:59Z", false);
        check(&lunch, "2026-07-15T13:29:59Z", true);
        check(&lunch, "2026-07-15T13:30:00Z", false);
        // The hour that is repeated when summer ends.
        let hour = quiet("02:00", "03:00", "Europe/Berlin");
        check(&hour, "2026-10-25T00:30:00Z", true);
        check(&hour, "2026-10-25T01:30:00Z", true);
        check(&hour, "2026-10-25T02:30:00Z", false);
    }

    #[test]
    fn times_are_read_to_the_minute() {
        for (text, expected) in [
            ("00:00", true),
            ("23:59", true),
            ("24:00", false),
            ("7:00", false),
            ("07:60", false),
            ("+7:00", false),
            ("07:00:00", false),
            ("", false),
        ] {
            assert_eq!(TimeOfDay::parse(text).is_some(), expected, "{text:?}");
        }
        assert_eq!(TimeOfDay::parse("07:05").map(|time| time.to_string()).as_deref(), Some("07:05"));
    }
}
