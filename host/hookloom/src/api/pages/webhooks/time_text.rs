//! Durations as people write them: `30 s`, `5 min`, `2 h`, `5 d`. Pure.

/// Units with their seconds, the largest first.
const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];

/// Returns a duration in its largest unit that needs no fraction.
pub(in crate::api::pages) fn in_units(seconds: u64) -> String {
    let fits = |(_, unit_s): &&(&str, u64)| seconds > 0 && seconds.is_multiple_of(*unit_s);
    let (unit, unit_s) = UNITS.iter().find(fits).unwrap_or(&("s", 1));
    format!("{} {unit}", seconds / unit_s)
}

/// Parses a duration to seconds. A number without a unit is one of seconds.
///
/// # Errors
/// A sentence for people, if the text is not a duration.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let unfit = || format!("{text:?} is not a duration: write 30 s, 5 min, 2 h or 5 d");
    let trimmed = text.trim();
    let digits = trimmed.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit_s = match unit.trim() {
        "" | "s" | "sec" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" | "day" | "days" => 86_400,
        _ => return Err(unfit()),
    };
    let number: u64 = number.parse().map_err(|_| unfit())?;
    number.checked_mul(unit_s).ok_or_else(unfit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_have_the_unit_that_needs_no_fraction() {
        #[track_caller]
        fn check(seconds: u64, expected: &str) {
            assert_eq!(in_units(seconds), expected);
        }
        check(0, "0 s");
        check(5, "5 s");
        check(90, "90 s");
        check(300, "5 min");
        check(5_400, "90 min");
        check(72_000, "20 h");
        check(432_000, "5 d");
    }

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        #[track_caller]
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(seconds(text).ok(), expected, "{text:?}");
        }
        check("5", Some(5));
        check(" 5min ", Some(300));
        check("2 h", Some(7_200));
        check("1 day", Some(86_400));
        check("", None);
        check("min", None);
        check("5 weeks", None);
        check("-5 s", None);
        check("1.5 h", None);
        check("18446744073709551615 d", None);
    }

    proptest! {
        #[test]
        fn a_duration_comes_back_as_it_was_written(wanted in 0..u64::MAX) {
            prop_assert_eq!(seconds(&in_units(wanted)), Ok(wanted));
        }
    }
}
