//! File of an export, as parsed by an import.
//!
//! Every name, reference and component is checked before anything is sent to a host, and every fault is reported with its position.
//! Limits, address guard and tenants of the receiving host are not checked: only that host knows them.

use super::super::Failure;
use super::secrets::ImportSecrets;
use super::{FORMAT, without};
use crate::ids::{PluginName, VersionId};
use crate::inspector::BinSettings;
use crate::subscription::{Settings, check_secret_name};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Export whose names are valid.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) tenant: Map<String, Value>,
    pub(super) plugins: Vec<ImportedPlugin>,
    /// Bodies for the route, and the state of each subscription.
    pub(super) subscriptions: Vec<(Value, String)>,
    pub(super) bins: Vec<Value>,
}

#[derive(Debug)]
pub(super) struct ImportedPlugin {
    pub(super) name: PluginName,
    version: VersionId,
    pub(super) component: Bytes,
}

impl Imported {
    /// Parses a file, and adds the secrets of its webhooks.
    ///
    /// # Errors
    /// Every fault with its position in the file.
    pub(super) fn read(text: &[u8], secrets: &ImportSecrets) -> Result<Self, Failure> {
        let mut all: Value = serde_json::from_slice(text)?;
        if all["hookloom_export"] != FORMAT {
            return Err("this is not an export of a tenant, or its format is unknown".into());
        }
        let mut faults = secrets.fill(&mut all).err().unwrap_or_default();
        let plugins = checked(&all, "plugins", &mut faults, plugin);
        let mut names: Vec<&str> = plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).filter(|pair| pair[0] == pair[1]);
        faults.extend(twice.map(|pair| format!("plugins: {:?} is there twice", pair[0])));
        let subscriptions = checked(&all, "subscriptions", &mut faults, |one| subscription(one, &plugins));
        let bins = checked(&all, "bins", &mut faults, bin);
        let tenant = match &all["tenant"] {
            Value::Object(tenant) => tenant.clone(),
            Value::Null => Map::new(),
            _ => {
                faults.push("tenant: is not an object".to_owned());
                Map::new()
            }
        };
        if !faults.is_empty() {
            return Err(faults.join("; ").into());
        }
        Ok(Imported { tenant, plugins, subscriptions, bins })
    }
}

/// Returns the valid items of a list, and records the faults of the others.
fn checked<T>(
    all: &Value,
    list: &str,
    faults: &mut Vec<String>,
    check: impl Fn(&Value) -> Result<T, String>,
) -> Vec<T> {
    let items = match &all[list] {
        Value::Array(items) => items.as_slice(),
        Value::Null => &[],
        _ => {
            faults.push(format!("{list}: is not a list"));
            &[]
        }
    };
    let mut fitting = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match check(item) {
            Ok(item) => fitting.push(item),
            Err(fault) => faults.push(format!("{list}[{index}]: {fault}")),
        }
    }
    fitting
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, String> {
    value[name].as_str().ok_or_else(|| format!("{name} is missing or is not text"))
}

fn plugin(value: &Value) -> Result<ImportedPlugin, String> {
    let name = PluginName::parse(text(value, "name")?)?;
    let version = VersionId::parse(text(value, "sha256")?)?;
    let component = BASE64.decode(text(value, "component")?).map_err(|error| format!("component: {error}"))?;
    if hex::encode(Sha256::digest(&component)) != *version.as_str() {
        return Err(format!("the component of {name} has another sha256 than the file says"));
    }
    Ok(ImportedPlugin { name, version, component: component.into() })
}

fn subscription(value: &Value, plugins: &[ImportedPlugin]) -> Result<(Value, String), String> {
    let mut write = value.clone();
    let state = value["state"].as_str().unwrap_or("active").to_owned();
    if !["active", "paused", "disabled"].contains(&state.as_str()) {
        return Err(format!("{state:?} is not a state"));
    }
    without(&mut write, &["state"]);
    match &write["secrets"] {
        Value::Array(names) if !names.is_empty() => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            let url = text(value, "notify_url").unwrap_or_default();
            let names = names.join("\": \"…\", \"");
            return Err(format!(
                "the webhook to {url} uses secrets that no export holds: give them by --secrets FILE, or - for stdin: {{\"secrets\": {{\"{names}\": \"…\"}}}}"
            ));
        }
        Value::Object(secrets) => secrets.keys().try_for_each(|name| check_secret_name(name))?,
        _ => write["secrets"] = Value::Object(Map::new()),
    }
    let mut settings = write.clone();
    without(&mut settings, &["secrets", "signing_secret"]);
    let settings: Settings = serde_json::from_value(settings).map_err(|error| error.to_string())?;
    for step in &settings.plugin.0 {
        let fits =
            |one: &&ImportedPlugin| one.name == step.plugin && step.pin.as_ref().is_none_or(|pin| *pin == one.version);
        if !plugins.iter().any(|plugin| fits(&plugin)) {
            return Err(format!(
                "the file does not hold the plugin {} (or the version that it is pinned to)",
                step.plugin
            ));
        }
    }
    Ok((write, state))
}

