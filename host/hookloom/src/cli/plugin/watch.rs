//! `hookloom plugin watch`: rebuilds, tests and pushes a plugin at every change.
//!
//! The times of the files are compared a few times a second: a plugin's folder is small, and this works on every file system. The
//! time of the last change (`ctime`) counts, which no tool sets back.

use super::super::terminal::{self, Message, errln};
use super::Failure;
use super::golden::{self, ReportFormat};
use super::push::{ActivationOptions, Target, print_version};
use super::source::Source;
use crate::plural::counted;
use clap::Args;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of `plugin watch`.
#[derive(Args)]
pub(in crate::cli) struct WatchArgs {
    /// Folder of the plugin.
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    target: Target,
    /// Number of rounds after which the command ends, for scripts.
    #[arg(long, value_name = "ROUNDS")]
    rounds: Option<u32>,
    /// Print a line of JSON for each round.
    #[arg(long)]
    json: bool,
}

const POLL_INTERVAL: Duration = Duration::from_millis(300);

pub(super) async fn watch(args: WatchArgs) -> Result<(), Failure> {
    let mut rounds = 0;
    loop {
        let source = Source::find(&args.folder)?;
        let seen = FolderState::at(&source.watch);
        // A failed round is reported, and the next change starts another one.
        let done = round(&source, &args).await;
        rounds += 1;
        match (&done, args.json) {
            (Ok(pushed), true) => terminal::json(&json!({"round": rounds, "ok": true, "pushed": pushed}))?,
            (Err(failure), true) => {
                let error = crate::describe(failure.as_ref());
                terminal::json(&json!({"round": rounds, "ok": false, "error": error}))?;
            }
            (Ok(Some(pushed)), false) => print_version(pushed),
            (Ok(None), false) => {}
            (Err(failure), false) => {
                errln!("not pushed: {}", Message(&crate::describe(failure.as_ref())));
            }
        }
        if args.rounds.is_some_and(|most| rounds >= most) {
            return Ok(());
        }
        errln!("waiting for a change in {} (Ctrl-C ends)", args.folder.display());
        while FolderState::at(&source.watch) == seen {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Builds, tests, and uploads if a host was given. Returns the answer of the host.
async fn round(source: &Source, args: &WatchArgs) -> Result<Option<Value>, Failure> {
    source.build()?;
    if args.folder.join("golden").is_dir() {
        let options = if args.json { ReportFormat::None } else { ReportFormat::Text };
        let failed = golden::run(source, &args.folder, false, options).await?;
        if !failed.is_empty() {
            let cases = counted(failed.len() as u64, "case", "cases");
            return Err(format!("{cases} failed: {}", failed.join("; ")).into());
        }
    }
    if !args.target.is_named() {
        return Ok(None);
    }
    Ok(Some(args.target.upload(source, ActivationOptions { activate: true, gate: None }).await?))
}

/// State of the watched files.
#[derive(Default, PartialEq, Eq)]
struct FolderState {
    /// Time of the last change, in seconds and nanoseconds.
    newest: (i64, i64),
    files: usize,
}

impl FolderState {
    fn at(places: &[PathBuf]) -> Self {
        let mut look = FolderState::default();
        places.iter().for_each(|place| look.add(place));
        look
    }

    fn add(&mut self, path: &Path) {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            self.add(&entry.path());
        }
        if let Some(metadata) = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file) {
            self.newest = self.newest.max((metadata.ctime(), metadata.ctime_nsec()));
            self.files += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_its_previous_size_and_time_is_a_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("src.rs");
        let places = [folder.path().to_owned()];
        std::fs::write(&path, b"one").expect("written");
        let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
        let seen = FolderState::at(&places);
        assert!(FolderState::at(&places) == seen);
        // The kernel's clock for files advances some times in a hundredth of a second.
        while FolderState::at(&places) == seen {
            std::thread::sleep(Duration::from_millis(1));
            std::fs::write(&path, b"two").expect("written");
            std::fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(modified)).expect("set");
        }
    }
}
