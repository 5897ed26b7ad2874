//! Long form of the tests of several hosts on one database.
//!
//! # Theory of operation
//! The tests are those of the end-to-end tests, with more rounds of each fault. They print a row for each trial, with the number of violations
//! that the checker found, which become one table.

use crate::{Failure, cargo, guests, print, run, say, toolchains};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

/// Rounds of each fault, unless told otherwise.
const ROUNDS: &str = "20";

/// Heads of the columns of the table.
const HEAD: &str = "| trial | violations | accepted | answers lost | refused | requests | received twice | faults |
| --- | --: | --: | --: | --: | --: | --: | --: |";

/// Options of the command.
struct Options<'a> {
    rounds: &'a str,
    /// Program of another version.
    before: Option<&'a str>,
    /// Part of the names of the tests.
    filter: &'a str,
}

fn parse<'a>(mut words: &[&'a str]) -> Result<Options<'a>, Failure> {
    let mut options = Options { rounds: ROUNDS, before: None, filter: "fleet::" };
    loop {
        words = match words {
            [] => return Ok(options),
            ["--rounds", rounds, rest @ ..] => {
                options.rounds = rounds;
                rest
            }
            ["--before", program, rest @ ..] => {
                options.before = Some(program);
                rest
            }
            [filter, rest @ ..] if filter.starts_with("fleet::") => {
                options.filter = filter;
                rest
            }
            [other, ..] => return Err(format!("soak fleet does not know {other:?}")),
        }
    }
}

/// Runs the tests one after the other, so that they do not affect each other's times, and prints the table with failures first.
pub(crate) fn soak(words: &[&str]) -> Result<(), Failure> {
    let options = parse(words)?;
    toolchains::ensure_c_compiler()?;
    toolchains::ensure()?;
    guests::build()?;
    run(cargo().args(["build", "-p", "hookloom", "--bins", "--tests"]))?;
    say("this takes an hour with 20 rounds; times and rows are printed when they are there");
    let mut tests = cargo();
    tests.args(["test", "-p", "hookloom", "--test", "e2e", "--", options.filter, "--nocapture", "--test-threads=1"]);
    tests.env("TEST_FLEET_ROUNDS", options.rounds);
    tests.envs(toolchains::unpacked_postgres().map(|programs| (toolchains::POSTGRES_PROGRAMS, programs)));
    match options.before {
        Some(program) => tests.arg("--include-ignored").env("TEST_PROGRAM_BEFORE", program),
        None => tests.args(["--include-ignored", "--skip", "fleet::upgrade::"]),
    };
    let mut running = tests.stdout(Stdio::piped()).spawn().map_err(|error| format!("{tests:?}: {error}"))?;
    let mut rows = Vec::new();
    if let Some(output) = running.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            print(&line);
            rows.extend(row(&line));
        }
    }
    let status = running.wait().map_err(|error| error.to_string())?;
    rows.sort_by_key(|(violations, _)| std::cmp::Reverse(*violations));
    print(HEAD);
    rows.iter().for_each(|(_, row)| print(row));
    if status.success() { Ok(()) } else { Err("a test failed".into()) }
}

/// Returns a row of the table with its number of violations. None: the line is none.
fn row(line: &str) -> Option<(u64, String)> {
    let row = line.trim_start_matches(|char| char != '|');
    let violations = row.split('|').nth(2)?.trim().parse().ok()?;
    Some((violations, row.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::row;

    #[track_caller]
    fn check(line: &str, expected: Option<(u64, &str)>) {
        assert_eq!(row(line), expected.map(|(violations, row)| (violations, row.to_owned())), "{line}");
    }

    #[test]
    fn rows_are_told_from_other_output() {
        check("| kills | 2 | 30 |", Some((2, "| kills | 2 | 30 |")));
        check("test fleet::kills ... | kills | 0 | 30 |", Some((0, "| kills | 0 | 30 |")));
        check("a subscription goes on: p50 4 ms", None);
        check("| trial | violations |", None);
    }
}
