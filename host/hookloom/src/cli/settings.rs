//! Options for settings: the file, flags, and `--set` for any of them.

use super::Failure;
use crate::config::{Config, Settled, settle};
use clap::Args;
use std::fmt::Write as _;
use std::path::PathBuf;
use toml::Table;

/// Sources of settings: a file, and flags.
#[derive(Args)]
pub(super) struct SettingsArgs {
    /// Settings file. Without it: hookloom.toml, if it exists.
    #[arg(long, value_name = "FILE", env = "HOOKLOOM_CONFIG")]
    config: Option<PathBuf>,
    #[arg(long, value_name = "FOLDER", help = described("Folder of the database, the keys and the compiled plugins", "data_dir"))]
    data_dir: Option<String>,
    #[arg(long, value_name = "ADDRESS:PORT", help = described("The address to listen on; a host name such as localhost will do", "listen"))]
    listen: Option<String>,
    #[arg(long, help = described("Let Notify URLs name this machine (127.0.0.1, localhost): for demos and tests", "allow_loopback"))]
    allow_loopback: bool,
    /// Any other setting, as in the file: --set stop_grace_s=5.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl SettingsArgs {
    pub(super) fn settle(&self) -> Result<Settled, Failure> {
        let mut flags = Table::new();
        for pair in &self.set {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("--set {pair}: write NAME=VALUE"))?;
            let value = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
            flags.insert(name.trim().to_owned(), value.unwrap_or_else(|| pair[name.len() + 1..].into()));
        }
        for (name, value) in [("data_dir", &self.data_dir), ("listen", &self.listen)] {
            flags.extend(value.clone().map(|value| (name.to_owned(), value.into())));
        }
        flags.extend(self.allow_loopback.then(|| ("allow_loopback".to_owned(), true.into())));
        let environment: Vec<_> = std::env::vars().collect();
        Ok(settle(self.config.as_deref(), &environment, flags)?)
    }

    /// Returns the data folder for a command that works on SQLite's files.
    ///
    /// # Errors
    /// The state is in another database. `instead` says what to use for it.
    pub(super) fn sqlite_folder(&self, instead: &str) -> Result<PathBuf, Failure> {
        let config = self.settle()?.config;
        match config.store.postgres() {
            None => Ok(config.data_dir),
            Some(_) => {
                Err(format!("the state is in PostgreSQL (store = {:?}): {instead}", config.store.to_string()).into())
            }
        }
    }
}

fn defaults() -> Table {
    Table::try_from(Config::default()).expect("the defaults are plain values")
}

/// Returns the help of a flag, with the default of its setting.
fn described(what: &str, setting: &str) -> String {
    let default =
        defaults().remove(setting).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    format!("{what} [default: {}]", default.unwrap_or_default())
}

/// Returns all settings with their defaults, for the long help.
pub(super) fn all() -> String {
    let mut text = "Settings, with their defaults (as --set NAME=VALUE, in the file, or as HOOKLOOM_NAME in the environment; hookloom.example.toml explains them):\n".to_owned();
    for (name, value) in defaults() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name} = {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_default() {
        assert_eq!(described("Where", "listen"), "Where [default: 127.0.0.1:8420]");
        assert_eq!(described("Where", "data_dir"), "Where [default: hookloom-data]");
        assert_eq!(described("Whether", "allow_loopback"), "Whether [default: false]");
        let all = all();
        for (name, value) in defaults() {
            assert!(all.contains(&format!("  {name} = {value}\n")), "{name}");
        }
    }
}
