//! A Markdown page as the tests read it: fenced blocks with the marks above them, tables, and the text around.
//!
//! A mark is an HTML comment on a line of its own above a block or a table: `<!-- NAME -->` or `<!-- NAME: VALUE -->`. Readers do not
//! see it, neither in the book nor on a forge.

use crate::harness::root;
use std::path::{Path, PathBuf};

/// Names of marks, each with the meaning that it has for the tests.
const MARKS: [(&str, &str); 10] = [
    ("not run", "the block's commands are not run, for the reason that follows"),
    ("not checked", "the block's code is compared with nothing, for the reason that follows"),
    ("from", "the block is part of this file of the source"),
    ("save", "a reader saves the block as this file, before the next command"),
    ("instead", "this is run in place of the block's first command, which would build the program"),
    ("needs", "files of the source or the build, separated by commas, that are in the reader's folder"),
    ("settings", "the block is a settings file"),
    ("toolchain", "the block's commands need this toolchain of plugin authors, and are run by a test of their own"),
    ("figures vary", "numbers in the output differ from run to run"),
    ("figures", "the table's cells are figures of docs/figures.toml"),
];

/// A page.
pub(super) struct Document {
    /// Path from the root of the repository.
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) blocks: Vec<Block>,
    pub(super) tables: Vec<Table>,
    /// Faults in the marks themselves.
    pub(super) faults: Vec<String>,
}

/// A fenced block.
pub(super) struct Block {
    pub(super) language: String,
    pub(super) text: String,
    /// Line of the opening fence, from 1.
    pub(super) line: usize,
    marks: Vec<Mark>,
}

/// A table.
pub(super) struct Table {
    /// Line of the head, from 1.
    pub(super) line: usize,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    marks: Vec<Mark>,
}

/// A mark with its value, which may be empty.
#[derive(Clone, Debug, PartialEq)]
struct Mark {
    name: String,
    value: String,
}

fn value<'a>(marks: &'a [Mark], name: &str) -> Option<&'a str> {
    marks.iter().find(|mark| mark.name == name).map(|mark| mark.value.as_str())
}

impl Block {
    /// Returns the value of a mark, which may be empty.
    pub(super) fn mark(&self, name: &str) -> Option<&str> {
        value(&self.marks, name)
    }
}

impl Table {
    /// Returns true if the table has a mark.
    pub(super) fn is_marked(&self, name: &str) -> bool {
        value(&self.marks, name).is_some()
    }

    /// Returns the index of a column by the first word of its head.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.head.iter().position(|head| head.to_lowercase().split([' ', ',']).next() == Some(name))
    }
}

impl Document {
    /// Reads a page, named by its path from the root of the repository.
    pub(super) fn read(path: &Path) -> Document {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        Document::parse(path, text)
    }

    fn parse(path: &Path, text: String) -> Document {
        let mut page =
            Document { path: path.to_owned(), text: String::new(), blocks: vec![], tables: vec![], faults: vec![] };
        let mut lines = text.lines().enumerate().peekable();
        let mut marks: Vec<Mark> = Vec::new();
        while let Some((index, line)) = lines.next() {
            let inner = line.trim_start();
            if let Some(language) = inner.strip_prefix("```") {
                let indent = line.len() - inner.len();
                let body = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
                let body: Vec<&str> = body.map(|line| line.get(indent..).unwrap_or_default()).collect();
                let marks = std::mem::take(&mut marks);
                page.blocks.push(Block {
                    language: language.trim().into(),
                    text: body.join("\n"),
                    line: index + 1,
                    marks,
                });
            } else if inner.starts_with('|') {
                let mut rows = vec![cells(inner)];
                while let Some((_, row)) = lines.next_if(|(_, line)| line.trim_start().starts_with('|')) {
                    rows.push(cells(row.trim()));
                }
                let head = rows.remove(0);
                rows.drain(..rows.len().min(1));
                page.tables.push(Table { line: index + 1, head, rows, marks: std::mem::take(&mut marks) });
            } else if let Some(mark) = mark(inner) {
                if !MARKS.iter().any(|(name, _)| *name == mark.name) {
                    page.faults.push(format!("{}:{}: there is no mark {:?}", path.display(), index + 1, mark.name));
                }
                marks.push(mark);
            } else if !inner.is_empty() {
                if !marks.is_empty() {
                    let fault = format!("{}:{}: a mark stands above no block or table", path.display(), index + 1);
                    page.faults.push(fault);
                }
                marks.clear();
            }
        }
        page.text = text;
        page
    }

    /// Returns a place in the page, for messages.
    pub(super) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    /// Returns the texts in backquotes of a table's column.
    pub(super) fn code_of(cell: &str) -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }
}

/// Returns the mark that a line is. `None`: it is other text, or a comment within other text.
fn mark(line: &str) -> Option<Mark> {
    let inner = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim();
    let (name, value) = inner.split_once(':').unwrap_or((inner, ""));
    Some(Mark { name: name.trim().to_owned(), value: value.trim().to_owned() })
}

/// Returns the cells of a table's row. A backslash escapes a bar.
fn cells(row: &str) -> Vec<String> {
    let row = row.replace("\\|", "\u{0}");
    let inner = row.trim().trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// Reads every page that readers are sent to: the documents at the root, and `docs/`.
pub(super) fn every_page() -> Vec<Document> {
    let mut paths: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md"].map(PathBuf::from).to_vec();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    paths.sort();
    paths.iter().map(|path| Document::read(path)).collect()
}

#[test]
fn marks_blocks_and_tables_are_read() {
    let text = "Text <!-- no mark -->\n\n<!-- not run: slow -->\n<!-- figures vary -->\n\n```console\n$ ls\n```\n\
                1. Item\n   ```json\n   {}\n   ```\n<!-- figures -->\n| a | b \\| c |\n| --- | --- |\n| `x` | 1 |\n\n<!-- nonsense -->\ntext\n";
    let page = Document::parse(Path::new("x.md"), text.to_owned());
    let [first, second] = page.blocks.as_slice() else { panic!() };
    assert_eq!((first.language.as_str(), first.text.as_str(), first.line), ("console", "$ ls", 6));
    assert_eq!((first.mark("not run"), first.mark("figures vary"), first.mark("from")), (Some("slow"), Some(""), None));
    assert_eq!((second.text.as_str(), second.mark("not run")), ("{}", None));
    let [table] = page.tables.as_slice() else { panic!() };
    assert_eq!((&table.head, &table.rows), (&vec!["a".into(), "b | c".into()], &vec![vec!["`x`".into(), "1".into()]]));
    assert!(table.is_marked("figures") && table.column("b") == Some(1));
    assert_eq!(page.faults.len(), 2, "{:?}", page.faults);
}
