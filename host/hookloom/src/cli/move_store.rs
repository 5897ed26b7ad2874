//! `hookloom move-store`: moves the store of a data folder into a PostgreSQL database.

use super::terminal::{self, Message, errln, outln};
use super::{Failure, SettingsArgs};
use crate::config::StoreUrl;
use crate::store::{MoveReport, MoveStep, StoreError, move_to_postgres};
use clap::Args;
use serde_json::json;
use std::path::Path;

/// Number of rows from which a table is copied with lines of progress.
const MANY_ROWS: u64 = 20_000;

/// Options of `move-store`.
#[derive(Args)]
pub(super) struct MoveStoreArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Empty PostgreSQL database: postgres://USER:PASSWORD@HOST:PORT/DATABASE. Without it: the one that the setting store names, so that
    /// the password is not in the list of processes.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn move_store(args: MoveStoreArgs) -> Result<(), Failure> {
    let config = args.settings.settle()?.config;
    // Read here and not by clap, whose errors repeat a value with its password.
    let to = match args.to {
        Some(url) => url.parse().map_err(|error| format!("--to: {error}"))?,
        None => config.store,
    };
    let url = to.postgres().ok_or("name an empty PostgreSQL database by --to, or by the setting store")?;
    errln!("checking the data folder and the database");
    let mut lines = ProgressLines::default();
    let report = move_to_postgres(&config.data_dir, url, |step| lines.show(&step)).await;
    let report = report.map_err(|error| explained(error, &config.data_dir))?;
    if args.json {
        let folder = config.data_dir.display().to_string();
        let shown = json!({"folder": folder, "store": to, "tables": report.tables});
        return Ok(terminal::json_pretty(&shown)?);
    }
    print(&report, &to, &config.data_dir);
    Ok(())
}

/// Adds what to do after a lost answer to the commit.
fn explained(error: StoreError, folder: &Path) -> Failure {
    if !matches!(error, StoreError::Unknown) {
        return error.into();
    }
    let folder = folder.display();
    format!(
        "the answer to the commit was lost, and the database cannot be asked whether the store was moved. When it can be reached, start a host on it: if it has your tenants, go on with it. If it is empty, rename hookloom.db.moved in {folder} to hookloom.db, and move the store again"
    )
    .into()
}

fn print(report: &MoveReport, to: &StoreUrl, folder: &Path) {
    for table in &report.tables {
        outln!("{:<20} {:>12}", table.table, table.rows);
    }
    let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
    let [to, folder] = [to.to_string(), folder.display().to_string()];
    outln!("{} rows moved and counted; every ledger adds up", rows);
    let password = if to.contains("***") { " (with its password)" } else { "" };
    outln!("Next: set store = \"{}\"{}, and start the host with the same data folder", Message(&to), password);
    outln!(
        "{} keeps master.key, which the host needs. The SQLite database is as it was, under the name hookloom.db.moved, so that no host delivers from it again",
        Message(&folder)
    );
}

/// Lines about large tables on stderr: one for each tenth.
#[derive(Default)]
struct ProgressLines {
    table: String,
    tenths: u64,
}

impl ProgressLines {
    fn show(&mut self, step: &MoveStep<'_>) {
        match step {
            MoveStep::Checking => errln!("counting and checking"),
            MoveStep::Copying { table, rows, of } if *of >= MANY_ROWS => {
                let tenths = rows * 10 / of;
                if self.table != *table {
                    *self = ProgressLines { table: (*table).to_owned(), tenths: 0 };
                }
                if tenths > self.tenths {
                    errln!("copying {}: {} % of {} rows", table, tenths * 10, of);
                    self.tenths = tenths;
                }
            }
            MoveStep::Copying { .. } => {}
        }
    }
}
