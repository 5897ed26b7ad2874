//! Blocks of pages that are not commands: JSON and TOML parse, settings are accepted, and code is what stands in the source.

use super::page::{Block, Document};
use crate::harness::{program, root};
use serde_json::Value;
use tempfile::TempDir;

/// Languages whose blocks are code: part of a file of the source (`from`), or saved and then run by the page (`save`).
const CODE: [&str; 9] = ["rust", "js", "ts", "python", "c", "wit", "caddyfile", "nginx", "ini"];

/// Languages whose blocks are only shown.
const SHOWN: [&str; 6] = ["text", "http", "xml", "csv", "diff", "mermaid"];

/// Returns what is wrong with the blocks of a page.
pub(super) fn faults(page: &Document) -> Vec<String> {
    let faults = page.blocks.iter().filter_map(|block| Some(format!("{}: {}", page.at(block.line), fault(block)?)));
    faults.collect()
}

fn fault(block: &Block) -> Option<String> {
    if let Some(file) = block.mark("from") {
        return stands_in(&block.text, file);
    }
    if block.mark("not checked").is_some() {
        return None;
    }
    match block.language.as_str() {
        "console" => None,
        "json" => json(&block.text),
        "toml" | "yaml" if block.mark("save").is_some() => None,
        "toml" => toml(block),
        language if SHOWN.contains(&language) => None,
        language if CODE.contains(&language) => block
            .mark("save")
            .is_none()
            .then(|| format!("{language}: say `from` which file it is, or `save` it and run it")),
        "" => Some("say the language of the block; `text` for none".to_owned()),
        language => Some(format!("commands stand in `console` blocks; {language:?} is not known to the tests")),
    }
}

/// Compares code with a file of the source, where it stands in one piece, indented or not. A line that is `…` alone, or in a comment,
/// stands for any lines.
fn stands_in(block: &str, file: &str) -> Option<String> {
    let Ok(source) = std::fs::read_to_string(root().join(file)) else { return Some(format!("there is no {file}")) };
    fn trimmed(text: &str) -> Vec<&str> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
    }
    let source = trimmed(&source);
    let shown = trimmed(block);
    let mut from = 0;
    for piece in shown.split(|line| line.trim_start_matches(['/', '#', '-', '*']).trim() == "…") {
        if piece.is_empty() {
            continue;
        }
        match source[from..].windows(piece.len()).position(|lines| lines == piece) {
            Some(at) => from += at + piece.len(),
            None => {
                let missing = piece.iter().find(|line| !source[from..].contains(line));
                return Some(format!("this does not stand in {file}: {}", missing.unwrap_or(&piece[0])));
            }
        }
    }
    None
}

/// Parses JSON, or JSON a line. An ellipsis as the last member of an object or an array stands for the others.
fn json(text: &str) -> Option<String> {
    let whole = [", …", ",…", "…"]
        .iter()
        .fold(text.to_owned(), |text, more| text.replace(&format!("{more}}}"), "}").replace(&format!("{more}]"), "]"));
    let error = serde_json::from_str::<Value>(&whole).err()?;
    let each =
        whole.lines().filter(|line| !line.trim().is_empty()).all(|line| serde_json::from_str::<Value>(line).is_ok());
    (!each).then(|| format!("this is not JSON: {error}"))
}

fn toml(block: &Block) -> Option<String> {
    if let Err(error) = block.text.parse::<toml::Table>() {
        return Some(format!("this is not TOML: {error}"));
    }
    block.mark("settings").and_then(|_| settings_fault(&block.text))
}

/// Asks the program whether it accepts a settings file. Returns its refusal.
pub(super) fn settings_fault(text: &str) -> Option<String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookloom.toml");
    std::fs::write(&file, text).unwrap();
    let output = std::process::Command::new(program()).args(["config", "--config"]).arg(&file).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

#[test]
fn json_may_leave_members_out() {
    assert_eq!(json("{\"a\": 1, …}"), None);
    assert_eq!(json("[{\"a\": \"x…\"}, …]"), None);
    assert_eq!(json("{\"a\": 1}\n{\"b\": 2}"), None);
    assert!(json("{\"a\": }").is_some());
    assert!(json("{\"a\": 1, … \"b\": 2}").is_some());
}

#[test]
fn code_is_found_in_the_file_that_it_is_from() {
    assert_eq!(
        stands_in("pub(super) fn faults(page: &Document) -> Vec<String> {", "tests/e2e/documents/code.rs"),
        None
    );
    assert_eq!(
        stands_in("use super::page::{Block, Document};\n// …\nuse tempfile::TempDir;", "tests/e2e/documents/code.rs"),
        None
    );
    assert!(
        stands_in("use tempfile::TempDir;\n// …\nuse super::page::{Block, Document};", "tests/e2e/documents/code.rs")
            .is_some()
    );
    assert!(stands_in("x", "nowhere.rs").is_some());
}
