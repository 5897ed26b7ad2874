//! Filter as a client wrote it, read from JSON text.
//!
//! # Guarantees
//! - A key that is repeated in an object is a fault. Without this, one of two conditions would be lost.
//! - Reading stops at the first level that is too deep.

use super::parse::{FilterError, fault_of_depth};
use super::{FILTER_DEPTH_MAX, position::Position};
use crate::limits::shortened;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

/// JSON of a filter that is not parsed yet, or its fault. Null, which is the default: there is no filter.
#[derive(Clone, Debug)]
pub struct WrittenFilter(Result<Value, FilterError>);

impl WrittenFilter {
    /// Returns the JSON.
    ///
    /// # Errors
    /// [`FilterError`] with the JSON pointer of a repeated key, or of a level that is too deep.
    pub fn source(self) -> Result<Value, FilterError> {
        self.0
    }
}

impl Default for WrittenFilter {
    fn default() -> Self {
        WrittenFilter(Ok(Value::Null))
    }
}

impl From<Value> for WrittenFilter {
    fn from(source: Value) -> Self {
        WrittenFilter(Ok(source))
    }
}

impl<'de> Deserialize<'de> for WrittenFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let fault = RefCell::new(None);
        let seed = Check { position: Position::ROOT, fault: &fault };
        if let Err(error) = seed.deserialize(&mut serde_json::Deserializer::from_str(text.get())) {
            let fault = fault.into_inner();
            return fault.map(|fault| WrittenFilter(Err(fault))).ok_or_else(|| D::Error::custom(error));
        }
        let source = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        Ok(WrittenFilter(Ok(source)))
    }
}

/// Check of a value for repeated keys and for its depth. Keeps the first fault.
struct Check<'f> {
    position: Position,
    fault: &'f RefCell<Option<FilterError>>,
}

/// Maximum length of a key that an error quotes, in bytes.
const QUOTED_BYTES_MAX: usize = 60;

impl Check<'_> {
    fn stop<E: serde::de::Error>(&self, fault: FilterError) -> E {
        let error = E::custom(&fault);
        self.fault.replace(Some(fault));
        error
    }

    fn check_depth<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.position.depth() > FILTER_DEPTH_MAX {
            return Err(self.stop(fault_of_depth(&self.position)));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.check_depth()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut index = 0;
        while elements.next_element_seed(Check { position: self.position.index(index), fault: self.fault })?.is_some() {
            index += 1;
        }
        Ok(())
    }

    /// Numbers come as maps as well, because serde_json keeps their digits.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut keys: HashSet<String> = HashSet::new();
        while let Some(key) = members.next_key::<String>()? {
            let member = Check { position: self.position.key(&key), fault: self.fault };
            if keys.contains(&key) {
                let detail = format!(
                    "the key {:?} occurs twice in an object: write {{\"$and\": [{{…}}, {{…}}]}} for several conditions",
                    shortened(&key, QUOTED_BYTES_MAX)
                );
                return Err(self.stop(FilterError { pointer: member.position.pointer(), detail }));
            }
            members.next_value_seed(member)?;
            keys.insert(key);
        }
        Ok(())
    }
}
