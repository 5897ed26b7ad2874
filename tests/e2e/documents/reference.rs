//! The reference against the program, both ways: nothing is missing on the page, and nothing on it is not there.

use super::page::{Document, Table};
use super::program;
use crate::harness::{Host, root, text};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Reads a page of the reference.
fn page(name: &str) -> Document {
    Document::read(&Path::new("docs/reference").join(name))
}

/// Fails with what is in one set only.
#[track_caller]
fn assert_same(page: &str, shown: &BTreeSet<String>, real: &BTreeSet<String>) {
    let missing: Vec<_> = real.difference(shown).collect();
    let stale: Vec<_> = shown.difference(real).collect();
    assert!(missing.is_empty() && stale.is_empty(), "{page}: not there: {missing:?}; not of the program: {stale:?}");
}

/// Returns the tables of a page that have a column, with its index.
fn tables<'a>(page: &'a Document, column: &'a str) -> impl Iterator<Item = (&'a Table, usize)> {
    page.tables.iter().filter_map(move |table| Some((table, table.column(column)?)))
}

/// Returns a value as pages write it: without backquotes, quotes and the commas of thousands.
fn plain(value: &str) -> String {
    let value = value.trim().trim_matches('`').trim_matches('"');
    let is_number = value.chars().all(|letter| letter.is_ascii_digit() || letter == ',');
    if is_number { value.replace(',', "") } else { value.to_owned() }
}

#[test]
fn settings_are_the_programs_with_their_defaults() {
    let page = page("settings.md");
    let real = program::settings();
    let mut shown = BTreeMap::new();
    for (table, column) in tables(&page, "setting") {
        let default = table.column("default").unwrap_or_else(|| panic!("{}: no defaults", page.at(table.line)));
        for row in &table.rows {
            for name in Document::code_of(&row[column]) {
                let before = shown.insert(name.clone(), plain(&row[default]));
                assert_eq!(before, None, "{}: {name} stands there twice", page.at(table.line));
            }
        }
    }
    assert_same("settings.md", &shown.keys().cloned().collect(), &real.keys().cloned().collect());
    for (name, default) in &real {
        assert_eq!(shown[name], plain(default), "settings.md: the default of {name}");
    }
}

