//! Decimal numbers that keep every digit, because amounts of money and ids do not fit into a binary fraction.

use std::cmp::Ordering;
use std::fmt;

/// A decimal number, exact, of any size. Numbers of the same value are equal, however they were spelled.
///
/// ```
/// use hookloom_sdk::Decimal;
///
/// assert_eq!(Decimal::parse("5.7E1"), Decimal::parse("57.0"));
/// let amount = Decimal::parse("90071992547409930.125").expect("a number");
/// assert_eq!(amount.scaled(2), Some(9_007_199_254_740_993_013));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    is_negative: bool,
    /// Digits without zeros at either end; empty for zero.
    digits: String,
    /// Exponent: the value is `digits` × 10^`exponent`.
    exponent: i64,
}

/// Maximum length of a number that is written in plain digits.
const PLAIN_BYTES_MAX: usize = 255;

impl Decimal {
    /// Parses a number in the form of JSON or of people: `-12.50`, `5.7E15`, `.5`. None: the text is not a number.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (is_negative, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        fn is_number(digits: &str) -> bool {
            digits.bytes().all(|byte| byte.is_ascii_digit())
        }
        if mantissa.len() <= usize::from(mantissa.contains('.')) || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let exponent = exponent_of(exponent)?.saturating_sub(fraction.len() as i64);
        Some(Decimal::new(is_negative, &format!("{whole}{fraction}"), exponent))
    }

    fn new(is_negative: bool, digits: &str, exponent: i64) -> Self {
        let digits = digits.trim_start_matches('0');
        let shortened = digits.trim_end_matches('0');
        let is_zero = shortened.is_empty();
        Decimal {
            is_negative: is_negative && !is_zero,
            digits: shortened.to_owned(),
            exponent: if is_zero { 0 } else { exponent.saturating_add((digits.len() - shortened.len()) as i64) },
        }
    }

    /// Returns true for zero.
    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// Returns the number in units of 10^-`places`, such as the minor units of an amount. Rounds half away from zero. None if the
    /// result has more than 38 digits.
    pub fn scaled(&self, places: u32) -> Option<i128> {
        let shift = self.exponent.saturating_add(i64::from(places));
        // 10^38 is the largest power of ten below i128::MAX.
        if shift > 38 {
            return self.is_zero().then_some(0);
        }
        let units = if shift >= 0 {
            self.digits.parse::<i128>().ok().or(self.is_zero().then_some(0))?.checked_mul(10_i128.pow(shift as u32))?
        } else {
            self.rounded(usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX))?
        };
        Some(if self.is_negative { -units } else { units })
    }

    /// Compares without the sign: by the place of the first digit, then digit by digit.
    fn cmp_size(&self, other: &Decimal) -> Ordering {
        fn place(one: &Decimal) -> Option<i128> {
            (!one.is_zero()).then(|| i128::from(one.exponent) + i128::try_from(one.digits.len()).unwrap_or(i128::MAX))
        }
        place(self).cmp(&place(other)).then_with(|| self.digits.cmp(&other.digits))
    }

    /// Returns the digits without the last `places`, rounded half up.
    fn rounded(&self, places: usize) -> Option<i128> {
        let Some(kept) = self.digits.len().checked_sub(places) else { return Some(0) };
        let (kept, rest) = self.digits.split_at(kept);
        let whole: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
        whole.checked_add(i128::from(rest.as_bytes().first().is_some_and(|digit| *digit >= b'5')))
    }

    /// Returns the product. None if it has more than 38 digits.
    pub fn times(&self, other: &Decimal) -> Option<Decimal> {
        fn mantissa(one: &Decimal) -> Option<u128> {
            if one.is_zero() { Some(0) } else { one.digits.parse::<u128>().ok() }
        }
        let product = mantissa(self)?.checked_mul(mantissa(other)?)?;
        let exponent = self.exponent.saturating_add(other.exponent);
        Some(Decimal::new(self.is_negative != other.is_negative, &product.to_string(), exponent))
    }

    /// Returns the number times 10^`places`.
    #[must_use]
    pub fn shifted(&self, places: i64) -> Decimal {
        Decimal::new(self.is_negative, &self.digits, self.exponent.saturating_add(places))
    }

    /// Formats in plain digits, without an exponent and without redundant zeros. None if the text would have more than 255
    /// characters.
    pub fn plain(&self) -> Option<String> {
        if self.is_zero() {
            return Some("0".to_owned());
        }
        let sign = if self.is_negative { "-" } else { "" };
        let digits = &self.digits;
        let zeros = usize::try_from(self.exponent.unsigned_abs()).ok().filter(|zeros| *zeros <= PLAIN_BYTES_MAX)?;
        let plain = if self.exponent >= 0 {
            format!("{sign}{digits}{}", "0".repeat(zeros))
        } else if zeros >= digits.len() {
            format!("{sign}0.{}{digits}", "0".repeat(zeros - digits.len()))
        } else {
            let (whole, fraction) = digits.split_at(digits.len() - zeros);
            format!("{sign}{whole}.{fraction}")
        };
        Some(plain).filter(|plain| plain.len() <= PLAIN_BYTES_MAX)
    }
}

