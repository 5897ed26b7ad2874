//! Fields of a webhook's form for the configuration of its plugins, drawn from their manifests.
//!
//! # Guarantees
//! - A key has one field, whatever plugins of the chain list it. Keys without a field stay in the text of the form.
//! - Names of fields are `config.KEY`. A blank field stands for an absent key.
//! - A form that is saved as it was drawn changes no key: a default that is only shown is not written.

use crate::api::ApiState;
use crate::api::pages::PageError;
use crate::api::pages::prose::{Prose, ProsePart};
use crate::chain::Chain;
use crate::manifest::{ConfigKey, Separator, ValueKind};
use crate::operations::Problem;
use crate::subscription::TenantId;
use askama::Template;
use askama::filters::HtmlSafe;
use std::collections::BTreeMap;

/// Beginning of the names of the fields.
pub(super) const PREFIX: &str = "config.";

/// Bounds of the width of a field, in characters, and of the height of a list, in lines.
const WIDTH_MIN: usize = 12;
const WIDTH_MAX: usize = 80;
const ROWS_MIN: usize = 3;
const ROWS_MAX: usize = 12;

/// Fields of one plugin.
pub(in crate::api::pages) struct FieldGroup {
    pub(in crate::api::pages) title: String,
    pub(in crate::api::pages) description: Prose,
    pub(in crate::api::pages) fields: Vec<ConfigField>,
}

/// Form control of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api::pages) enum Control {
    Text,
    Number,
    /// List, one item a line.
    Lines {
        rows: usize,
    },
    /// Closed set of values.
    Choices(Vec<ShownChoice>),
}

/// Option of a closed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api::pages) struct ShownChoice {
    /// Value that is submitted. Empty: the key stays absent.
    pub(in crate::api::pages) value: String,
    pub(in crate::api::pages) label: String,
}

/// Field of a key, which is displayed as its label, control, fault and description.
#[derive(Template)]
#[template(path = "config_field.html")]
pub(in crate::api::pages) struct ConfigField {
    /// Id of the element.
    pub(in crate::api::pages) id: String,
    pub(in crate::api::pages) key: String,
    pub(in crate::api::pages) label: String,
    pub(in crate::api::pages) hint: Prose,
    pub(in crate::api::pages) control: Control,
    pub(in crate::api::pages) value: String,
    pub(in crate::api::pages) placeholder: String,
    /// Width in characters, of what it holds.
    pub(in crate::api::pages) width: usize,
    pub(in crate::api::pages) required: bool,
    pub(in crate::api::pages) error: Option<String>,
}

/// Its own template has escaped it.
impl HtmlSafe for ConfigField {}

impl ConfigField {
    fn new(key: ConfigKey, index: usize, value: Option<String>, problem: Option<&Problem>) -> Self {
        let pointer = format!("/config/{}", key.name.replace('~', "~0").replace('/', "~1"));
        let error = problem.and_then(|problem| problem.errors.iter().find(|fault| fault.pointer == pointer));
        let value = items_as_lines(key.kind, &value.unwrap_or_default());
        let placeholder = placeholder(&key);
        let longest = value.lines().chain(placeholder.lines()).map(|line| line.chars().count()).max().unwrap_or(0);
        let rows = value.lines().count().max(placeholder.lines().count()).clamp(ROWS_MIN, ROWS_MAX);
        let control = match key.kind {
            _ if key.kind.items().is_some() || value.contains('\n') => Control::Lines { rows },
            _ if !key.choices.is_empty() || key.kind == ValueKind::Boolean => Control::Choices(choices(&key, &value)),
            ValueKind::Integer | ValueKind::Number => Control::Number,
            _ => Control::Text,
        };
        let narrowest = if control == Control::Number { WIDTH_MIN } else { 3 * WIDTH_MIN };
        ConfigField {
            id: format!("config-{index}"),
            hint: hint(&key, &control),
            label: key.title.unwrap_or_else(|| in_words(&key.name)),
            control,
            value,
            placeholder,
            width: (longest + 2).clamp(narrowest, WIDTH_MAX),
            required: key.required,
            error: error.map(|fault| fault.detail.clone()),
            key: key.name,
        }
    }

