//! Filters of the templates: times, numbers, sizes, durations, states and icons have one form on every page.
//!
//! # Guarantees
//! - Filters that return markup take only numbers, times and constants of the program; `state` escapes its word.

#![expect(unreachable_pub, reason = "the attribute of askama writes types that are more visible than the function")]

use super::chart::{DAY_S, HOUR_S};
use super::{DisplayTime, icons};
use crate::clock::now_ms;
use crate::store::grouped;
use askama::filters::Safe;
use askama::{Result, Values};
use std::fmt::Display;

/// Number that a filter shows.
pub(super) trait Count {
    /// Returns the number.
    fn count(&self) -> u64;
}

macro_rules! counts {
    ($($kind:ty),*) => {
        $(impl Count for $kind {
            fn count(&self) -> u64 {
                u64::try_from(*self).unwrap_or_default()
            }
        })*
    };
}

counts!(u64, u32, u16, usize, i64);

impl<T: Count + ?Sized> Count for &T {
    fn count(&self) -> u64 {
        (**self).count()
    }
}

/// Time that a filter shows.
pub(super) trait Time {
    /// Returns the time.
    fn shown(&self) -> &DisplayTime;
}

impl Time for DisplayTime {
    fn shown(&self) -> &DisplayTime {
        self
    }
}

impl<T: Time + ?Sized> Time for &T {
    fn shown(&self) -> &DisplayTime {
        (**self).shown()
    }
}

/// Writes a time as words of its distance from now. The exact time is its tooltip.
#[askama::filter_fn]
pub(super) fn time(time: impl Time, _: &dyn Values) -> Result<Safe<String>> {
    let DisplayTime { iso, text, ms } = time.shown();
    let words = distance(*ms, now_ms());
    Ok(Safe(format!("<time datetime=\"{iso}\" title=\"{text}\" data-relative>{words}</time>")))
}

/// Writes a time exactly, where seconds matter. Its distance from now is its tooltip.
#[askama::filter_fn]
pub(super) fn instant(time: impl Time, _: &dyn Values) -> Result<Safe<String>> {
    let DisplayTime { iso, text, ms } = time.shown();
    let words = distance(*ms, now_ms());
    Ok(Safe(format!("<time datetime=\"{iso}\" title=\"{words}\">{text}</time>")))
}

/// Writes a number with thousands separators.
#[askama::filter_fn]
pub(super) fn thousands(number: impl Count, _: &dyn Values) -> Result<String> {
    Ok(grouped(number.count()))
}

/// Writes a number of bytes in a unit for people.
#[askama::filter_fn]
pub(super) fn bytes(number: impl Count, _: &dyn Values) -> Result<String> {
    Ok(super::size(number.count()))
}

/// Writes a number of microseconds in a unit for people.
#[askama::filter_fn]
pub(super) fn duration(us: impl Count, _: &dyn Values) -> Result<String> {
    Ok(super::duration(us.count()))
}

/// Writes a state as a mark and its word, which is also the class.
#[askama::filter_fn]
pub(super) fn state(word: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    let word = askama::filters::escape(word.to_string(), askama::filters::Html)?.to_string();
    Ok(Safe(format!("<span class=\"state {word}\">{word}</span>")))
}

/// Writes the icon of this name.
#[askama::filter_fn]
pub(super) fn icon(name: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(icons::svg(&name.to_string())))
}

const MINUTE_S: i64 = 60;

/// Returns the distance of a time from now in words, or its date if it is more than 30 days away.
fn distance(at_ms: i64, now_ms: i64) -> String {
    let seconds = (now_ms - at_ms) / 1_000;
    let (count, unit) = match seconds.abs() {
        0..10 => return "just now".to_owned(),
        10..90 => (seconds, "second"),
        away if away < 90 * MINUTE_S => ((seconds + seconds.signum() * 30) / MINUTE_S, "minute"),
        away if away < 36 * HOUR_S => ((seconds + seconds.signum() * HOUR_S / 2) / HOUR_S, "hour"),
        away if away < 30 * DAY_S => ((seconds + seconds.signum() * DAY_S / 2) / DAY_S, "day"),
        _ => return DisplayTime::at_ms(at_ms).text.chars().take(10).collect(),
    };
    let plural = if count.abs() == 1 { "" } else { "s" };
    if count < 0 { format!("in {} {unit}{plural}", -count) } else { format!("{count} {unit}{plural} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_their_distance() {
        #[track_caller]
        fn check(ago_s: i64, expected: &str) {
            const NOW_MS: i64 = 1_709_287_745_000;
            assert_eq!(distance(NOW_MS - ago_s * 1_000, NOW_MS), expected);
        }
        check(0, "just now");
        check(-9, "just now");
        check(59, "59 seconds ago");
        check(90, "2 minutes ago");
        check(3_600, "60 minutes ago");
        check(2 * HOUR_S, "2 hours ago");
        check(-5 * MINUTE_S, "in 5 minutes");
        check(36 * HOUR_S, "2 days ago");
        check(-DAY_S * 3, "in 3 days");
        check(40 * DAY_S, "2024-01-21");
    }
}
