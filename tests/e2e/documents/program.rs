//! The program's own account of its settings, commands and metrics, with which the reference is compared.

use crate::harness::{program, root, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

fn said(arguments: &[&str]) -> String {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(std::env::temp_dir());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOOKLOOM_")) {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns every setting with its default.
pub(super) fn settings() -> BTreeMap<String, String> {
    let entries: Vec<Value> = serde_json::from_str(&said(&["config", "--json"])).unwrap();
    entries.iter().map(|entry| (text(entry, "name").to_owned(), text(entry, "value").to_owned())).collect()
}

/// A command's help.
pub(super) struct Help {
    /// Its usage, such as `hookloom backup [OPTIONS] <FOLDER>`.
    pub(super) usage: String,
    /// Names of its long options.
    pub(super) options: BTreeSet<String>,
}

/// Returns every command that is not hidden, such as `plugin new`.
pub(super) fn commands() -> BTreeMap<String, Help> {
    let mut found = BTreeMap::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = said(&arguments);
        let below = subcommands(&help);
        let usage = help.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or_default();
        // One that needs no other command after it is a command as well.
        if below.is_empty() || usage.ends_with("[COMMAND]") {
            found.insert(path.join(" "), Help { usage: usage.to_owned(), options: options(&help) });
        }
        open.extend(below.into_iter().map(|name| [path.clone(), vec![name]].concat()));
    }
    found
}

/// Returns the lines of a part of a help text, such as `Options:`.
fn part<'a>(help: &'a str, title: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = help.lines().skip_while(move |line| *line != title).skip(1);
    lines.take_while(|line| line.is_empty() || line.starts_with(' '))
}

fn subcommands(help: &str) -> Vec<String> {
    // Names stand two columns in, and what they do further right.
    let lines = part(help, "Commands:").filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

fn options(help: &str) -> BTreeSet<String> {
    let lines = part(help, "Options:").map(str::trim_start).filter(|line| line.starts_with('-'));
    // Every command has these two; `--version` is another option of some.
    let lines = lines.filter(|line| !line.starts_with("-h, ") && !line.starts_with("-V, "));
    let names = lines.filter_map(|line| line.split([' ', ',', '[']).find(|word| word.starts_with("--")));
    names.map(str::to_owned).collect()
}

/// Returns true if the program accepts a value of a setting.
pub(super) fn accepts(setting: &str, value: &str) -> bool {
    let mut command = Command::new(program());
    command.args(["config", "--set", &format!("{setting}={value}")]).current_dir(std::env::temp_dir());
    command.output().unwrap().status.success()
}

/// Returns every metric's name that the host's sources write.
pub(super) fn metrics() -> BTreeSet<String> {
    let sources = telemetry_sources();
    assert!(!sources.is_empty(), "the sources of the metrics are not where this test looks for them");
    let texts = sources.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts.flat_map(|text| quoted_metrics(&text)).collect()
}

/// Returns every source file that belongs to the module or the crate `telemetry`.
fn telemetry_sources() -> Vec<PathBuf> {
    let mut folders = vec![root().join("host")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_telemetry = path.ancestors().any(|part| part.file_stem().is_some_and(|stem| stem == "telemetry"));
            if path.is_dir() {
                folders.push(path);
            } else if is_telemetry && path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

pub(super) fn quoted_metrics(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let words = code.split(|letter: char| !letter.is_ascii_lowercase() && !letter.is_ascii_digit() && letter != '_');
    words.filter(|word| is_metric(word)).map(str::to_owned).collect()
}

/// Returns true if a word has the form of a metric's name.
fn is_metric(word: &str) -> bool {
    let parts = word.split('_').filter(|part| !part.is_empty()).count();
    let is_own = word.starts_with("hookloom_") && parts >= 3;
    (is_own || (word.starts_with("process_") && parts >= 2)) && !word.ends_with('_')
}

#[test]
fn a_help_text_is_read() {
    let help = "Run it\n\nCommands:\n  new    Make one\n         in a folder\n  build  Build it\n  help   Print this\n\nOptions:\n  \
                -v, --verbose <N>  Say more\n      --json[=<X>]\n          Print JSON, see --other\n  -h, --help\n";
    assert_eq!(subcommands(help), ["new", "build"]);
    assert_eq!(options(help), BTreeSet::from(["--json", "--verbose"].map(str::to_owned)));
}
