//! The commands in a page's `console` blocks: run in order, their output compared.
//!
//! A command begins with `$ ` and goes on while a line ends with a backslash, or until the end of a here-document. What follows, up
//! to the next command, is the output.

use super::output::matches;
use super::page::{Block, Document};
use super::shell::{End, Shell};

/// A command with the output that the page shows.
#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    shown: String,
}

/// Commands of a page that a test runs.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Selection {
    /// Those that need no toolchain of plugin authors.
    Plain,
    /// All of them, on the pages where some need one.
    WithToolchains,
}

impl Selection {
    fn takes(self, page: &Document) -> bool {
        self == Selection::Plain || page.blocks.iter().any(|block| block.mark("toolchain").is_some())
    }

    fn runs(self, block: &Block) -> bool {
        let is_plain = block.mark("toolchain").is_none();
        block.language == "console" && block.mark("not run").is_none() && (is_plain || self != Selection::Plain)
    }
}

/// Runs the selected commands of a page. Returns what is not as the page says.
pub(super) async fn run(page: &Document, selection: Selection) -> Vec<String> {
    let is_used = |block: &&Block| selection.runs(block) || block.mark("save").is_some();
    let blocks: Vec<&Block> = page.blocks.iter().filter(is_used).collect();
    if !selection.takes(page) || !blocks.iter().any(|block| selection.runs(block)) {
        return Vec::new();
    }
    let mut shell = Shell::start(&page.text).await;
    let mut faults = Vec::new();
    for block in blocks {
        let place = page.at(block.line);
        let needed = block.mark("needs").into_iter().flat_map(|names| names.split(',')).map(str::trim);
        faults.extend(needed.filter_map(|name| Some(format!("{place}: {}", shell.bring(name).err()?))));
        if let Some(name) = block.mark("save") {
            shell.save(name, &block.text);
        } else if let Err(fault) = run_block(&mut shell, block).await {
            faults.push(format!("{place}: {fault}"));
            // What follows stands on what has failed.
            break;
        }
    }
    shell.end().await;
    faults
}

async fn run_block(shell: &mut Shell, block: &Block) -> Result<(), String> {
    let figures_vary = block.mark("figures vary").is_some();
    let mut instead = block.mark("instead");
    for step in steps(&block.text)? {
        let is_enough = |output: &str| matches(&step.shown, output, figures_vary);
        let ran = shell
            .run(instead.take().unwrap_or(&step.command), is_enough)
            .await
            .map_err(|fault| format!("$ {}\n  {fault}", step.command))?;
        let printed = &ran.output;
        match ran.end {
            End::Succeeded => {}
            End::Failed => return Err(format!("the command failed\n$ {}\n{printed}", step.command)),
            End::Late(time) => return Err(format!("no end within {time:?}\n$ {}\n{printed}", step.command)),
        }
        if !is_enough(printed) {
            return Err(format!("$ {}\nprints\n{printed}\nand the page shows\n{}", step.command, step.shown));
        }
    }
    Ok(())
}

fn steps(block: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = block.lines();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else {
            let step = steps.last_mut().ok_or_else(|| format!("{line:?} stands before the first command"))?;
            step.shown.push_str(line);
            step.shown.push('\n');
            continue;
        };
        let mut command = command.to_owned();
        while command.ends_with('\\') {
            command = format!("{command}\n{}", lines.next().unwrap_or_default());
        }
        if let Some((_, end)) = command.clone().split_once("<<") {
            let end: String =
                end.trim_start_matches(['-', '\'', '"']).chars().take_while(|c| c.is_alphanumeric()).collect();
            while !command.lines().skip(1).any(|line| line == end) {
                let line = lines.next().ok_or_else(|| format!("{end} does not come"))?;
                command = format!("{command}\n{line}");
            }
        }
        steps.push(Step { command, shown: String::new() });
    }
    Ok(steps)
}

#[test]
fn commands_and_their_output_are_told_apart() {
    fn step(command: &str, shown: &str) -> Step {
        Step { command: command.into(), shown: shown.into() }
    }
    let block = "$ a \\\n    -b\nout\n$ cat > x <<'EOF'\n$ text\nEOF\n$ c";
    let expected = [step("a \\\n    -b", "out\n"), step("cat > x <<'EOF'\n$ text\nEOF", ""), step("c", "")];
    assert_eq!(steps(block).unwrap(), expected);
    assert!(steps("out\n$ a").is_err());
}
