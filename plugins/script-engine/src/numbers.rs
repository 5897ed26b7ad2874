//! Numbers of a JSON text that a double cannot hold.
//!
//! # Limits
//! The text must be JSON. Spelling is no loss: `1.50` and `1.5` are the same number.

use std::collections::BTreeSet;

/// Returns the numbers of a JSON text whose value a double does not keep, and all others with the same double. Empty: JavaScript
/// keeps every number.
pub(crate) fn lossy(json: &str) -> Vec<&str> {
    // Nearly all events have none: this loop allocates nothing.
    let doubles: BTreeSet<u64> = numbers(json).filter(|number| is_lossy(number)).filter_map(bits).collect();
    if doubles.is_empty() {
        return Vec::new();
    }
    let same = numbers(json).filter(|number| bits(number).is_some_and(|bits| doubles.contains(&bits)));
    same.collect::<BTreeSet<_>>().into_iter().collect()
}

fn bits(number: &str) -> Option<u64> {
    number.parse().ok().map(f64::to_bits)
}

/// Returns the numbers of a JSON text, as they are written.
fn numbers(json: &str) -> impl Iterator<Item = &str> {
    let bytes = json.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => at = after_string(bytes, at + 1),
                b'-' | b'0'..=b'9' => {
                    let from = at;
                    while bytes
                        .get(at)
                        .is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
                    {
                        at += 1;
                    }
                    return json.get(from..at);
                }
                _ => at += 1,
            }
        }
        None
    })
}

/// Returns the index after the end of a string, given the index after its beginning.
fn after_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    at
}

/// Number of significant digits that every double keeps.
const SAFE_DIGITS: usize = 15;

fn is_lossy(number: &str) -> bool {
    // Without an exponent and with few digits, a number is neither too precise, too large nor too small.
    if number.len() <= SAFE_DIGITS && !number.contains(['e', 'E']) {
        return false;
    }
    match number.parse::<f64>() {
        Ok(value) => decimal(number) != decimal(&format!("{value:e}")),
        Err(_) => false,
    }
}

/// Returns the value of a number as digits without zeros at both ends, and the exponent of ten of the last digit. None: zero, or no
/// number (infinity).
fn decimal(number: &str) -> Option<(String, i64)> {
    let number = number.strip_prefix('-').unwrap_or(number);
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let kept = digits.trim_end_matches('0');
    let removed = i64::try_from(digits.len() - kept.len()).ok()?;
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return None;
    }
    // A larger exponent than i64 holds belongs to a number that is infinite or zero as a double.
    let exponent = exponent.parse().unwrap_or(i64::MAX / 2);
    Some((kept.to_owned(), exponent - i64::try_from(fraction.len()).ok()? + removed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &[&str]) {
        assert_eq!(lossy(json), expected, "{json}");
    }

    #[test]
    fn numbers_that_a_double_keeps() {
        check("{}", &[]);
        check(r#"{"id":5721670354468864,"n":[0,-0,1.50,1e3,-12.25e-2,9007199254740991,9007199254740992]}"#, &[]);
        check("[100000000000000000000, 1e22, 0.1, 0.30000000000000004, 1.7976931348623157e308, 5e-324]", &[]);
        check("[0.000000000000000000000000000000, 0e999]", &[]);
    }

    #[test]
    fn numbers_that_a_double_changes() {
        check("[9007199254740993]", &["9007199254740993"]);
        check(r#"{"a":-9223372036854775807}"#, &["-9223372036854775807"]);
        check("[0.1000000000000000055]", &["0.1000000000000000055"]);
        check("[1e400, 1e-400]", &["1e-400", "1e400"]);
        check("[12345678901234567890.5]", &["12345678901234567890.5"]);
    }

    #[test]
    fn numbers_with_the_same_double_are_returned_together() {
        check("[9007199254740992, 9007199254740993, 7]", &["9007199254740992", "9007199254740993"]);
    }

    #[test]
    fn digits_in_strings_are_no_numbers() {
        check(r#"{"9007199254740993":"9007199254740993 \" 9007199254740993","b":"\\"}"#, &[]);
        check(r#"{"a":"\\","b":9007199254740993}"#, &["9007199254740993"]);
    }
}
