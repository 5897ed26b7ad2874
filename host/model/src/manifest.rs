//! Manifest of a plugin: its title, its description, the schema of its configuration, and a sample event.
//!
//! A component carries the manifest in the custom section [`SECTION`], as JSON. Pure: reads no component.
//!
//! # Guarantees
//! - A manifest is refused with the position of the fault (JSON Pointer, RFC 6901), whatever its bytes are. Size, depth, number of keys,
//!   and lengths of texts have maxima.
//! - The schema is JSON Schema 2020-12 and uses only the keywords of [`schema`]. There are no references, so it reads no other document
//!   and cannot refer to itself. Patterns are matched in linear time, by compiled programs of a maximum size.
//! - A default or example that does not match its own schema is refused.
//!
//! # Limits
//! Every value of a configuration is one text on the wire of the contract, so there are no nested objects. [`text`] defines how a typed
//! value is written as text.

mod check;
mod schema;
mod text;

pub use check::{ChainConfig, ConfigFault};
pub use schema::{Choice, ConfigKey, ConfigSchema};
pub use text::{Separator, ValueKind};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Name of the custom section of a component that holds its manifest.
pub const SECTION: &str = "hookloom:manifest";

/// Maximum size of a manifest, in bytes.
pub const BYTES_MAX: usize = 32 << 10;

/// Maximum depth of the JSON of a manifest.
const DEPTH_MAX: usize = 32;

/// Maximum length of a title, and of a description, in characters.
const TITLE_CHARS_MAX: usize = 80;
const DESCRIPTION_CHARS_MAX: usize = 300;

/// Description of a plugin for the people who configure it. Written by the plugin's author.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Manifest {
    /// Title: a few words, of at most 80 characters.
    pub title: String,
    /// Description in one line, of at most 300 characters.
    pub description: String,
    /// JSON Schema (2020-12) of the configuration: an object whose properties are the keys. Absent: the plugin reads no configuration.
    #[serde(default = "no_config")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub config: Value,
    /// Event that the plugin does something with, as an account sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub sample_event: Option<Value>,
}

fn no_config() -> Value {
    Value::Object(Map::from_iter([("type".to_owned(), "object".into())]))
}

/// Reason why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest is too large.
    #[error("the manifest has more than {BYTES_MAX} bytes")]
    TooLarge,
    /// The manifest is not JSON of the expected shape.
    #[error("the manifest is not readable as JSON with `title`, `description`, `config` and `sample_event`: {0}")]
    Json(#[from] serde_json::Error),
    /// The JSON is nested too deeply.
    #[error("the manifest is nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// A part of the manifest breaks a rule.
    #[error("{pointer}: {detail}")]
    Fault {
        /// Position of the fault in the manifest: a JSON Pointer.
        pointer: String,
        /// Description of the fault.
        detail: String,
    },
}

/// Creates the error of a part of a manifest.
fn fault(pointer: impl Into<String>, detail: impl Into<String>) -> ManifestError {
    ManifestError::Fault { pointer: pointer.into(), detail: detail.into() }
}

impl Manifest {
    /// Parses and checks a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > BYTES_MAX {
            return Err(ManifestError::TooLarge);
        }
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks all rules.
    pub fn check(&self) -> Result<(), ManifestError> {
        check_line("/title", &self.title, TITLE_CHARS_MAX)?;
        check_line("/description", &self.description, DESCRIPTION_CHARS_MAX)?;
        if [Some(&self.config), self.sample_event.as_ref()].into_iter().flatten().any(|value| depth(value) > DEPTH_MAX)
        {
            return Err(ManifestError::TooDeep);
        }
        self.schema()?;
        let Some(sample) = &self.sample_event else { return Ok(()) };
        let is_event = sample.as_object().is_some_and(|event| {
            event.len() == 2
                && event.get("eventName").is_some_and(Value::is_string)
                && event.get("eventData").is_some_and(Value::is_object)
        });
        let shape = "an event is {\"eventName\": \"Contact is Created\", \"eventData\": {…}}: exactly these two keys";
        if is_event { Ok(()) } else { Err(fault("/sample_event", shape)) }
    }

    /// Returns the schema of the configuration, ready to check configurations. It is compiled at each call.
    pub fn schema(&self) -> Result<ConfigSchema, ManifestError> {
        ConfigSchema::compile(&self.config)
    }

    /// Returns the configuration with the default of each key that has one, or otherwise its first example if the key is required.
    pub fn example_config(&self) -> std::collections::BTreeMap<String, String> {
        let keys = self.schema().map(|schema| schema.keys).unwrap_or_default();
        fn value(key: &ConfigKey) -> Option<(String, String)> {
            let example = key.examples.first().filter(|_| key.required);
            key.default.as_ref().or(example).cloned().map(|value| (key.name.clone(), value))
        }
        keys.iter().filter_map(value).collect()
    }
}

/// Checks a text of one line that people read.
fn check_line(pointer: &str, text: &str, chars_max: usize) -> Result<(), ManifestError> {
    if text.trim().is_empty() {
        return Err(fault(pointer, "is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(fault(pointer, "is one line without control characters"));
    }
    if text.chars().count() > chars_max {
        return Err(fault(pointer, format!("has more than {chars_max} characters")));
    }
    Ok(())
}

/// Returns the depth of a JSON value. The parser bounds the recursion.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Escapes a key for a JSON Pointer (RFC 6901, section 3).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
