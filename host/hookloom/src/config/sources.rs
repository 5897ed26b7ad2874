//! Sources of settings: defaults, then the file, then `HOOKLOOM_…`, then flags. Later sources win.
//!
//! Each layer is a flat table with the same names, so that `hookloom config` can print the source of each value. An unknown name is
//! an error that suggests the nearest setting. All faults are reported, not only the first.

use super::spelling::nearest;
use super::{Config, ConfigError};
use std::path::Path;
use toml::{Table, Value};

/// Name of the source of a value.
pub type ValueSource = String;

/// Effective settings and their sources.
#[derive(Debug)]
pub struct Settled {
    /// Effective settings.
    pub config: Config,
    /// Name, value as TOML, and source, in the order of the fields.
    pub origins: Vec<(String, String, ValueSource)>,
}

/// File that is read if none is given and it exists.
const DEFAULT_FILE: &str = "hookloom.toml";
const PREFIX: &str = "HOOKLOOM_";

/// Variables with the prefix that are not settings of the host: secrets, and variables of other commands than `serve`.
const OTHER_VARIABLES: [&str; 5] =
    ["HOOKLOOM_ADMIN_KEY", "HOOKLOOM_CONFIG", "HOOKLOOM_KEY", "HOOKLOOM_URL", "HOOKLOOM_SIGNING_SECRET"];

/// Reads all sources. The keys of `flags` are names of fields.
pub fn settle(file: Option<&Path>, environment: &[(String, String)], flags: Table) -> Result<Settled, ConfigError> {
    let defaults = Table::try_from(Config::default()).expect("the defaults are plain values");
    let mut faults = Vec::new();
    let mut layers = vec![("default".to_owned(), defaults.clone())];
    if let Some((path, table)) = read_file(file)? {
        layers.push((path, table));
    }
    for (variable, text) in environment {
        let Some(name) = variable.strip_prefix(PREFIX).filter(|_| !OTHER_VARIABLES.contains(&variable.as_str())) else {
            continue;
        };
        let name = name.to_lowercase();
        match defaults.get(&name) {
            Some(kind) => layers.push((variable.clone(), Table::from_iter([(name, parse_like(kind, text))]))),
            None => faults.push(unknown_variable(variable, &defaults)),
        }
    }
    layers.push(("flag".to_owned(), flags));
    merge(&defaults, layers, faults)
}

fn unknown_variable(variable: &str, settings: &Table) -> String {
    let settings = settings.keys().map(|name| format!("{PREFIX}{}", name.to_uppercase()));
    let known: Vec<String> = settings.chain(OTHER_VARIABLES.map(str::to_owned)).collect();
    match nearest(variable, known.iter().map(String::as_str)) {
        Some(nearest) => format!("{variable} names no setting; did you mean {nearest}?"),
        None => format!("{variable} names no setting; `hookloom config` prints them all"),
    }
}

fn unknown_setting(source: &str, name: &str, settings: &Table) -> String {
    match nearest(name, settings.keys().map(String::as_str)) {
        Some(nearest) => format!("{source}: {name:?} names no setting; did you mean {nearest}?"),
        None => format!("{source}: {name:?} names no setting; `hookloom config` prints them all"),
    }
}

fn read_file(named: Option<&Path>) -> Result<Option<(String, Table)>, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ConfigError::Unreadable { path: path.display().to_string(), source }),
    };
    let shown = path.display().to_string();
    match text.parse::<Table>() {
        Ok(table) => Ok(Some((shown, table))),
        Err(source) => Err(ConfigError::NotToml { path: shown, source: Box::new(source) }),
    }
}

/// Parses a text of the environment as a value of the setting's kind.
fn parse_like(kind: &Value, text: &str) -> Value {
    match kind {
        Value::Boolean(_) => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Boolean),
        Value::Integer(_) => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer),
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            fn item(item: &str) -> Value {
                item.parse().map_or_else(|_| Value::String(item.to_owned()), Value::Integer)
            }
            Value::Array(items.map(item).collect())
        }
        Value::Table(_) => {
            let table = format!("v = {text}").parse::<Table>().ok();
            table.and_then(|mut table| table.remove("v")).unwrap_or_else(|| Value::String(text.to_owned()))
        }
        _ => Value::String(text.to_owned()),
    }
}

