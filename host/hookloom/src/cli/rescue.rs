//! `hookloom rescue`: writes the undamaged data of a data folder into a new one.

use super::check::print_tables;
use super::terminal::{self, Message, errln, outln};
use super::{Failure, SettingsArgs};
use crate::store;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Options of `rescue`.
#[derive(Args)]
pub(super) struct RescueArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// New folder for the data. `hookloom serve --data-dir` can start from it.
    folder: PathBuf,
    /// Print JSON, with every lost row.
    #[arg(long)]
    json: bool,
}

pub(super) fn rescue(args: &RescueArgs) -> Result<(), Failure> {
    let from = args.settings.sqlite_folder("restore it from a backup")?;
    let report = store::rescue(&from, &args.folder, |step| errln!("copying {}", step))?;
    let folder = args.folder.display().to_string();
    if args.json {
        return Ok(terminal::json_pretty(
            &json!({"folder": folder, "complete": report.is_complete(), "report": report}),
        )?);
    }
    print_tables(&report.tables);
    for component in &report.components_left_out {
        outln!("left out {}", Message(component));
    }
    if let Some(fault) = &report.log_fault {
        outln!("without the log: {}", Message(fault));
    }
    if report.deliveries_without_event > 0 {
        outln!("{} deliveries are dead, because their events are lost", report.deliveries_without_event);
    }
    if !report.master_key {
        outln!("master.key is missing: put it into {} before you start, or no secret can be opened", Message(&folder));
    }
    let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
    let all = if report.is_complete() { "everything was whole" } else { "the rest is lost" };
    outln!("{} rows written, {}; start from it with: hookloom serve --data-dir {}", rows, all, Message(&folder));
    Ok(())
}