#[test]
fn settings_have_the_ranges_of_the_page() {
    let page = page("settings.md");
    let mut tried = 0;
    for (table, column) in tables(&page, "setting") {
        let Some(range) = table.column("range") else { continue };
        for row in &table.rows {
            let Some((least, most)) = row[range].split_once(" to ") else { continue };
            let name = &Document::code_of(&row[column])[0];
            let bounds = [least, most].map(number).map(|bound| bound.parse::<u64>().ok());
            let outside = [bounds[0].and_then(|least| least.checked_sub(1)), bounds[1].map(|most| most + 1)];
            for value in outside.into_iter().flatten() {
                assert!(!program::accepts(name, &value.to_string()), "{}: {name} may be {value}", page.at(table.line));
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn metrics_are_those_that_the_host_writes() {
    let page = page("metrics.md");
    let cells = tables(&page, "metric").flat_map(|(table, column)| table.rows.iter().map(move |row| &row[column]));
    assert_same("metrics.md", &cells.flat_map(|cell| Document::code_of(cell)).collect(), &program::metrics());
}

#[tokio::test]
async fn metrics_that_a_host_shows_are_on_the_page() {
    let host = Host::start().await;
    let shown = host.ask(reqwest::Method::GET, "/metrics", "").await.text;
    let names = shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let known = program::metrics();
    for name in names {
        assert!(known.contains(name), "{name} is on no page");
    }
}

#[test]
fn alerts_and_dashboard_have_metrics_of_the_host() {
    let known = program::metrics();
    for file in ["deploy/alerts.yaml", "deploy/grafana.json"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let named = program::quoted_metrics(&text);
        assert!(named.len() > 5, "{file}: {named:?}");
        for name in named {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            assert!(known.contains(of_histogram.unwrap_or(&name)), "{file}: the host has no metric {name}");
        }
    }
}

#[test]
fn alerts_that_a_page_explains_are_those_of_several_hosts() {
    let rules = std::fs::read_to_string(root().join("deploy/alerts.yaml")).unwrap();
    let rules = rules.split("- alert: ").skip(1).filter(|rule| rule.contains("hookloom_fleet_"));
    let real = rules.map(|rule| rule.lines().next().unwrap().to_owned()).collect();
    let page = Document::read(Path::new("docs/how-to/monitor.md"));
    let cells = tables(&page, "alert").flat_map(|(table, column)| table.rows.iter().map(move |row| &row[column]));
    assert_same("monitor.md", &cells.flat_map(|cell| Document::code_of(cell)).collect(), &real);
}

/// Part of the page about one command.
struct Section {
    usage: String,
    options: BTreeSet<String>,
}

/// Sentence in place of the options that name settings.
const SETTINGS_TOO: &str = "It also takes the options of `hookloom serve` that name settings.";

/// Returns the sections of the page by command. Each has a heading, the usage, and a table of the options.
fn sections(page: &str) -> BTreeMap<String, Section> {
    let parts = page.split("\n### `hookloom ").skip(1);
    let sections = parts.map(|part| {
        let (name, rest) = part.split_once('`').unwrap();
        let body = rest.split("\n#").next().unwrap_or_default();
        let usage = body.split("```text\n").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let cells = body.lines().filter_map(|line| line.strip_prefix("| `"));
        let names = cells.filter_map(|cell| cell.split([' ', '`']).next()).filter(|name| name.starts_with("--"));
        let mut options: BTreeSet<String> = names.map(str::to_owned).collect();
        if body.contains(SETTINGS_TOO) {
            options.extend(["--config", "--data-dir", "--listen", "--allow-loopback", "--set"].map(str::to_owned));
        }
        (name.to_owned(), Section { usage: usage.to_owned(), options })
    });
    sections.collect()
}

#[test]
fn commands_and_options_are_the_programs() {
    let page = page("command-line.md");
    let shown = sections(&page.text);
    let real = program::commands();
    assert_same("command-line.md", &shown.keys().cloned().collect(), &real.keys().cloned().collect());
    for (name, help) in &real {
        assert_same(&format!("command-line.md: {name}"), &shown[name].options, &help.options);
        assert_eq!(shown[name].usage, help.usage, "command-line.md: {name}");
    }
}

/// Returns the words after each `hookloom ` of a text that may be a command.
fn command_names(text: &str) -> impl Iterator<Item = Vec<&str>> {
    ["`hookloom ", "$ hookloom ", "&& hookloom "].into_iter().flat_map(|start| text.split(start).skip(1)).map(|rest| {
        let line = rest.split(['`', '\n', '|', '#']).next().unwrap_or_default();
        line.split_whitespace().take(2).collect()
    })
}

/// Returns the command of the program that words begin with. `None`: they name none, or a group of commands.
fn of_program<T>(real: &BTreeMap<String, T>, words: &[&str]) -> Option<String> {
    let two = words.join(" ");
    let one = words.first().copied().unwrap_or_default();
    [two.as_str(), one].into_iter().find(|name| real.contains_key(*name)).map(str::to_owned)
}

/// Returns what pages name as a command of the program and is none.
pub(super) fn unknown_commands(pages: &[Document]) -> Vec<String> {
    let real = program::commands();
    let mut faults = Vec::new();
    for page in pages.iter().filter(|page| !page.path.starts_with("docs/decisions")) {
        for words in command_names(&page.text) {
            let first = words.first().copied().unwrap_or_default();
            let is_command = first.starts_with(|letter: char| letter.is_ascii_lowercase());
            let is_group = real.keys().any(|name| name.split(' ').next() == Some(first)) && words.len() < 2;
            let is_placeholder = words.iter().any(|word| word.contains(['…', '<', '-']) && !real.contains_key(*word));
            if is_command && !is_group && of_program(&real, &words).is_none() && !is_placeholder {
                faults.push(format!("{}: `hookloom {}` is not a command", page.path.display(), words.join(" ")));
            }
        }
    }
    faults
}

#[tokio::test]
async fn routes_are_the_hosts_with_their_parameters() {
    let page = page("rest-api.md");
    let document = Host::start().await.get("/openapi.json").await;
    let mut real = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let query: Vec<&str> = parameters.filter(|one| one["in"] == "query").map(|one| text(one, "name")).collect();
            real.insert(format!("{} {path} {}", method.to_uppercase(), query.join(", ")));
        }
    }
    let mut shown = BTreeSet::new();
    for (table, column) in tables(&page, "route") {
        let query = table.column("query").unwrap_or_else(|| panic!("{}: no parameters", page.at(table.line)));
        for row in &table.rows {
            let route = Document::code_of(&row[column]).concat();
            shown.insert(format!("{route} {}", Document::code_of(&row[query]).join(", ")));
        }
    }
    assert_same("rest-api.md", &shown, &real);
}

#[tokio::test]
async fn limits_of_a_call_are_the_hosts() {
    let page = page("limits.md");
    let host = Host::start().await;
    let document = host.get("/openapi.json").await;
    let names = document["components"]["schemas"]["Limits"]["properties"].as_object().unwrap().keys();
    let subscription = host.subscription("https://hooks.example.com/", json!({})).await;
    let defaults = host.get(&format!("./subscriptions/{subscription}")).await["limits"].clone();
    let shown = limits_shown(&page);
    assert_same("limits.md", &shown.keys().cloned().collect(), &names.clone().cloned().collect());
    for name in names {
        let body =
            json!({"notify_url": "https://hooks.example.com/", "modules": ["Deal"], "limits": {name: u64::MAX >> 1}});
        let refused = host.ask(reqwest::Method::POST, "./subscriptions", body.to_string()).await;
        let detail = text(&refused.json, "detail");
        let most = detail
            .split("at most ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or_else(|| panic!("{detail}"));
        let expected = (defaults[name].to_string(), most.to_owned());
        assert_eq!(shown[name], expected, "limits.md: default and most of limits.{name}");
    }
}

/// Returns the default and the most of each limit of a call.
fn limits_shown(page: &Document) -> BTreeMap<String, (String, String)> {
    let mut shown = BTreeMap::new();
    for (table, place) in tables(page, "where") {
        let [Some(default), Some(most)] = ["default", "most"].map(|name| table.column(name)) else { continue };
        for row in &table.rows {
            let names: Vec<String> = Document::code_of(&row[place])
                .iter()
                .filter_map(|name| name.strip_prefix("limits.").map(str::to_owned))
                .collect();
            // Several limits in one row have their numbers in the same order.
            let [defaults, maxima] = [default, most].map(|column| row[column].split(" / ").map(number));
            for ((name, default), most) in names.into_iter().zip(defaults).zip(maxima) {
                shown.insert(name, (default, most));
            }
        }
    }
    shown
}

/// Returns the number at the beginning of a cell, without the commas of thousands.
fn number(cell: &str) -> String {
    let digits = cell.trim().chars().take_while(|letter| letter.is_ascii_digit() || *letter == ',');
    digits.filter(|letter| *letter != ',').collect()
}

#[test]
fn limits_that_are_settings_have_the_settings_defaults() {
    let page = page("limits.md");
    let settings = program::settings();
    let mut compared = 0;
    for (table, place) in tables(&page, "where") {
        let Some(default) = table.column("default") else { continue };
        for row in &table.rows {
            // A cell that begins with a name says what changes the limit; other names explain it.
            let named = Document::code_of(&row[place]).into_iter().next().filter(|_| row[place].starts_with('`'));
            let Some(name) = named else { continue };
            let Some(value) = settings.get(&name).filter(|value| *value != "0") else { continue };
            let numbers: Vec<String> = row[default].split(" / ").map(number).collect();
            if numbers.iter().any(|number| !number.is_empty()) {
                assert!(numbers.contains(value), "{}: {name} is {value} by default", page.at(table.line));
                compared += 1;
            }
        }
    }
    assert!(compared >= 10, "only {compared} limits are settings");
}

#[test]
fn a_command_is_found_in_a_text() {
    let text = "run `hookloom plugin new x` or\n$ hookloom serve --listen x\n`hookloom` alone";
    assert_eq!(command_names(text).collect::<Vec<_>>(), [vec!["plugin", "new"], vec!["serve", "--listen"]]);
    let real = BTreeMap::from([("plugin new".to_owned(), ()), ("serve".to_owned(), ())]);
    assert_eq!(of_program(&real, &["plugin", "new"]).as_deref(), Some("plugin new"));
    assert_eq!(of_program(&real, &["serve", "--listen"]).as_deref(), Some("serve"));
    assert_eq!(of_program(&real, &["plugin", "frobnicate"]), None);
}

#[test]
fn numbers_of_cells_are_plain() {
    assert_eq!(
        [number("1,024 (a line)"), number("as many"), plain("`\"info\"`"), plain("262,144")],
        ["1024", "", "info", "262144"]
    );
}
