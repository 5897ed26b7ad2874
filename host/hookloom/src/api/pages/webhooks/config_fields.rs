//! Fields of a webhook's form for the configuration of its plugins, drawn from their manifests.
//!
//! # Guarantees
//! - A key has one field, whatever plugins of the chain list it. Keys without a field stay in the text of the form.
//! - Names of fields are `config.KEY`. A blank field stands for an absent key.

use crate::api::ApiState;
use crate::api::pages::PageError;
use crate::chain::Chain;
use crate::manifest::{Choice, ConfigKey, Separator, ValueKind};
use crate::operations::Problem;
use crate::subscription::TenantId;
use std::collections::BTreeMap;

/// Beginning of the names of the fields.
pub(super) const PREFIX: &str = "config.";

/// Fields of one plugin.
pub(in crate::api::pages) struct FieldGroup {
    pub(in crate::api::pages) title: String,
    pub(in crate::api::pages) description: String,
    pub(in crate::api::pages) fields: Vec<ConfigField>,
}

/// Form control of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::api::pages) enum Control {
    Text,
    Number,
    Lines,
    Choices,
}

/// Field of a key.
pub(in crate::api::pages) struct ConfigField {
    /// Id of the element.
    pub(in crate::api::pages) id: String,
    pub(in crate::api::pages) key: String,
    pub(in crate::api::pages) label: String,
    pub(in crate::api::pages) hint: String,
    pub(in crate::api::pages) control: Control,
    pub(in crate::api::pages) value: String,
    pub(in crate::api::pages) placeholder: String,
    pub(in crate::api::pages) choices: Vec<Choice>,
    pub(in crate::api::pages) required: bool,
    pub(in crate::api::pages) error: Option<String>,
}

impl ConfigField {
    fn new(key: ConfigKey, index: usize, value: Option<String>, problem: Option<&Problem>) -> Self {
        let pointer = format!("/config/{}", key.name.replace('~', "~0").replace('/', "~1"));
        let error = problem.and_then(|problem| problem.errors.iter().find(|fault| fault.pointer == pointer));
        let value = value.unwrap_or_default();
        let control = match key.kind {
            _ if key.kind.items().is_some() || value.contains('\n') => Control::Lines,
            _ if !key.choices.is_empty() || key.kind == ValueKind::Boolean => Control::Choices,
            ValueKind::Integer | ValueKind::Number => Control::Number,
            _ => Control::Text,
        };
        fn choice(value: &str) -> Choice {
            Choice { value: value.to_owned(), description: None }
        }
        let mut choices =
            if key.kind == ValueKind::Boolean { vec![choice("true"), choice("false")] } else { key.choices.clone() };
        // A value from before the manifest stays visible.
        if control == Control::Choices && !value.is_empty() && choices.iter().all(|one| one.value != value) {
            choices.push(choice(&value));
        }
        ConfigField {
            id: format!("config-{index}"),
            hint: hint(&key),
            label: key.title.unwrap_or_else(|| key.name.clone()),
            control,
            value: items_as_lines(key.kind, &value),
            placeholder: key
                .default
                .as_ref()
                .or(key.examples.first())
                .map(|text| items_as_lines(key.kind, text))
                .unwrap_or_default(),
            choices,
            required: key.required,
            error: error.map(|fault| fault.detail.clone()),
            key: key.name,
        }
    }
}

/// Returns the description of a key, with its default or an example.
fn hint(key: &ConfigKey) -> String {
    fn shown(text: &str) -> String {
        text.replace('\n', " | ")
    }
    let mut hint = key.description.clone();
    if key.kind.items().is_some() {
        hint.push_str(" One item a line.");
    }
    match (&key.minimum, &key.maximum) {
        (Some(least), Some(most)) => hint.push_str(&format!(" From {least} to {most}.")),
        (Some(least), None) => hint.push_str(&format!(" At least {least}.")),
        (None, Some(most)) => hint.push_str(&format!(" At most {most}.")),
        (None, None) => {}
    }
    match (&key.default, key.examples.first()) {
        (Some(default), _) => hint.push_str(&format!(" Default: {}", shown(default))),
        (None, Some(example)) => hint.push_str(&format!(" Example: {}", shown(example))),
        (None, None) => {}
    }
    hint.trim().to_owned()
}

/// Returns the text of a list with one item a line. Other texts stay.
fn items_as_lines(kind: ValueKind, text: &str) -> String {
    match kind.items() {
        Some((Separator::Comma, _)) => {
            text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>().join("\n")
        }
        _ => text.to_owned(),
    }
}

/// Returns the fields of a chain with the values of a config, from which those keys are taken.
pub(super) async fn groups(
    state: &ApiState,
    tenant: &TenantId,
    chain: &Chain,
    config: &mut BTreeMap<String, String>,
    problem: Option<&Problem>,
) -> Result<Vec<FieldGroup>, PageError> {
    let mut groups = Vec::new();
    let mut drawn: Vec<String> = Vec::new();
    for step in &chain.0 {
        let schema = state.operations.plugins.config_schema(tenant, step).await.map_err(Problem::from)?;
        let Some(schema) = schema else { continue };
        let mut fields = Vec::new();
        for key in schema.keys {
            if drawn.contains(&key.name) {
                continue;
            }
            drawn.push(key.name.clone());
            let value = config.remove(&key.name);
            fields.push(ConfigField::new(key, drawn.len(), value, problem));
        }
        let about = state.operations.plugins.about(tenant, &step.plugin);
        let (title, description) = about.map_or_else(
            || (step.plugin.to_string(), String::new()),
            |about| (about.title.clone(), about.description.clone()),
        );
        groups.push(FieldGroup { title, description, fields });
    }
    Ok(groups)
}
