//! `hookloom plugin watch`: rebuild, retest and push at every change.
//!
//! The files' times are compared a few times a second: a plugin's folder is small, and this works on every file system.

use super::super::terminal::{self, Message, errln};
use super::Failure;
use super::golden::{self, Report};
use super::push::{How, Target, told};
use super::source::Source;
use crate::plural::counted;
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What to watch.
#[derive(Args)]
pub(in crate::cli) struct WatchArgs {
    /// The plugin's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    target: Target,
    /// End after so many rounds: for scripts.
    #[arg(long, value_name = "ROUNDS")]
    rounds: Option<u32>,
    /// Print a line of JSON for each round.
    #[arg(long)]
    json: bool,
}

const LOOK_EVERY: Duration = Duration::from_millis(300);

pub(super) async fn watch(args: WatchArgs) -> Result<(), Failure> {
    let mut rounds = 0;
    loop {
        let source = Source::find(&args.folder)?;
        let seen = newest(&source.watch);
        // What goes wrong in a round is told, and the next change may put it right.
        let done = round(&source, &args).await;
        rounds += 1;
        match (&done, args.json) {
            (Ok(pushed), true) => terminal::json(&json!({"round": rounds, "ok": true, "pushed": pushed}))?,
            (Err(failure), true) => {
                let error = crate::describe(failure.as_ref());
                terminal::json(&json!({"round": rounds, "ok": false, "error": error}))?;
            }
            (Ok(Some(pushed)), false) => told(pushed),
            (Ok(None), false) => {}
            (Err(failure), false) => {
                errln!("not pushed: {}", Message(&crate::describe(failure.as_ref())));
            }
        }
        if args.rounds.is_some_and(|most| rounds >= most) {
            return Ok(());
        }
        errln!("waiting for a change in {} (Ctrl-C ends)", args.folder.display());
        while newest(&source.watch) == seen {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Builds, tests, and uploads if a host is named; its answer.
async fn round(source: &Source, args: &WatchArgs) -> Result<Option<Value>, Failure> {
    source.build()?;
    if args.folder.join("golden").is_dir() {
        let how = if args.json { Report::None } else { Report::Text };
        let failed = golden::run(source, &args.folder, false, how).await?;
        if !failed.is_empty() {
            let cases = counted(failed.len() as u64, "case", "cases");
            return Err(format!("{cases} failed: {}", failed.join("; ")).into());
        }
    }
    if !args.target.is_named() {
        return Ok(None);
    }
    Ok(Some(args.target.upload(source, How { activate: true, gate: None }).await?))
}

/// The time of the newest file and how many there are, in these places.
fn newest(places: &[PathBuf]) -> (Option<SystemTime>, usize) {
    fn look(path: &Path, found: &mut (Option<SystemTime>, usize)) {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            look(&entry.path(), found);
        }
        if path.is_file() {
            let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
            *found = (found.0.max(modified), found.1 + 1);
        }
    }
    let mut found = (None, 0);
    places.iter().for_each(|place| look(place, &mut found));
    found
}
