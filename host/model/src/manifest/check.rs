//! Check of a configuration by the manifests of a chain.
//!
//! # Guarantees
//! - A value is checked by every plugin of the chain that lists its key. All faults are returned.
//! - A key that no plugin lists is a fault only if every plugin of the chain has a manifest and none of them allows other keys.

use super::text::shown;
use super::{ConfigSchema, escaped};
use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Fault of a key of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// Key at fault.
    pub key: String,
    /// Description of the fault, without the key.
    pub detail: String,
}

impl ConfigFault {
    /// Returns the position of the fault in a subscription: a JSON Pointer.
    pub fn pointer(&self) -> String {
        format!("/config/{}", escaped(&self.key))
    }
}

/// Schemas of the plugins of a chain. A plugin without a manifest has none.
#[derive(Debug, Default)]
pub struct ChainConfig(Vec<(String, Option<ConfigSchema>)>);

impl ChainConfig {
    /// Adds a plugin of the chain.
    pub fn add(&mut self, plugin: impl Into<String>, schema: Option<ConfigSchema>) {
        self.0.push((plugin.into(), schema));
    }

    /// Returns every fault of a configuration.
    pub fn faults(&self, config: &BTreeMap<String, String>) -> Vec<ConfigFault> {
        let mut faults: Vec<ConfigFault> = Vec::new();
        for (plugin, schema) in &self.0 {
            let Some(schema) = schema else { continue };
            let found = schema.faults(config).into_iter();
            faults.extend(
                found.map(|fault| ConfigFault { detail: format!("the plugin {plugin}: {}", fault.detail), ..fault }),
            );
        }
        faults.extend(config.keys().filter(|key| !self.allows(key)).map(|key| ConfigFault {
            key: key.clone(),
            detail: format!("no plugin of the chain has this key; there are {}", self.names().join(", ")),
        }));
        faults
    }

    fn allows(&self, key: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|(_, schema)| {
                schema
                    .as_ref()
                    .is_none_or(|one| one.allows_other_keys || one.keys.iter().any(|known| known.name == key))
            })
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .0
            .iter()
            .filter_map(|(_, schema)| schema.as_ref())
            .flat_map(|one| one.keys.iter().map(|key| key.name.as_str()))
            .collect();
        if names.is_empty() {
            names.push("none");
        }
        names
    }
}

impl ConfigSchema {
    /// Returns the faults of a configuration by this schema. Keys that it does not list are not looked at.
    pub fn faults(&self, config: &BTreeMap<String, String>) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut instance = Map::new();
        let mut unreadable = Vec::new();
        for key in &self.keys {
            match config.get(&key.name).map(|text| key.kind.read(text)) {
                None | Some(Ok(None)) => {}
                Some(Ok(Some(value))) => drop(instance.insert(key.name.clone(), value)),
                Some(Err(detail)) => {
                    unreadable.push(key.name.as_str());
                    faults.push(ConfigFault { key: key.name.clone(), detail });
                }
            }
        }
        let instance = Value::Object(instance);
        let errors = self.validator.iter_errors(&instance).filter_map(|error| fault_of(&error));
        faults.extend(errors.filter(|fault| !unreadable.contains(&fault.key.as_str())));
        faults
    }
}

/// Returns the fault that an error of the validator stands for.
fn fault_of(error: &ValidationError<'_>) -> Option<ConfigFault> {
    if let ValidationErrorKind::Required { property } = error.kind() {
        return Some(ConfigFault { key: property.as_str()?.to_owned(), detail: "is required".to_owned() });
    }
    let path = error.instance_path().as_str();
    let key = path.split('/').nth(1)?.replace("~1", "/").replace("~0", "~");
    let detail = match error.kind() {
        ValidationErrorKind::OneOfNotValid { .. } => {
            let instance = error.instance();
            let text = instance.as_str().map_or_else(|| instance.to_string(), str::to_owned);
            format!("{} is not one of the choices", shown(&text))
        }
        _ => shortened(&error.to_string()),
    };
    Some(ConfigFault { key, detail })
}

/// Maximum length of a message of the validator, which repeats the value, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

fn shortened(message: &str) -> String {
    let start: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    if start.len() < message.len() { format!("{start}…") } else { start }
}
