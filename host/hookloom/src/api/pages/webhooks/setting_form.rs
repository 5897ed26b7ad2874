//! Folded parts of a webhook's form, and the settings that they change.
//!
//! # Guarantees
//! - A form without a field keeps its setting. A blank field is the default.
//! - Values of secrets go into the form, and never out of it.

use super::setting_kinds::SettingKind;
use super::setting_list::{PARTS, Setting, SettingPart};
use crate::api::pages::forms::{Form, pairs};
use crate::filter::Filter;
use crate::operations::{FieldFault, Problem};
use crate::subscription::{Settings, Subscription};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Fields of secrets: pairs to set, and names to delete.
const SECRETS: &str = "secrets";
const FORGET: &str = "forget_secrets";

/// Field of a signing secret of the owner's own.
const SIGNING_SECRET: &str = "signing_secret";

/// Part of the form with its fields.
pub(in crate::api::pages) struct FoldedPart {
    pub(in crate::api::pages) title: &'static str,
    pub(in crate::api::pages) fields: Vec<SettingField>,
    /// True if a field has a fault.
    pub(in crate::api::pages) is_open: bool,
    /// Number of settings that are not the default.
    pub(in crate::api::pages) changed: usize,
}

/// Field of a setting.
pub(in crate::api::pages) struct SettingField {
    pub(in crate::api::pages) name: String,
    pub(in crate::api::pages) label: &'static str,
    pub(in crate::api::pages) hint: &'static str,
    pub(in crate::api::pages) kind: SettingKind,
    pub(in crate::api::pages) value: String,
    /// Default, which a blank field stands for.
    pub(in crate::api::pages) default: String,
    pub(in crate::api::pages) error: Option<String>,
}

/// Secrets in the form.
#[derive(Default)]
pub(in crate::api::pages) struct SecretForm {
    /// Name of each secret, and whether its box is checked.
    pub(in crate::api::pages) names: Vec<(String, bool)>,
    pub(in crate::api::pages) error: Option<String>,
    pub(in crate::api::pages) signing_error: Option<String>,
    /// True if values were submitted with a form that was refused: they are not shown again.
    pub(in crate::api::pages) is_lost: bool,
}

/// Secrets that a form sets and deletes.
pub(super) struct SecretChanges {
    pub(super) values: BTreeMap<String, Option<String>>,
    pub(super) signing_secret: Option<String>,
}

/// Returns the name of a setting's field.
fn field_name(pointer: &str) -> String {
    format!("set{}", pointer.replace('/', "."))
}

/// Returns the JSON of settings. The filter, whose numbers JSON values do not keep, is left out.
fn as_json(settings: &Settings) -> Value {
    serde_json::to_value(Settings { filter: None, ..settings.clone() }).unwrap_or_default()
}

/// Returns the JSON of default settings, with the values of parts that are absent by default.
fn defaults() -> Value {
    let mut defaults = as_json(&Settings::new(String::new(), Vec::new()));
    defaults["reuse"] = json!({"idle_s": 60});
    defaults
}

/// Returns the parts with the values of settings.
pub(super) fn parts_of(settings: &Settings) -> Vec<FoldedPart> {
    let shown = as_json(settings);
    parts(|setting| setting.kind.text(shown.pointer(setting.pointer).unwrap_or(&Value::Null)), None)
}

/// Returns the parts as they were submitted, with the faults of their fields. A field that was not submitted has its saved value.
pub(super) fn parts_again(form: &Form, old: Option<&Subscription>, problem: Option<&Problem>) -> Vec<FoldedPart> {
    let saved = old.map_or_else(defaults, |old| as_json(&old.settings));
    let value = |setting: &Setting| {
        let name = field_name(setting.pointer);
        if form.contains(&name) {
            form.get(&name).to_owned()
        } else {
            setting.kind.text(saved.pointer(setting.pointer).unwrap_or(&Value::Null))
        }
    };
    parts(value, problem)
}

fn parts(value: impl Fn(&Setting) -> String, problem: Option<&Problem>) -> Vec<FoldedPart> {
    let defaults = defaults();
    let field = |setting: &Setting| {
        let default = setting.kind.text(defaults.pointer(setting.pointer).unwrap_or(&Value::Null));
        let value = value(setting);
        // A limit that is the default is not set.
        let is_hidden = setting.pointer.starts_with("/limits/") && value == default;
        SettingField {
            name: field_name(setting.pointer),
            label: setting.label,
            hint: setting.hint,
            kind: setting.kind,
            value: if is_hidden { String::new() } else { value },
            default,
            error: problem.and_then(|problem| fault_of(setting, problem)),
        }
    };
    PARTS.iter().map(|part| folded(part, part.settings.iter().map(field).collect())).collect()
}

fn folded(part: &SettingPart, fields: Vec<SettingField>) -> FoldedPart {
    FoldedPart {
        title: part.title,
        is_open: fields.iter().any(|field| field.error.is_some()),
        changed: fields.iter().filter(|field| !field.value.is_empty() && field.value != field.default).count(),
        fields,
    }
}

