//! Comparison of JSON numbers by value, whatever their spelling.
//!
//! # Guarantees
//! - The comparison is exact: `1e2`, `100` and `100.0` are equal, and `9007199254740993` is not `9007199254740992`.
//! - It takes time in the length of the two texts. No power of ten is computed, so a huge exponent costs nothing.
//!
//! # Limits
//! Exponents outside of ±10^36 count as ±10^36.

use std::cmp::Ordering;
use std::iter;

/// Bound of exponents, so that sums of exponents and lengths do not overflow.
const EXPONENT_MAX: i128 = 10_i128.pow(36);

/// JSON number, split into its parts.
struct Decimal<'t> {
    is_negative: bool,
    /// Digits before the point, and those behind it.
    parts: [&'t str; 2],
    /// Number of the zeros that the digits begin with.
    leading_zeros: usize,
    /// Power of ten of the point before the first digit that is not zero. None: the number is zero.
    magnitude: Option<i128>,
}

impl<'t> Decimal<'t> {
    fn of(text: &'t str) -> Self {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent_of(exponent)),
            None => (text, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let parts = [whole, fraction];
        let mut decimal = Decimal { is_negative, parts, leading_zeros: 0, magnitude: None };
        let leading_zeros = decimal.digits().take_while(|digit| *digit == b'0').count();
        if leading_zeros < whole.len() + fraction.len() {
            decimal.leading_zeros = leading_zeros;
            decimal.magnitude = Some(exponent + whole.len() as i128 - leading_zeros as i128);
        }
        decimal
    }

    /// Returns the digits from the first that is not zero on.
    fn digits(&self) -> impl Iterator<Item = u8> + use<'t> {
        let [whole, fraction] = self.parts;
        whole.bytes().chain(fraction.bytes()).skip(self.leading_zeros)
    }

    /// Compares two numbers without their signs, neither of which is zero.
    fn compare_size(&self, other: &Decimal<'_>) -> Ordering {
        self.magnitude.cmp(&other.magnitude).then_with(|| {
            let digits = self.parts.iter().chain(&other.parts).map(|part| part.len()).sum();
            let padded = self.digits().chain(iter::repeat(b'0'));
            padded
                .zip(other.digits().chain(iter::repeat(b'0')))
                .take(digits)
                .map(|(a, b)| a.cmp(&b))
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal)
        })
    }
}

fn exponent_of(text: &str) -> i128 {
    let bound = if text.starts_with('-') { -EXPONENT_MAX } else { EXPONENT_MAX };
    text.parse().unwrap_or(bound).clamp(-EXPONENT_MAX, EXPONENT_MAX)
}

/// Writes the spelling that numbers of the same value have in common.
pub(super) fn spell(text: &str, to: &mut String) {
    let decimal = Decimal::of(text);
    let Some(magnitude) = decimal.magnitude else {
        to.push('0');
        return;
    };
    if decimal.is_negative {
        to.push('-');
    }
    let [whole, fraction] = decimal.parts;
    let digits = [whole, fraction].concat();
    to.push_str(digits[decimal.leading_zeros..].trim_end_matches('0'));
    to.push_str(&format!("e{magnitude}"));
}

/// Compares two numbers in the syntax of JSON.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let [left, right] = [left, right].map(Decimal::of);
    match (left.magnitude, right.magnitude) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) if right.is_negative => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) if left.is_negative => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(_), Some(_)) => match (left.is_negative, right.is_negative) {
            (false, false) => left.compare_size(&right),
            (true, true) => right.compare_size(&left),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(left: &str, right: &str, expected: Ordering) {
        assert_eq!(compare(left, right), expected, "{left} {right}");
        assert_eq!(compare(right, left), expected.reverse(), "{right} {left}");
    }

    #[test]
    fn numbers_compare_by_value() {
        check("100", "1e2", Ordering::Equal);
        check("100.0", "1E+2", Ordering::Equal);
        check("0.001", "1e-3", Ordering::Equal);
        check("0", "-0.0e5", Ordering::Equal);
        check("0", "1", Ordering::Less);
        check("0", "-1", Ordering::Greater);
        check("-2", "-10", Ordering::Greater);
        check("-2", "1", Ordering::Less);
        check("9", "10", Ordering::Less);
        check("0.09", "0.1", Ordering::Less);
        check("9007199254740992", "9007199254740993", Ordering::Less);
        check("0.1", "0.1000000000000000055511151231257827", Ordering::Less);
        check("1e999999999999999999999", "2", Ordering::Greater);
        check("1e-999999999999999999999", "0", Ordering::Greater);
        check("1e99999999999999999999999999999999999999999999", "1e5", Ordering::Greater);
        check("-1e400", "-1e399", Ordering::Less);
        check("0e99999999999999999999999999999999999999999999", "0", Ordering::Equal);
    }

    /// Number whose value is `coefficient` × 10^`exponent`, spelled with a point before the last `behind` digits.
    fn spelling(coefficient: i64, exponent: u32, behind: usize) -> String {
        let sign = if coefficient < 0 { "-" } else { "" };
        let digits = format!("{:0>1$}", coefficient.unsigned_abs(), behind + 1);
        let (whole, fraction) = digits.split_at(digits.len() - behind);
        let fraction = if behind > 0 { format!(".{fraction}") } else { String::new() };
        format!("{sign}{whole}{fraction}e{}", i64::from(exponent) + behind as i64)
    }

    proptest! {
        #[test]
        fn the_comparison_is_exact(
            (a, b) in prop_oneof![(any::<i64>(), any::<i64>()), (-30_i64..30, -30_i64..30)],
            exponents in (0_u32..18, 0_u32..18),
            behind in (0_usize..25, 0_usize..25),
        ) {
            let value = |coefficient: i64, exponent: u32| i128::from(coefficient) * 10_i128.pow(exponent);
            let expected = value(a, exponents.0).cmp(&value(b, exponents.1));
            let [left, right] = [(a, exponents.0, behind.0), (b, exponents.1, behind.1)].map(|(a, b, c)| spelling(a, b, c));
            prop_assert_eq!(compare(&left, &right), expected);
            let mut common = [String::new(), String::new()];
            spell(&left, &mut common[0]);
            spell(&right, &mut common[1]);
            prop_assert_eq!(common[0] == common[1], expected.is_eq());
        }

        #[test]
        fn no_text_panics(left in "[-+0-9.eE]{0,40}", right in "\\PC{0,20}") {
            compare(&left, &right);
            spell(&left, &mut String::new());
            spell(&right, &mut String::new());
        }
    }
}