fn merge(defaults: &Table, layers: Vec<(ValueSource, Table)>, mut faults: Vec<String>) -> Result<Settled, ConfigError> {
    let mut merged = Table::new();
    let mut sources = std::collections::HashMap::new();
    for (source, table) in layers {
        for (name, value) in table {
            if !defaults.contains_key(&name) {
                faults.push(unknown_setting(&source, &name, defaults));
                continue;
            }
            // Each value is tried alone, so that every fault is reported with the name of its setting.
            let mut alone = defaults.clone();
            alone.insert(name.clone(), value.clone());
            if let Err(error) = alone.try_into::<Config>() {
                faults.push(format!("{source}: {name}: {}", error.message()));
            }
            merged.insert(name.clone(), value);
            sources.insert(name, source.clone());
        }
    }
    if !faults.is_empty() {
        return Err(ConfigError::Faults(faults));
    }
    let config: Config = merged
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::Faults(vec![error.message().to_owned()]))?;
    super::check::check(&config)?;
    // The URL may hold a password.
    merged.insert("store".to_owned(), Value::String(config.store.to_string()));
    let origin = |(name, value): (&String, &Value)| (name.clone(), value.to_string(), sources[name].clone());
    Ok(Settled { config, origins: merged.iter().map(origin).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(file: &str, environment: &[(&str, &str)], flags: &str) -> Result<Settled, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hookloom.toml");
        std::fs::write(&path, file).expect("written");
        let environment: Vec<_> =
            environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        settle(Some(&path), &environment, flags.parse().expect("flags"))
            .map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn later_sources_win_and_are_named() {
        let file = "log = \"warn\"\nevent_bytes_max = 1000\nstop_grace_s = 3";
        let environment = [
            ("HOOKLOOM_EVENT_BYTES_MAX", "2000"),
            ("HOOKLOOM_EGRESS_ALLOW", "10.0.0.0/8, fd00::/8"),
            ("HOOKLOOM_ADMIN_KEY", "k"),
            ("HOOKLOOM_EGRESS_PORTS_ALLOW", "9200, 25"),
            ("HOOKLOOM_PLUGIN_LIMITS_MAX", "{ headers = 2 }"),
        ];
        let settled = settled(file, &environment, "event_bytes_max = 3000").expect("fits");
        assert_eq!((settled.config.event_bytes_max, settled.config.stop_grace_s), (3000, 3));
        assert_eq!(settled.config.egress_allow.len(), 2);
        assert_eq!(settled.config.egress_ports_allow, [9200, 25]);
        assert_eq!(settled.config.plugin_limits_max.len(), 1);
        let source = |wanted: &str| {
            settled.origins.iter().find(|(name, _, _)| name == wanted).map(|(_, _, source)| source.as_str())
        };
        assert_eq!(source("event_bytes_max"), Some("flag"));
        assert_eq!(source("egress_allow"), Some("HOOKLOOM_EGRESS_ALLOW"));
        assert_eq!(source("listen"), Some("default"));
    }

    #[test]
    fn every_fault_is_reported_by_name() {
        #[track_caller]
        fn check(file: &str, environment: &[(&str, &str)], expected: &[&str]) {
            let error = settled(file, environment, "").expect_err("a fault");
            for part in expected {
                assert!(error.contains(part), "{error}");
            }
        }
        check(
            "lisen = \"x\"\nlog = 3",
            &[("HOOKLOOM_NONE", "1")],
            &[
                "\"lisen\" names no setting; did you mean listen?",
                "FILE: log: invalid type",
                "HOOKLOOM_NONE names no setting",
            ],
        );
        check("", &[("HOOKLOOM_RETENTION", "1")], &["did you mean HOOKLOOM_RETENTION_S?"]);
        check("", &[("HOOKLOOM_ADMINKEY", "k")], &["did you mean HOOKLOOM_ADMIN_KEY?"]);
        check("greeting = \"hello\"", &[], &["`hookloom config` prints them all"]);
        check(
            "",
            &[("HOOKLOOM_STOP_GRACE_S", "soon")],
            &["HOOKLOOM_STOP_GRACE_S: stop_grace_s: invalid type: string \"soon\""],
        );
        check("listen = \"0.0.0.0:80\"", &[], &["name its ranges in behind_proxy"]);
        check("egress_allow = [\"0.0.0.0/0\"]", &[], &["switches the address guard off"]);
        check("listen = ", &[], &["FILE is not valid TOML"]);
        check(
            "public_url = \"hooks.example.com\"",
            &[],
            &["FILE: public_url: \"hooks.example.com\" is not the URL of a host"],
        );
        check("public_url = \"http://0.0.0.0:80\"", &[], &["no client can open"]);
        check("public_url = \"https://example.com/t/x\"", &[], &["/t is a path of the host itself"]);
    }

    #[test]
    fn the_example_file_holds_the_defaults() {
        let example = include_str!("../../hookloom.example.toml");
        let uncommented: String = example
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let table: Table = uncommented.parse().expect("TOML");
        assert_eq!(table.clone().try_into::<Config>().expect("settings"), Config::default());
        assert_eq!(
            table.len(),
            Table::try_from(Config::default()).expect("plain").len(),
            "a setting is missing in the example"
        );
    }
}