/// Formats in plain digits if they are at most 255, and otherwise with an exponent: `1.5e+400`.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(plain) = self.plain() {
            return f.write_str(&plain);
        }
        let (first, rest) = self.digits.split_at(1);
        let exponent = i128::from(self.exponent) + i128::try_from(rest.len()).unwrap_or(i128::MAX);
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if self.is_negative { "-" } else { "" };
        write!(f, "{sign}{first}{point}{rest}e{exponent:+}")
    }
}

impl From<i64> for Decimal {
    fn from(whole: i64) -> Self {
        Decimal::new(whole < 0, &whole.unsigned_abs().to_string(), 0)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.is_negative != other.is_negative {
            return if self.is_negative { Ordering::Less } else { Ordering::Greater };
        }
        let by_size = self.cmp_size(other);
        if self.is_negative { by_size.reverse() } else { by_size }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Returns an exponent, saturated to 64 bits. None: the text is not a number.
fn exponent_of(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).expect(text)
    }

    #[test]
    fn numbers_of_one_value_are_equal() {
        for same in ["57", "57.0", "5.7e1", "+5.7E+1", "570E-1", " 057.", "0.57e2"] {
            assert_eq!(decimal(same), decimal("57"), "{same}");
        }
        for zero in ["0", "-0", "0.00", ".0", "0e999"] {
            assert!(decimal(zero).is_zero() && decimal(zero) == decimal("0"), "{zero}");
        }
        assert_ne!(decimal("9007199254740993"), decimal("9007199254740992"));
        assert_ne!(decimal("-1"), decimal("1"));
        for none in ["", ".", "-", "e5", "1e", "1e+", "1.2.3", "0x10", "inf", "NaN", "1 2", "--1", "1e1.5"] {
            assert_eq!(Decimal::parse(none), None, "{none}");
        }
    }

    #[test]
    fn amounts_are_scaled_exactly_and_rounded_half_away_from_zero() {
        #[track_caller]
        fn check(text: &str, places: u32, expected: Option<i128>) {
            assert_eq!(decimal(text).scaled(places), expected, "{text}");
        }
        check("50000.0", 2, Some(5_000_000));
        check("0.30000000000000004", 2, Some(30));
        check("-499.995", 2, Some(-50_000));
        check("499.99499999", 2, Some(49_999));
        check("0.005", 2, Some(1));
        check("0.0049", 2, Some(0));
        check("0.0005", 2, Some(0));
        check("617283.5", 0, Some(617_284));
        check("92233720368547758.08", 2, Some(9_223_372_036_854_775_808));
        check("123456789012345678901234567890.12", 2, Some(12_345_678_901_234_567_890_123_456_789_012));
        check("1e36", 2, Some(10_i128.pow(38)));
        check("1e37", 2, None);
        check("9e999999999999999999999", 2, None);
        check("1e-999999999999999999999", 2, Some(0));
        check("0e999", 2, Some(0));
        check(&"9".repeat(60), 0, None);
    }

    #[test]
    fn numbers_are_ordered_by_value() {
        let ascending = ["-1e400", "-10", "-9.5", "-0.1", "0", "1e-400", "0.099", "0.1", "9", "9.5", "10", "1e1000"];
        for (index, one) in ascending.iter().enumerate() {
            for (other_index, other) in ascending.iter().enumerate() {
                assert_eq!(decimal(one).cmp(&decimal(other)), index.cmp(&other_index), "{one} {other}");
            }
        }
        assert_eq!((Decimal::from(-57), Decimal::from(0)), (decimal("-57.0"), decimal("0")));
    }

    #[test]
    fn products_are_exact() {
        fn product(one: &str, other: &str) -> Option<Decimal> {
            decimal(one).times(&decimal(other))
        }
        assert_eq!(product("-999.99", "0.5"), Some(decimal("-499.995")));
        assert_eq!(product("9007199254740993", "0.75"), Some(decimal("6755399441055744.75")));
        assert_eq!(product("0", "1e300"), Some(decimal("0")));
        assert_eq!((decimal("60.5").shifted(-2), decimal("0").shifted(9)), (decimal("0.605"), decimal("0")));
        assert_eq!(product(&"9".repeat(30), &"9".repeat(30)), None);
    }

    #[test]
    fn plain_digits() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(decimal(text).plain().as_deref(), expected, "{text}");
        }
        check("5.701666712059904E15", Some("5701666712059904"));
        check("-57.50", Some("-57.5"));
        check("57e-4", Some("0.0057"));
        check("-0.0", Some("0"));
        check("1e400", None);
        check("1e-400", None);
        assert_eq!(decimal("-15e399").to_string(), "-1.5e+400");
        assert_eq!(decimal("1e-400").to_string(), "1e-400");
        assert_eq!(decimal("57.50").to_string(), "57.5");
    }
}
