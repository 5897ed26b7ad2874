//! `hookloom check`: reports damage of a data folder.

use super::terminal::{self, Message, errln, outln};
use super::{Failure, SettingsArgs};
use crate::store::{CheckReport, TableReport, check_store};
use clap::Args;

/// Maximum number of damaged rows of a table that are printed.
const PRINTED_MAX: usize = 20;

/// Options of `check`.
#[derive(Args)]
pub(super) struct StoreCheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON, with every finding.
    #[arg(long)]
    json: bool,
}

pub(super) fn check(args: &StoreCheckArgs) -> Result<(), Failure> {
    let folder = args.settings.sqlite_folder("check it with pg_amcheck")?;
    let report = check_store(&folder, |step| errln!("checking {}", step))?;
    if args.json {
        terminal::json_pretty(&report)?;
    } else {
        print(&report);
    }
    if report.whole {
        return Ok(());
    }
    Err("the data folder is damaged: stop the host, write the undamaged data into a new folder by `hookloom rescue FOLDER`, and start from that".into())
}

fn print(report: &CheckReport) {
    for finding in report.files.iter().chain(&report.pages).chain(&report.relations) {
        outln!("damaged  {}", Message(finding));
    }
    print_tables(&report.tables);
    for note in &report.notes {
        outln!("note     {}", Message(note));
    }
    if report.whole {
        let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
        outln!("intact   {} tables with {} rows", report.tables.len(), rows);
    }
}

/// Prints the damage of tables.
pub(super) fn print_tables(tables: &[TableReport]) {
    for table in tables {
        if table.unreadable_pages {
            outln!("damaged  table {}: some of its pages cannot be read", table.table);
        }
        for row in table.damaged.iter().take(PRINTED_MAX) {
            outln!("damaged  row of {}: {}: {}", table.table, Message(&row.key), Message(&row.reason));
        }
        let more = table.damaged.len().saturating_sub(PRINTED_MAX);
        if more > 0 {
            outln!("damaged  {} more rows of {}", more, table.table);
        }
    }
}
