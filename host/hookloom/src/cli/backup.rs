//! `hookloom backup`: a copy of the store of a running or stopped host.

use super::Failure;
use super::settings::SettingsArgs;
use super::terminal::{self, errln, outln};
use crate::store::{BackedUp, back_up, damaged_parts};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Options of `backup`.
#[derive(Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// New folder for the copy. `hookloom serve --data-dir` can start from it.
    folder: PathBuf,
    /// Leave out the master key, which opens sealed secrets. It must be added before a host can start on the copy.
    #[arg(long)]
    without_key: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn backup(args: BackupArgs) -> Result<(), Failure> {
    let from = args.settings.sqlite_folder(
        "back it up with pg_dump or the backups of its service, and keep master.key of the data folder",
    )?;
    let mut last = 0;
    let BackedUp { bytes, damaged_components } = back_up(&from, &args.folder, !args.without_key, |done, all| {
        let percent = done * 100 / all.max(1);
        if percent / 10 > last / 10 {
            errln!("{} % copied", percent);
            last = percent;
        }
    })?;
    let folder = args.folder.display().to_string();
    let damaged = damaged_parts(&args.folder)?;
    if !damaged.is_empty() {
        let names: Vec<&str> = damaged.iter().map(|object| object.name.as_str()).collect();
        errln!(
            "the store is damaged, and so is the copy ({}): see `hookloom check` and `hookloom rescue`",
            names.join(", ")
        );
    }
    if args.json {
        let damaged: Vec<&str> = damaged.iter().map(|object| object.name.as_str()).collect();
        let shown =
            json!({"folder": folder, "bytes": bytes, "damaged": damaged, "damaged_components": damaged_components});
        terminal::json(&shown)?;
    } else {
        outln!("{} bytes copied and checked; start from it with: hookloom serve --data-dir {}", bytes, folder);
    }
    if damaged_components.is_empty() {
        return Ok(());
    }
    let damaged = damaged_components.join(", ");
    Err(format!("the copy is there, but these components are damaged in the store: {damaged}; upload the same files again, and back up again").into())
}
