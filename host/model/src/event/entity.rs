//! Entity of an event: `eventData.id`, compared by value.
//!
//! # Guarantees
//! - Numbers of the same value are the same id, regardless of their spelling and size: `57`, `57.0` and `5.7E1` are `57`. So is the
//!   string `"57"`, because the vendor sends both.
//! - Other strings are not changed: `"57.0"` and `"057"` are other ids than `57`, because they may be in another system.
//! - If a key is repeated, the last one counts, as it does for plugins.
//!
//! # Limits
//! A number with more than [`ENTITY_ID_BYTES_MAX`] plain digits is not an id, and its digits are not written out.

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Maximum length of an entity id, in bytes. Ids of contacts and deals have 16 digits. A longer text identifies nothing, and would
/// be stored in every row and index that contains the id.
pub const ENTITY_ID_BYTES_MAX: usize = 255;

/// Parsed value of `eventData.id`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct EntityId {
    pub(super) id: Option<String>,
    /// Length of a value that is too long for an entity id, in bytes.
    pub(super) oversized: Option<usize>,
}

impl EntityId {
    fn of_string(id: String) -> Self {
        if id.len() > ENTITY_ID_BYTES_MAX {
            EntityId { id: None, oversized: Some(id.len()) }
        } else {
            EntityId { id: Some(id), oversized: None }
        }
    }

    fn of_number(number: &str) -> Self {
        match plain_decimal(number) {
            Ok(id) => EntityId { id: Some(id), oversized: None },
            Err(length) => EntityId { id: None, oversized: Some(length) },
        }
    }
}

/// Returns a note on the effects of an `eventData.id` of this length, which is too long.
pub fn oversized_entity_id_note(bytes: usize) -> String {
    format!(
        "eventData.id has {bytes} bytes, and an entity id has at most {ENTITY_ID_BYTES_MAX}: the event belongs to no entity, so it keeps no order and has no history"
    )
}

/// Reads `eventData.id`, whether it was sent as a number or as a string.
pub(super) fn entity_id(event_data: &RawValue) -> Option<EntityId> {
    let mut deserializer = serde_json::Deserializer::from_str(event_data.get());
    let id = deserializer.deserialize_map(LastId).ok()??.get();
    match id.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(id).ok().map(EntityId::of_string),
        b'0'..=b'9' | b'-' => Some(EntityId::of_number(id)),
        _ => None,
    }
}

/// Visitor for the last value under the key `id` of an object.
struct LastId;

impl<'de> Visitor<'de> for LastId {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut id = None;
        while let Some(is_id) = map.next_key_seed(IsId)? {
            if is_id {
                id = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(id)
    }
}

/// Visitor that compares a key with `id`, in any escaping.
struct IsId;

impl<'de> serde::de::DeserializeSeed<'de> for IsId {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsId {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == "id")
    }
}

