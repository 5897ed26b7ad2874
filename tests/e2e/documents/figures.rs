//! Measured figures: each stands once in `docs/figures.toml`, with the command that measures it, and pages quote it.
//!
//! A page quotes a figure in two ways:
//! - In a table marked `figures`: every cell behind the first that has a digit in it is a figure. Its name is the row's first cell and
//!   the column's head with ` / ` between them, and its value is the cell.
//! - In a sentence, by a comment behind it: `10,000 a second<!-- figure: NAME -->`. The value stands directly before the comment.

use super::page::Document;
use crate::harness::root;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The record of the figures.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    measurement: Vec<Measurement>,
}

/// Figures that one command measured at one time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Measurement {
    /// Command that measures them again.
    command: String,
    /// Day of the measurement, such as 2026-11-20.
    date: String,
    /// Commit that was measured, abbreviated.
    commit: String,
    /// Machine that it was measured on.
    machine: String,
    /// Value with its unit, as pages write it, by name.
    figures: BTreeMap<String, String>,
}

/// Returns what differs between the record and the pages.
pub(super) fn faults(pages: &[Document]) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/figures.toml")).unwrap();
    let record: Record = toml::from_str(&text).unwrap_or_else(|error| panic!("docs/figures.toml: {error}"));
    let mut faults: Vec<String> = record.measurement.iter().flat_map(measurement_faults).collect();
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in record.measurement.iter().flat_map(|measurement| &measurement.figures) {
        if known.insert(name, value).is_some() {
            faults.push(format!("docs/figures.toml: {name:?} stands there twice"));
        }
    }
    let mut quoted = BTreeSet::new();
    for (place, name, is_value) in pages.iter().flat_map(quotations) {
        match known.get(name.as_str()) {
            None => faults.push(format!("{place}: docs/figures.toml has no figure {name:?}")),
            Some(value) if !is_value(value) => {
                faults.push(format!("{place}: {name:?} is {value} in docs/figures.toml"));
            }
            Some(_) => drop(quoted.insert(name)),
        }
    }
    let unused = known.keys().filter(|name| !quoted.contains(**name));
    faults.extend(unused.map(|name| format!("docs/figures.toml: no page quotes {name:?}")));
    faults
}

/// Place of a quotation, the figure's name, and whether a value is the one that is quoted.
type Quotation = (String, String, Box<dyn Fn(&str) -> bool>);

fn quotations(page: &Document) -> Vec<Quotation> {
    let mut found: Vec<Quotation> = Vec::new();
    for table in page.tables.iter().filter(|table| table.is_marked("figures")) {
        for row in &table.rows {
            for (head, cell) in table.head.iter().zip(row).skip(1).filter(|(_, cell)| has_digit(cell)) {
                let cell = cell.clone();
                let name = format!("{} / {head}", row[0]);
                found.push((page.at(table.line), name, Box::new(move |value| value == cell)));
            }
        }
    }
    for (index, line) in page.text.lines().enumerate() {
        let mut parts = line.split("<!-- figure: ");
        let mut before = parts.next().unwrap_or_default();
        for part in parts {
            let (name, rest) = part.split_once(" -->").unwrap_or((part, ""));
            let quoted = before.to_owned();
            // In backquotes, the comment itself is shown.
            if before.matches('`').count() % 2 == 0 {
                found.push((page.at(index + 1), name.to_owned(), Box::new(move |value| quoted.ends_with(value))));
            }
            before = rest;
        }
    }
    found
}

fn has_digit(text: &str) -> bool {
    text.contains(|letter: char| letter.is_ascii_digit())
}

fn measurement_faults(measurement: &Measurement) -> Vec<String> {
    let Measurement { command, date, commit, machine, figures } = measurement;
    let is_date =
        date.len() == 10 && date.split('-').map(str::len).eq([4, 2, 2]) && !date.contains(char::is_alphabetic);
    let is_commit = (7..=40).contains(&commit.len()) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let no_figure = figures.values().find(|value| !has_digit(value));
    [
        (command.is_empty() || machine.is_empty())
            .then(|| "a measurement names its command and its machine".to_owned()),
        (!is_date).then(|| format!("{date:?} is not a day")),
        (!is_commit).then(|| format!("{commit:?} is not a commit")),
        no_figure.map(|value| format!("{value:?} has no figure in it")),
    ]
    .into_iter()
    .flatten()
    .map(|fault| format!("docs/figures.toml: {command}: {fault}"))
    .collect()
}
