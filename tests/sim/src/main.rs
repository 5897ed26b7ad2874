//! Command of the simulation: many seeds with progress, or one seed with its history.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a program for a terminal")]

use clap::Parser;
use hookloom_model::clock;
use hookloom_sim::{Plan, run, shortened};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Simulates the dispatcher.
#[derive(Parser)]
struct Arguments {
    /// Number of seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// First of these seeds.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs this seed only, and prints its history.
    #[arg(long)]
    seed: Option<u64>,
    /// Simulates up to this many hosts that share a database, instead of one that has it for itself.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    hosts: Option<u8>,
    /// Prints the history of a failing seed as it is, without shortening it.
    #[arg(long)]
    whole: bool,
}

/// Interval at which progress is printed.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    }
}

/// Runs one seed and prints its history.
fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let plan = arguments.plan(seed);
    let result = run(&plan);
    if result.violation.is_none() {
        result.history.iter().for_each(|line| println!("{line}"));
        println!("seed {seed}: sound, with {} attempts in {} lives", result.attempts, result.lives);
        return ExitCode::SUCCESS;
    }
    fail(seed, &plan, arguments);
    ExitCode::FAILURE
}

impl Arguments {
    fn plan(&self, seed: u64) -> Plan {
        self.hosts.map_or_else(|| Plan::of(seed), |hosts| Plan::of_fleet(seed, hosts.into()))
    }
}

/// Prints the shortened plan of a failing seed, and its history.
fn fail(seed: u64, plan: &Plan, arguments: &Arguments) {
    let shown = if arguments.whole { plan.clone() } else { shortened(plan) };
    let result = run(&shown);
    println!("seed {seed} fails: {}", result.violation.unwrap_or_default());
    println!("\n{shown}");
    result.history.iter().for_each(|line| println!("{line}"));
    let hosts = arguments.hosts.map_or_else(String::new, |hosts| format!(" --hosts {hosts}"));
    println!("\nrun it again: cargo xtask sim --seed {seed}{hosts}");
}

/// Runs many seeds on all cores, until one fails.
fn many(arguments: &Arguments) -> ExitCode {
    let begun = clock::instant();
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + arguments.seeds;
    let attempts = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..std::thread::available_parallelism().map_or(1, usize::from))
            .map(|_| scope.spawn(|| work(arguments, (&next, end), &attempts, &failed)))
            .collect();
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(PROGRESS_EVERY);
                let done = next.load(Ordering::Relaxed).min(end) - arguments.from;
                eprintln!("{done} of {} seeds, {} attempts", arguments.seeds, attempts.load(Ordering::Relaxed));
            }
        });
        for worker in workers {
            if worker.join().is_err() {
                failed.fetch_min(next.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let took = clock::since(begun);
    match failed.load(Ordering::Relaxed) {
        u64::MAX => {
            let per_minute = 60.0 * arguments.seeds as f64 / took.as_secs_f64();
            println!(
                "{} seeds are sound, with {} attempts, in {:.1} s: {per_minute:.0} seeds a minute",
                arguments.seeds,
                attempts.load(Ordering::Relaxed),
                took.as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        seed => {
            fail(seed, &arguments.plan(seed), arguments);
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &Arguments, (next, end): (&AtomicU64, u64), attempts: &AtomicU64, failed: &AtomicU64) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || failed.load(Ordering::Relaxed) != u64::MAX {
            return;
        }
        let result = run(&arguments.plan(seed));
        attempts.fetch_add(result.attempts, Ordering::Relaxed);
        if result.violation.is_some() {
            failed.fetch_min(seed, Ordering::Relaxed);
        }
    }
}