/// Returns a JSON number in plain digits, without an exponent and without redundant zeros, so that equal values have equal texts.
/// If the text would be longer than an id may be, returns its length.
fn plain_decimal(number: &str) -> Result<String, usize> {
    fn is_plain(digits: &str) -> bool {
        !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
    }
    if number.len() <= ENTITY_ID_BYTES_MAX && is_plain(number) {
        return Ok(number.to_owned());
    }
    let (sign, unsigned) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = format!("{whole}{fraction}");
    let without_leading = all_digits.trim_start_matches('0');
    let digits = without_leading.trim_end_matches('0');
    if digits.is_empty() {
        return Ok("0".to_owned());
    }
    let leading = (all_digits.len() - without_leading.len()) as i64;
    // Number of digits before the point. On overflow it is far too large in any case.
    let point = (whole.len() as i64 - leading).saturating_add(exponent_of(exponent));
    let length = match point {
        ..=0 => 2_i64.saturating_add(point.saturating_neg()).saturating_add(digits.len() as i64),
        _ if point < digits.len() as i64 => digits.len() as i64 + 1,
        _ => point,
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(sign.len());
    if length > ENTITY_ID_BYTES_MAX {
        return Err(length);
    }
    let plain = match usize::try_from(point) {
        Ok(0) | Err(_) => format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
        Ok(point) if point < digits.len() => format!("{}.{}", &digits[..point], &digits[point..]),
        Ok(point) => format!("{digits}{}", "0".repeat(point - digits.len())),
    };
    Ok(format!("{sign}{plain}"))
}

/// Returns the exponent of a JSON number, saturated to 64 bits.
fn exponent_of(text: &str) -> i64 {
    let limit = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    text.parse().unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(data: &str, expected: Option<&str>) {
        let data = serde_json::from_str::<&RawValue>(data).expect("JSON");
        assert_eq!(entity_id(data).and_then(|entity| entity.id).as_deref(), expected, "{data}");
    }

    #[test]
    fn ids_are_compared_by_value() {
        for same in ["57", "57.0", "57.00", "5.7e1", "5.7E+1", "570e-1", "0.57e2", "0.00057E5", "\"57\""] {
            check(&format!("{{\"id\":{same}}}"), Some("57"));
        }
        for same in ["5701666712059904", "5.701666712059904E15", "5701666712059904.0", "57016667120599040e-1"] {
            check(&format!("{{\"id\":{same}}}"), Some("5701666712059904"));
        }
        for zero in ["0", "-0", "0.0", "0e9", "-0.00E-7"] {
            check(&format!("{{\"id\":{zero}}}"), Some("0"));
        }
        check(r#"{"id":-57.50}"#, Some("-57.5"));
        check(r#"{"id":57e-4}"#, Some("0.0057"));
        check(r#"{"id":12.5e0}"#, Some("12.5"));
    }

    #[test]
    fn ids_beyond_what_a_double_tells_apart_stay_apart() {
        check(r#"{"id":9007199254740993}"#, Some("9007199254740993"));
        check(r#"{"id":9007199254740992}"#, Some("9007199254740992"));
        check(r#"{"id":1.2345678901234567890123E22}"#, Some("12345678901234567890123"));
    }

    #[test]
    fn strings_are_taken_as_they_are() {
        check(r#"{"id":"57.0"}"#, Some("57.0"));
        check(r#"{"id":"5e10"}"#, Some("5e10"));
        check(r#"{"id":"057"}"#, Some("057"));
        check(r#"{"id":"\u0035\u0037"}"#, Some("57"));
    }

    #[test]
    fn of_a_repeated_key_the_last_counts() {
        check(r#"{"id":1,"id":2}"#, Some("2"));
        check(r#"{"\u0069d":1,"a":{"id":3},"i\u0064":"2"}"#, Some("2"));
        check(r#"{"id":1,"id":null}"#, None);
        check(r#"{"a":{"id":3},"Id":4}"#, None);
        check(r#"{"id":{"a":1}}"#, None);
        check(r#"{"id":[1]}"#, None);
        check(r#"{"id":true}"#, None);
    }

    #[test]
    fn a_number_is_as_long_as_its_plain_digits() {
        #[track_caller]
        fn check(number: &str, expected: Result<usize, usize>) {
            assert_eq!(plain_decimal(number).map(|plain| plain.len()), expected, "{number}");
        }
        check("1e254", Ok(255));
        check("1e255", Err(256));
        check("-1e254", Err(256));
        check("1e-253", Ok(255));
        check("1e-254", Err(256));
        check(&"9".repeat(256), Err(256));
        check(&format!("1.{}", "0".repeat(250_000)), Ok(1));
        check("1e999999999999999999999", Err(usize::try_from(i64::MAX).expect("64 bits")));
        check("1e-99999999999999999999", Err(usize::try_from(i64::MAX).expect("64 bits")));
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_number_is_one_id(digits in "[1-9][0-9]{0,30}", shift in 0_usize..40, zeros in 0_usize..5) {
            let plain = plain_decimal(&digits).expect("short");
            prop_assert_eq!(&plain, &digits);
            let zeros = "0".repeat(zeros);
            let moved = format!("{digits}{}e-{shift}", "0".repeat(shift));
            let scientific = format!("{}.{}{zeros}E+{}", &digits[..1], &digits[1..], digits.len() - 1).replace(".E", ".0E");
            prop_assert_eq!(plain_decimal(&moved).expect("short"), digits.clone());
            prop_assert_eq!(plain_decimal(&scientific).expect("short"), digits);
        }

        #[test]
        fn plugins_and_the_host_spell_an_id_alike(number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?") {
            let read: serde_json::Value = serde_json::from_str(&number).expect("a number");
            let of_plugin = hookloom_sdk::id_of(&read).map(std::borrow::Cow::into_owned);
            prop_assert_eq!(of_plugin, plain_decimal(&number).ok());
        }
    }
}
