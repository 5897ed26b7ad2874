//! Benchmark `cargo xtask bench`: the rows of the table in docs/explanation/speed.md, each with a floor that is measured in the same run.
//!
//! The host is the real program in a separate process, and so is the receiver; this process sends. Each row is the median of
//! several rounds, in which floor and figure alternate, so that other load affects both.

#![allow(clippy::disallowed_methods, reason = "the bench measures real time")]

mod database;
mod filters;
mod growth;
mod host;
mod many;
mod measure;
mod plot;
mod processes;
mod raw_rows;
mod receiver;
mod rows;
mod several;
mod store;
mod turns;

use clap::Parser;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Allocator of the program, because the row `store` runs in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Error with a description.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measure how fast Hookloom is, each figure with its floor.
#[derive(Clone, Parser)]
struct Args {
    /// Name of the only row.
    #[arg(long)]
    row: Option<String>,
    /// Number of measurements of each row; those that compare two hosts, and `reload`, have at least five.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Number of pending deliveries in the row `backlog`.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: usize,
    /// Measure instead the rows of hosts on PostgreSQL.
    #[arg(long)]
    postgres: bool,
    /// Measure instead how time and memory grow, and draw the result into this file.
    #[arg(long, value_name = "FILE")]
    growth: Option<PathBuf>,
    /// Compare instead with this program, in turns, by the rows `single`, `batch`, `no-plugin` and `door`.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "growth")]
    before: Option<PathBuf>,
    /// Number of turns of each program with `--before`.
    #[arg(long, default_value_t = 12)]
    pairs: usize,
    /// Built program.
    #[arg(long, default_value = "target/release/hookloom")]
    program: PathBuf,
    /// Folder of the built example plugins.
    #[arg(long, default_value = "target/wasm32-wasip2/guest")]
    plugins: PathBuf,
    /// File for the figures as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Run as the receiver: the bench starts itself with this option.
    #[arg(long, hide = true)]
    receive: bool,
}

/// Figure with its floor.
struct Row {
    name: &'static str,
    what: String,
    unit: &'static str,
    floors: Vec<f64>,
    figures: Vec<f64>,
    goal: Goal,
    /// CPU seconds and other figures of the row.
    also: String,
}

/// Goal of a row.
enum Goal {
    /// Minimum of figure / floor.
    AtLeast(f64),
    /// Maximum of figure / floor.
    AtMost(f64),
    /// Maximum of the difference between figure and floor, in their unit.
    Above(f64),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let done = if args.receive { runtime.block_on(receiver::receive()) } else { runtime.block_on(bench(&args)) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("the bench could not measure: {failure}"));
            ExitCode::FAILURE
        }
    }
}

async fn bench(args: &Args) -> Result<(), Failure> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(picture) = &args.growth {
        let lines = growth::growth(args, picture).await?;
        return Ok(std::fs::write(&args.json, format!("{lines:#}"))?);
    }
    if let Some(before) = &args.before {
        let rows = turns::compare(args, before).await?;
        return Ok(std::fs::write(&args.json, format!("{rows:#}"))?);
    }
    print("| row | what | floor | figure | ratio | goal | also |\n| --- | --- | --- | --- | --- | --- | --- |");
    let mut all = Vec::new();
    let wanted = |name: &str| args.row.as_deref().is_none_or(|row| row == name);
    let names = if args.postgres { several::NAMES.as_slice() } else { rows::NAMES.as_slice() };
    for &name in names.iter().filter(|name| wanted(name)) {
        let row = if args.postgres { several::measure(name, args).await? } else { rows::measure(name, args).await? };
        print(&row.line());
        all.push(row.as_json());
    }
    if all.is_empty() {
        return Err(format!("there is no row of that name; there are {}", names.join(", ")).into());
    }
    Ok(std::fs::write(&args.json, format!("{:#}", Value::from(all)))?)
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the distance between the rounds, in percent of the median.
fn spread(figures: &[f64]) -> f64 {
    let (most, least) =
        figures.iter().fold((f64::MIN, f64::MAX), |(most, least), one| (most.max(*one), least.min(*one)));
    (most - least) / median(figures) * 100.0
}

impl Row {
    fn ratio(&self) -> f64 {
        median(&self.figures) / median(&self.floors)
    }

    fn verdict(&self) -> (String, bool) {
        let ratio = self.ratio();
        match self.goal {
            Goal::AtLeast(goal) => (format!("≥ {goal}"), ratio >= goal),
            Goal::AtMost(goal) => (format!("≤ {goal}"), ratio <= goal),
            Goal::Above(goal) => {
                let above = median(&self.figures) - median(&self.floors);
                (format!("floor + {goal} {}", self.unit), above <= goal)
            }
        }
    }

    fn line(&self) -> String {
        let (goal, reached) = self.verdict();
        let shown =
            |figures: &[f64]| format!("{:.1} {} (± {:.0} %)", median(figures), self.unit, spread(figures) / 2.0);
        format!(
            "| {} | {} | {} | {} | {:.2} | {goal} {} | {} |",
            self.name,
            self.what,
            shown(&self.floors),
            shown(&self.figures),
            self.ratio(),
            if reached { "✓" } else { "✗" },
            self.also
        )
    }

    fn as_json(&self) -> Value {
        let (goal, reached) = self.verdict();
        json!({
            "row": self.name, "what": self.what, "unit": self.unit, "floors": self.floors, "figures": self.figures,
            "ratio": self.ratio(), "goal": goal, "reached": reached, "also": self.also,
        })
    }
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "this is a program for a terminal")]
fn say(text: &str) {
    eprintln!("{text}");
}