fn bin(value: &Value) -> Result<Value, String> {
    let settings: BinSettings = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    match settings.check().first() {
        Some((pointer, detail)) => Err(format!("{pointer}: {detail}")),
        None => Ok(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file() -> Value {
        let sha256 = hex::encode(Sha256::digest(b"component"));
        json!({
            "hookloom_export": 1,
            "tenant": {"event_types": {}},
            "plugins": [{"name": "redact", "sha256": sha256, "component": BASE64.encode(b"component")}],
            "subscriptions": [{"notify_url": "https://a.example/", "modules": ["Deal"], "plugin": "redact", "state": "paused", "secrets": {"key": "x"}}],
            "bins": [{"name": "b"}],
        })
    }

    #[track_caller]
    fn check(pointer: &str, value: Value, expected: &str) {
        let mut file = file();
        *file.pointer_mut(pointer).expect(pointer) = value;
        let error =
            Imported::read(file.to_string().as_bytes(), &ImportSecrets::default()).expect_err(pointer).to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_file_that_fits_is_read() {
        let read = Imported::read(file().to_string().as_bytes(), &ImportSecrets::default()).expect("it fits");
        assert_eq!((read.plugins[0].name.as_str(), &read.plugins[0].component[..]), ("redact", &b"component"[..]));
        assert_eq!(read.subscriptions[0].1, "paused");
        assert!(read.subscriptions[0].0.get("state").is_none());
    }

    #[test]
    fn an_invalid_name_is_reported_with_its_position() {
        for name in
            ["../../victim/plugins/redact", "..", ".", "", "a/b", "a%2fb", "a\\b", "a\0b", "Redact", "a?activate=false"]
        {
            check("/plugins/0/name", name.into(), &format!("plugins[0]: {name:?} is not a plugin name"));
            check("/subscriptions/0/plugin", name.into(), "is not a plugin name");
        }
        check("/plugins/0/name", json!(7), "plugins[0]: name is missing or is not text");
        check("/plugins/0/sha256", "../x".into(), "plugins[0]: \"../x\" is not a sha256");
        check("/plugins/0/sha256", "0".repeat(64).into(), "another sha256");
        check("/plugins/0/component", "%".into(), "component: ");
        check("/plugins", json!([file()["plugins"][0], file()["plugins"][0]]), "\"redact\" is there twice");
        check("/plugins", json!({}), "plugins: is not a list");
        check("/subscriptions/0/plugin", "other".into(), "does not hold the plugin other");
        check(
            "/subscriptions/0/plugin",
            format!("redact@{}", "0".repeat(64)).into(),
            "does not hold the plugin redact",
        );
        check("/subscriptions/0/secrets", json!({"a}}b": "x"}), "is not a name for a secret");
        check("/subscriptions/0/secrets", json!(["token"]), "\"secrets\": {\"token\": \"…\"}");
        check("/subscriptions/0/state", "gone".into(), "is not a state");
        check("/subscriptions/0/modules", json!(["Nothing"]), "subscriptions[0]: ");
        check("/bins/0/name", json!(1), "bins[0]: ");
        check("/bins/0", json!({"reply": {"headers": {"set-cookie": "a=b"}}}), "bins[0]: /reply/headers");
        check("/tenant", json!([]), "tenant: is not an object");
    }

    #[test]
    fn every_fault_is_reported() {
        let mut file = file();
        file["plugins"][0]["name"] = "a/b".into();
        file["bins"][0]["name"] = json!(1);
        let error =
            Imported::read(file.to_string().as_bytes(), &ImportSecrets::default()).expect_err("two faults").to_string();
        assert!(error.contains("plugins[0]: ") && error.contains("; bins[0]: "), "{error}");
    }
}
