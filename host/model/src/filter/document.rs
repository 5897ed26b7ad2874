//! Event as filters see it: its name, its data, and the flat view of its fields.
//!
//! # Guarantees
//! - An event is parsed once, however many filters look at it.
//! - Data that cannot be parsed, of an event that an older host accepted, is null.

use crate::event::Event;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Keys of the lists of `{name, value}` that the flat view takes apart: those of a contact and of a deal.
const LISTS: [&str; 2] = ["properties", "custom_data"];

/// Names from the event on, such as `eventData`, `owner`, `email`.
pub(super) type Path = Arc<[Arc<str>]>;

/// Parsed event.
#[derive(Debug)]
pub struct Document {
    name: Value,
    data: Value,
    /// Places of the fields that are elements of [`LISTS`], by name.
    listed: OnceLock<HashMap<String, Vec<Place>>>,
}

/// Place of an element of one of [`LISTS`].
#[derive(Debug)]
struct Place {
    list: &'static str,
    index: usize,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "eventData")]
    data: Value,
}

impl Document {
    /// Parses the payload of an event.
    pub fn new(name: &str, payload: &[u8]) -> Self {
        let data = serde_json::from_slice(payload).map_or(Value::Null, |Payload { data }| data);
        Document { name: Value::String(name.to_owned()), data, listed: OnceLock::new() }
    }

    /// Parses an event.
    pub fn of(event: &Event) -> Self {
        Document::new(&event.name, &event.payload)
    }

    pub(super) fn name(&self) -> &Value {
        &self.name
    }

    pub(super) fn data(&self) -> &Value {
        &self.data
    }

    /// Returns the values of a field: the member of `eventData` with this name, and the values of properties or custom data.
    pub(super) fn field(&self, name: &str) -> Vec<&Value> {
        let own = if LISTS.contains(&name) { None } else { self.data.get(name) };
        let listed = self.listed.get_or_init(|| index_of(&self.data)).get(name);
        let value_at = |place: &Place| self.data.get(place.list)?.get(place.index)?.get("value");
        own.into_iter().chain(listed.into_iter().flatten().filter_map(value_at)).collect()
    }

    /// Returns the names of the fields, with repetitions.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        let own = self.data.as_object().into_iter().flat_map(|data| data.keys().map(String::as_str));
        let listed = self.listed.get_or_init(|| index_of(&self.data)).keys().map(String::as_str);
        own.filter(|name| !LISTS.contains(name)).chain(listed)
    }

    /// Returns the values at a path. A list on the way is returned as it is.
    pub(super) fn at(&self, path: &[Arc<str>]) -> Vec<&Value> {
        let (values, names) = match path {
            [part, field, names @ ..] if &**part == "fields" => (self.field(field), names),
            [part, names @ ..] if &**part == "eventName" => (vec![&self.name], names),
            [_, names @ ..] => (vec![&self.data], names),
            [] => (Vec::new(), path),
        };
        names.iter().fold(values, |values, name| values.into_iter().filter_map(|value| member(value, name)).collect())
    }
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    if value.is_array() { Some(value) } else { value.get(name) }
}

fn index_of(data: &Value) -> HashMap<String, Vec<Place>> {
    let mut index: HashMap<String, Vec<Place>> = HashMap::new();
    for list in LISTS {
        let elements = data.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (at, element) in elements.iter().enumerate() {
            if let Some(name) = element.get("name").and_then(Value::as_str) {
                index.entry(name.to_owned()).or_default().push(Place { list, index: at });
            }
        }
    }
    index
}