/// Returns the faults of a setting: those of itself and of what it contains, and those of its group that name it.
fn fault_of(setting: &Setting, problem: &Problem) -> Option<String> {
    let (group, name) = setting.pointer.rsplit_once('/')?;
    let is_own = |fault: &&FieldFault| {
        let below = fault.pointer.strip_prefix(setting.pointer);
        let is_below = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let mut words = fault.detail.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
        is_below || !group.is_empty() && fault.pointer == group && words.any(|word| word == name)
    };
    let details: Vec<&str> = problem.errors.iter().filter(is_own).map(|fault| fault.detail.as_str()).collect();
    (!details.is_empty()).then(|| details.join(" · "))
}

impl SecretForm {
    /// Returns the part with the names of saved secrets.
    pub(super) fn of(settings: &crate::subscription::LoadedSettings) -> Self {
        SecretForm { names: settings.secrets().keys().map(|name| (name.clone(), false)).collect(), ..Self::default() }
    }

    /// Returns the part as it was submitted, without the values.
    pub(super) fn again(form: &Form, old: Option<&Subscription>, problem: Option<&Problem>) -> Self {
        let forgotten = form.all(FORGET);
        let saved = old.map(|old| SecretForm::of(&old.settings)).unwrap_or_default();
        let names = saved.names.into_iter().map(|(name, _)| {
            let is_checked = forgotten.contains(&name.as_str());
            (name, is_checked)
        });
        let errors = problem.map(|problem| problem.of_fields(&[SECRETS, SIGNING_SECRET])).unwrap_or_default();
        let error = |field: &str| errors.iter().find(|(name, _)| *name == field).map(|(_, detail)| detail.clone());
        SecretForm {
            names: names.collect(),
            error: error(SECRETS),
            signing_error: error(SIGNING_SECRET),
            is_lost: form.has(SECRETS) || form.has(SIGNING_SECRET),
        }
    }
}

/// Returns the secrets that a form sets and deletes.
pub(super) fn secrets_in(form: &Form) -> Result<SecretChanges, Problem> {
    let set = pairs(form.get(SECRETS)).map_err(|_| {
        // Without the line, which is a secret.
        Problem::field("/secrets", "a line is not a pair: write NAME = value")
    })?;
    let forgotten = form.all(FORGET).into_iter().map(|name| (name.to_owned(), None));
    let values = forgotten.chain(set.into_iter().map(|(name, value)| (name, Some(value)))).collect();
    let signing_secret = Some(form.get(SIGNING_SECRET)).filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(SecretChanges { values, signing_secret })
}

/// Returns settings with the changes of a form.
///
/// # Errors
/// A fault for each field that cannot be read.
pub(super) fn changed(form: &Form, settings: Settings) -> Result<Settings, Problem> {
    let filter: Option<Filter> = settings.filter.clone();
    let mut whole = as_json(&settings);
    let mut faults = Vec::new();
    for setting in PARTS.iter().flat_map(|part| part.settings) {
        let name = field_name(setting.pointer);
        if !form.contains(&name) {
            continue;
        }
        match setting.kind.value(form.get(&name)) {
            Ok(value) => set(&mut whole, setting.pointer, value),
            Err(detail) => faults.push(FieldFault { pointer: setting.pointer.to_owned(), detail }),
        }
    }
    faults.extend(complete(&mut whole));
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let changed: Settings = serde_json::from_value(whole).map_err(Problem::invalid_body)?;
    Ok(Settings { filter, ..changed })
}

/// Sets or removes the value at a pointer of one or two names.
fn set(whole: &mut Value, pointer: &str, value: Option<Value>) {
    let mut names = pointer.split('/').skip(1);
    let (Some(first), second) = (names.next(), names.next()) else { return };
    let group = match second {
        None => &mut *whole,
        Some(_) => {
            let group = &mut whole[first];
            if !group.is_object() {
                *group = Value::Object(Map::new());
            }
            group
        }
    };
    let Some(group) = group.as_object_mut() else { return };
    let name = second.unwrap_or(first).to_owned();
    match value {
        Some(value) => group.insert(name, value),
        None => group.remove(&name),
    };
}

/// Makes groups whose first field is blank absent, and removes fields that the first one does without.
fn complete(whole: &mut Value) -> Option<FieldFault> {
    if whole["reuse"].get("calls").is_none_or(Value::is_null) {
        whole["reuse"] = Value::Null;
    }
    let ordering = &mut whole["ordering"];
    match ordering.get("on_failure").and_then(Value::as_str) {
        None => *ordering = Value::Null,
        Some("block") => *ordering = json!({"on_failure": "block"}),
        Some(_) if ordering.get("attempts").is_none() => {
            return Some(FieldFault {
                pointer: "/ordering/attempts".to_owned(),
                detail: "events wait for 1 to 100 attempts of one that fails".to_owned(),
            });
        }
        Some(_) => {}
    }
    None
}

#[cfg(test)]
mod tests;