    /// Returns the ids of the elements that describe the field.
    pub(in crate::api::pages) fn described_by(&self) -> String {
        let hint = (!self.hint.0.is_empty()).then(|| format!("{}-hint", self.id));
        let error = self.error.as_ref().map(|_| format!("{}-error", self.id));
        hint.into_iter().chain(error).collect::<Vec<_>>().join(" ")
    }
}

/// Returns the name of a key as words, for a key without a title.
fn in_words(name: &str) -> String {
    let words = name.replace(['_', '-'], " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Returns what an empty field shows: the default, or an example that is marked as one.
fn placeholder(key: &ConfigKey) -> String {
    let mark = if key.kind.items().is_some() { "Example:\n" } else { "Example: " };
    match (&key.default, key.examples.first()) {
        (Some(default), _) => items_as_lines(key.kind, default),
        (None, Some(example)) => format!("{mark}{}", items_as_lines(key.kind, example)),
        (None, None) => String::new(),
    }
}

/// Returns the options of a closed set. The default is selected where the key is absent.
fn choices(key: &ConfigKey, value: &str) -> Vec<ShownChoice> {
    fn shown(value: &str, label: impl Into<String>) -> ShownChoice {
        ShownChoice { value: value.to_owned(), label: label.into() }
    }
    let mut choices: Vec<ShownChoice> = if key.kind == ValueKind::Boolean {
        vec![shown("true", "Yes"), shown("false", "No")]
    } else {
        fn label(choice: &crate::manifest::Choice) -> String {
            let described = choice.description.as_deref().map(|text| Prose::parse(text).plain());
            described.map_or_else(|| choice.value.clone(), |text| text.trim_end_matches('.').to_owned())
        }
        key.choices.iter().map(|choice| shown(&choice.value, label(choice))).collect()
    };
    // A value from before the manifest stays visible.
    if !value.is_empty() && choices.iter().all(|one| one.value != value) {
        choices.push(shown(value, value));
    }
    if let Some(default) = choices.iter_mut().find(|one| key.default.as_ref() == Some(&one.value)) {
        default.label.push_str(" (default)");
        if value.is_empty() {
            default.value.clear();
        }
    } else {
        choices.insert(0, shown("", if key.required { "Choose one" } else { "Not set" }));
    }
    choices
}

/// Returns the description of a key, with what the host knows of its values.
fn hint(key: &ConfigKey, control: &Control) -> Prose {
    let mut hint = Prose::parse(&key.description);
    let is_list = key.kind.items().is_some();
    let says_so = ["one a line", "one per line", "one item a line", "one item per line"];
    let description = key.description.to_lowercase();
    if is_list && !says_so.iter().any(|words| description.contains(words)) {
        hint.push_sentence("One a line.");
    }
    match (&key.minimum, &key.maximum) {
        (Some(least), Some(most)) => hint.push_sentence(&format!("From {least} to {most}.")),
        (Some(least), None) => hint.push_sentence(&format!("At least {least}.")),
        (None, Some(most)) => hint.push_sentence(&format!("At most {most}.")),
        (None, None) => {}
    }
    // The options of a closed set name the default.
    let Some(default) = key.default.as_ref().filter(|_| !matches!(control, Control::Choices(_))) else { return hint };
    hint.push_sentence("Default: ");
    let lines = items_as_lines(key.kind, default);
    for (index, item) in lines.lines().enumerate() {
        hint.push_plain(if index == 0 { "" } else { ", " });
        hint.push_code(item);
    }
    hint.push_plain(".");
    hint
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
            || (step.plugin.to_string(), Prose::default()),
            |about| (about.title.clone(), Prose::parse(&about.description)),
        );
        groups.push(FieldGroup { title, description, fields });
    }
    Ok(groups)
}

#[cfg(test)]
mod tests;
