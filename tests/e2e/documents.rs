//! Documents are tests: README.md, CONTRIBUTING.md and every page of `docs/` against the program.
//!
//! - Each `$ ` command of a `console` block is run, in order, in a fresh folder for each page, and its output is compared
//!   ([`output`] has the rule). What cannot be run in a test says so in a mark above its block, and how many do is limited.
//! - JSON and TOML parse; settings are accepted by the program; code is part of a file that is built and tested ([`code`]).
//! - The reference names every setting, limit, metric, command and option of the program, and no other ([`reference`]).
//! - Measured figures are those of `docs/figures.toml` ([`figures`]).
//!
//! The marks are HTML comments above a block or a table: [`page`] lists them. Only the tutorials of plugin authors need the internet.

mod code;
mod commands;
mod figures;
mod output;
mod page;
mod program;
mod reference;
mod shell;

use commands::Selection;
use futures_util::StreamExt as _;
use page::{Document, every_page};

/// Maximum number of `console` blocks that are not run. A ratchet: no commit raises it without a word on why the command cannot run.
const NOT_RUN_MAX: usize = 7;

/// Maximum number of blocks of code that are compared with nothing.
const NOT_CHECKED_MAX: usize = 5;

/// Number of pages whose commands run side by side.
const PAGES_AT_ONCE: usize = 3;

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n\n{}", faults.len(), faults.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_print_what_pages_show() {
    let pages = every_page();
    let runs = pages.iter().map(|page| commands::run(page, Selection::Plain));
    let faults: Vec<Vec<String>> = futures_util::stream::iter(runs).buffer_unordered(PAGES_AT_ONCE).collect().await;
    assert_none(&faults.concat());
}

/// The tutorials of plugin authors: they install and call compilers, so this needs npm and PyPI as the tests of the templates do.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_by_the_tutorial_goes_the_whole_way() {
    for page in every_page() {
        assert_none(&commands::run(&page, Selection::WithToolchains).await);
    }
}

#[test]
fn blocks_are_what_they_say() {
    assert_none(&every_page().iter().flat_map(code::faults).collect::<Vec<_>>());
}

#[test]
fn marks_are_known_and_few() {
    let pages = every_page();
    let mut faults: Vec<String> = pages.iter().flat_map(|page| page.faults.clone()).collect();
    for (mark, most) in [("not run", NOT_RUN_MAX), ("not checked", NOT_CHECKED_MAX)] {
        let marked: Vec<(String, &str)> = pages.iter().flat_map(|page| marked(page, mark)).collect();
        faults
            .extend(marked.iter().filter(|(_, reason)| reason.is_empty()).map(|(at, _)| format!("{at}: {mark}: why?")));
        if marked.len() > most {
            faults.push(format!("{} blocks are marked {mark:?}; {most} are the most", marked.len()));
        }
    }
    assert_none(&faults);
}

/// Returns the places and values of a mark in a page.
fn marked<'a>(page: &'a Document, name: &str) -> Vec<(String, &'a str)> {
    page.blocks.iter().filter_map(|block| Some((page.at(block.line), block.mark(name)?))).collect()
}

#[test]
fn commands_that_pages_name_exist() {
    assert_none(&reference::unknown_commands(&every_page()));
}

#[test]
fn figures_are_the_measured_ones() {
    assert_none(&figures::faults(&every_page()));
}
