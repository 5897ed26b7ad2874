//! `hookloom move-store`: moves the store of a data folder into a PostgreSQL database.

mod host_end;
mod stand_in;

use super::terminal::{self, Message, errln, outln};
use super::{Failure, SettingsArgs};
use crate::clock;
use crate::config::StoreUrl;
use crate::store::{MoveReport, MoveRequest, MoveStep, StoreError, move_to_postgres};
use clap::Args;
use host_end::{HostEnd, HostTimes};
use serde_json::json;
use stand_in::StandIn;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Number of rows from which lines of progress are printed.
const MANY_ROWS: u64 = 20_000;

/// Minimum time between two lines of progress, unless another tenth of the rows was copied.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Options of `move-store`.
#[derive(Args)]
pub(super) struct MoveStoreArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Empty PostgreSQL database: postgres://USER:PASSWORD@HOST:PORT/DATABASE. Without it: the one that the setting store names, so that
    /// the password is not in the list of processes.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Copy while the host runs, and ask you to stop it when little is left.
    #[arg(long)]
    live: bool,
    /// With --live: stop the host by SIGTERM instead of asking you.
    #[arg(long, requires = "live")]
    stop_host: bool,
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
    let time = jiff::Timestamp::from_millisecond(clock::now_ms())?;
    let moved_to = format!("{to} on {}", time.strftime("%Y-%m-%d at %H:%M UTC"));
    let request = MoveRequest { folder: &config.data_dir, url, moved_to: &moved_to, is_live: args.live };
    let mut host_end = HostEnd::new(args.stop_host, config.listen);
    let report = until_interrupted(request, &mut host_end).await;
    let report = report.map_err(|error| explained(error, &config.data_dir, host_end.times().is_some()))?;
    let times = host_end.times();
    if args.json {
        let folder = config.data_dir.display().to_string();
        let mut shown = json!({"folder": folder, "store": to, "tables": report.tables});
        if let Some(HostTimes { ending, cut_over }) = times {
            shown["host_ended_ms"] = json!(ending.as_millis());
            shown["cut_over_ms"] = json!(cut_over.as_millis());
        }
        return Ok(terminal::json_pretty(&shown)?);
    }
    print(&report, &to, &config.data_dir, times);
    Ok(())
}

/// Error of a move, or its interruption.
enum Unfinished {
    Error(StoreError),
    Interrupted,
}

/// Moves the store, unless SIGINT or SIGTERM arrives before the last step.
async fn until_interrupted(request: MoveRequest<'_>, host_end: &mut HostEnd) -> Result<MoveReport, Unfinished> {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate)] = signals else {
        return Err(Unfinished::Error(StoreError::Stopped));
    };
    let is_last_step = Arc::new(AtomicBool::new(false));
    let last_step = is_last_step.clone();
    let mut lines = ProgressLines::new();
    let moving = move_to_postgres(request, move |step| {
        lines.show(&step);
        match step {
            MoveStep::HostMayEnd { process } => host_end.ask(process),
            MoveStep::HostEnded => host_end.note_ended(),
            MoveStep::Committing => last_step.store(true, Ordering::Relaxed),
            _ => {}
        }
    });
    tokio::pin!(moving);
    loop {
        tokio::select! {
            moved = &mut moving => return moved.map_err(Unfinished::Error),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if !is_last_step.load(Ordering::Relaxed) {
            return Err(Unfinished::Interrupted);
        }
    }
}

/// Adds what to do after an interruption, after the end of the host, and after a lost answer to the commit.
fn explained(error: Unfinished, folder: &Path, has_ended: bool) -> Failure {
    let folder = folder.display();
    let error = match error {
        Unfinished::Error(StoreError::Unknown) => {
            return format!(
                "the answer to the commit was lost, and the database cannot be asked whether the store was moved. When it can be reached, start a host on it: if it has your tenants, go on with it. If it is empty, rename hookloom.db.moved in {folder} to hookloom.db, and move the store again"
            )
            .into();
        }
        Unfinished::Error(error) if !has_ended => return error.into(),
        Unfinished::Error(error) => crate::describe(&error),
        Unfinished::Interrupted => "interrupted".to_owned(),
    };
    let host = if has_ended { "; start the host again, on SQLite as before" } else { "" };
    format!("{error}: nothing was moved, and the store in {folder} is in force{host}").into()
}

fn print(report: &MoveReport, to: &StoreUrl, folder: &Path, times: Option<HostTimes>) {
    for table in &report.tables {
        outln!("{:<20} {:>12}", table.table, table.rows);
    }
    let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
    let [to, folder] = [to.to_string(), folder.display().to_string()];
    outln!("{} rows moved and counted; every ledger adds up", rows);
    if let Some(HostTimes { ending, cut_over }) = times {
        outln!("the host ended within {} ms, and the rest took {} ms", ending.as_millis(), cut_over.as_millis());
    }
    let password = if to.contains("***") { " (with its password)" } else { "" };
    outln!("Next: set store = \"{}\"{}, and start the host with the same data folder", Message(&to), password);
    outln!(
        "{} keeps master.key, which the host needs. The SQLite database is as it was, under the name hookloom.db.moved, so that no host delivers from it again",
        Message(&folder)
    );
}

/// Lines about long copies on stderr: one for each tenth, and one every few seconds.
struct ProgressLines {
    tenths: u64,
    begun: Instant,
    last: Instant,
}

impl ProgressLines {
    fn new() -> Self {
        let now = clock::instant();
        ProgressLines { tenths: 0, begun: now, last: now }
    }

    fn show(&mut self, step: &MoveStep<'_>) {
        match step {
            MoveStep::Checking => errln!("counting and checking"),
            MoveStep::Copying { table, rows, of } if *of >= MANY_ROWS => {
                let tenths = rows * 10 / of;
                if tenths > self.tenths || clock::since(self.last) >= LINE_INTERVAL {
                    self.copied(table, *rows, *of);
                    self.tenths = tenths;
                    self.last = clock::instant();
                }
            }
            MoveStep::CaughtUp { changes, behind } => {
                errln!("copied {} changes that the host made meanwhile; {} are left", changes, behind);
            }
            _ => {}
        }
    }

    fn copied(&self, table: &str, rows: u64, of: u64) {
        let seconds = clock::since(self.begun).as_secs_f64().max(0.001);
        let rate = (rows as f64 / seconds).max(1.0);
        let left_s = (of.saturating_sub(rows) as f64 / rate).ceil() as u64;
        let percent = rows * 100 / of.max(1);
        errln!("{} % of {} rows ({}), {} rows/s, about {} s left", percent, of, table, rate as u64, left_s);
    }
}
