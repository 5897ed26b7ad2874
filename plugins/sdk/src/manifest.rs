//! Manifest of a plugin, generated from a Rust type that describes its config.
//!
//! A test keeps the file `manifest.json` beside the plugin's `Cargo.toml` equal to the type, and [`export!`](crate::export) puts that
//! file into the component:
//!
//! ```
//! use hookloom_sdk::manifest::Manifest;
//! use hookloom_sdk::schemars::JsonSchema;
//!
//! #[derive(JsonSchema)]
//! #[allow(dead_code)]
//! struct Config {
//!     /// Least value of a deal.
//!     #[schemars(range(min = 0), extend("examples" = [1000]))]
//!     least: Option<f64>,
//! }
//!
//! let manifest = Manifest::of::<Config>("Worth it", "Passes deals of a least value.");
//! let json = manifest.to_json();
//! assert!(json.contains(r#""least": {"#));
//! // In a test of the plugin: manifest.check(env!("CARGO_MANIFEST_DIR"));
//! ```
//!
//! The host accepts a part of JSON Schema 2020-12, in which each value can be written as one text. An `Option` is a key that may be
//! absent; a type that refers to itself, a map or a nested structure is refused when the component is uploaded.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Environment variable with which [`Manifest::check`] writes the file instead of comparing it.
const UPDATE: &str = "HOOKLOOM_UPDATE_MANIFEST";

/// Manifest of a plugin.
#[derive(Clone, Debug)]
pub struct Manifest {
    json: Map<String, Value>,
}

impl Manifest {
    /// Creates the manifest of a plugin with this type of config.
    pub fn of<Config: JsonSchema>(title: &str, description: &str) -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let mut config = settings.into_generator().into_root_schema_for::<Config>().to_value();
        if let Some(root) = config.as_object_mut() {
            root.shift_remove("title");
            root.shift_remove("description");
            for property in root.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
                simplify(property.1);
            }
        }
        let json = json!({"title": title, "description": description, "config": config});
        Manifest { json: json.as_object().cloned().unwrap_or_default() }
    }

    /// Adds an event with which the plugin does something.
    ///
    /// # Panics
    /// If the text is not JSON.
    pub fn sample_event(mut self, event: &str) -> Self {
        let event = serde_json::from_str(event).expect("the sample event is JSON");
        self.json.insert("sample_event".to_owned(), event);
        self
    }

    /// Returns the manifest as JSON, in several lines.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.json).unwrap_or_default() + "\n"
    }

    /// Compares the manifest with the file `manifest.json` of a folder, or writes the file if the environment variable
    /// `HOOKLOOM_UPDATE_MANIFEST` is set.
    ///
    /// # Panics
    /// If the file differs, or cannot be read or written.
    #[track_caller]
    pub fn check(&self, folder: impl AsRef<Path>) {
        let file = folder.as_ref().join("manifest.json");
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&file, self.to_json()).expect("manifest.json is written");
            return;
        }
        let found = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            found,
            self.to_json(),
            "{} is not that of the type; run the tests with {UPDATE}=1 to write it",
            file.display()
        );
    }
}

/// Removes what an `Option` and a Rust number type add to the schema of a key: `null`, and formats such as `uint32`.
fn simplify(property: &mut Value) {
    let Some(schema) = property.as_object_mut() else { return };
    if let Some(Value::Array(either)) = schema.shift_remove("anyOf") {
        let other = either.into_iter().find(|one| one["type"] != "null");
        schema.extend(other.and_then(|one| one.as_object().cloned()).unwrap_or_default());
    }
    if let Some(Value::Array(kinds)) = schema.get("type") {
        let kind = kinds.iter().find(|kind| **kind != "null").cloned().unwrap_or_default();
        schema.insert("type".to_owned(), kind);
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if schema.get("type").is_some_and(|kind| kind == "integer" || kind == "number") {
        schema.shift_remove("format");
    }
    if let Some(items) = schema.get_mut("items") {
        simplify(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Late {
        /// Drops them.
        Drop,
        /// Passes them.
        Pass,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Config {
        /// Least value.
        #[schemars(range(min = 0, max = 100), extend("examples" = [75]))]
        least: f64,
        /// Wanted milestones.
        #[schemars(extend("default" = ["Won"]))]
        milestones: Option<Vec<String>>,
        late: Option<Late>,
        count: Option<u32>,
    }

    #[test]
    fn a_type_becomes_a_schema_of_plain_keys() {
        let manifest = Manifest::of::<Config>("T", "D").sample_event(r#"{"eventName": "x", "eventData": {}}"#);
        let expected = json!({
            "title": "T",
            "description": "D",
            "config": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "least": {"description": "Least value.", "type": "number", "minimum": 0, "maximum": 100, "examples": [75]},
                    "milestones": {"description": "Wanted milestones.", "type": "array", "items": {"type": "string"}, "default": ["Won"]},
                    "late": {"oneOf": [
                        {"description": "Drops them.", "type": "string", "const": "drop"},
                        {"description": "Passes them.", "type": "string", "const": "pass"},
                    ]},
                    "count": {"type": "integer", "minimum": 0},
                },
                "required": ["least"],
            },
            "sample_event": {"eventName": "x", "eventData": {}},
        });
        assert_eq!(Value::Object(manifest.json), expected);
    }
}
