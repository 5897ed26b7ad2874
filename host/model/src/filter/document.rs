//! Event as filters see it: its name, its data, and the flat view of its fields.
//!
//! # Guarantees
//! - An event is parsed once, however many filters look at it, and each name of a field is looked up in one index.
//! - Data that cannot be parsed, of an event that an older host accepted, is null.

use crate::event::Event;
use ahash::AHashMap;
use serde::Deserialize;
use serde_json::Value;
use smallvec::SmallVec;
use std::cell::OnceCell;
use std::slice;
use std::sync::Arc;

/// Keys of the lists of `{name, value}` that the flat view takes apart: those of a contact and of a deal.
const LISTS: [&str; 2] = ["properties", "custom_data"];

/// Names from the event on, such as `eventData`, `owner`, `email`.
pub(super) type Path = Arc<[Arc<str>]>;

/// Parsed event.
#[derive(Debug)]
pub struct ParsedEvent {
    name: Value,
    data: Value,
}

/// View of a parsed event, with an index of its fields.
#[derive(Debug)]
pub struct Document<'e> {
    name: &'e Value,
    data: &'e Value,
    fields: OnceCell<Fields<'e>>,
}

/// Values that a condition is about: nearly always one.
pub(super) type Values<'e> = SmallVec<[&'e Value; 1]>;

/// Values of the fields, by their names. Senders choose the names, so that the hash is keyed at random; it is the fast one, because each filter
/// looks names up.
type Fields<'e> = AHashMap<&'e str, Values<'e>>;

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "eventData")]
    data: Value,
}

impl ParsedEvent {
    /// Parses the payload of an event.
    pub fn new(name: &str, payload: &[u8]) -> Self {
        let data = serde_json::from_slice(payload).map_or(Value::Null, |Payload { data }| data);
        ParsedEvent { name: Value::String(name.to_owned()), data }
    }

    /// Parses an event.
    pub fn of(event: &Event) -> Self {
        ParsedEvent::new(&event.name, &event.payload)
    }

    /// Returns the event as filters see it. The index of its fields is made when the first filter needs it.
    pub fn document(&self) -> Document<'_> {
        Document { name: &self.name, data: &self.data, fields: OnceCell::new() }
    }
}

impl<'e> Document<'e> {
    pub(super) fn name(&self) -> &[&'e Value] {
        slice::from_ref(&self.name)
    }

    pub(super) fn data(&self) -> &[&'e Value] {
        slice::from_ref(&self.data)
    }

    /// Returns the values of a field: the member of `eventData` with this name, and the values of properties or custom data.
    pub(super) fn field(&self, name: &str) -> &[&'e Value] {
        self.fields().get(name).map(SmallVec::as_slice).unwrap_or_default()
    }

    /// Returns the names of the fields.
    pub fn field_names(&self) -> impl Iterator<Item = &'e str> {
        self.fields().keys().copied()
    }

    /// Returns the values at a path. A list on the way is returned as it is.
    pub(super) fn at(&self, path: &[Arc<str>]) -> Values<'e> {
        let (values, names) = match path {
            [part, field, names @ ..] if &**part == "fields" => (self.field(field), names),
            [part, names @ ..] if &**part == "eventName" => (self.name(), names),
            [_, names @ ..] => (self.data(), names),
            [] => (&[][..], path),
        };
        let values = Values::from_slice(values);
        names.iter().fold(values, |values, name| values.into_iter().filter_map(|value| member(value, name)).collect())
    }

    fn fields(&self) -> &Fields<'e> {
        self.fields.get_or_init(|| index_of(self.data))
    }
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    if value.is_array() { Some(value) } else { value.get(name) }
}

fn index_of(data: &Value) -> Fields<'_> {
    let own = data.as_object().into_iter().flatten().filter(|(name, _)| !LISTS.contains(&name.as_str()));
    let mut index: Fields<'_> = own.map(|(name, value)| (name.as_str(), Values::from_slice(&[value]))).collect();
    for list in LISTS {
        for element in data.get(list).and_then(Value::as_array).into_iter().flatten() {
            if let Some(name) = element.get("name").and_then(Value::as_str) {
                index.entry(name).or_default().extend(element.get("value"));
            }
        }
    }
    index
}
