//! Command of the simulation: many seeds with progress, or one seed with its history.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a program for a terminal")]

use clap::Parser;
use hookloom_model::clock;
use hookloom_sim::{Plan, run, shortened};
use parking_lot::Mutex;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Simulates the dispatcher.
#[derive(Parser)]
struct Arguments {
    /// Number of seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// First of these seeds.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Time in seconds after which no other seed begins.
    #[arg(long)]
    time_max_s: Option<u64>,
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

/// Time after which a seed counts as one that does not end. It takes less than a second, if the machine does nothing else.
const SEED_TIME_MAX: Duration = Duration::from_secs(120);

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

/// Seeds that workers run, and what came of them.
struct Seeds {
    /// Seed that is run next, and the first one that is not run any more.
    next: AtomicU64,
    end: u64,
    /// Number of seeds that were run, and of their attempts.
    done: AtomicU64,
    attempts: AtomicU64,
    /// First seed that failed.
    failed: Mutex<Option<u64>>,
    /// Seed that each worker runs, and when it began.
    under_way: Vec<Mutex<Option<(u64, Instant)>>>,
    begun: Instant,
    time_max: Duration,
}

/// Runs many seeds on all cores, until one fails.
fn many(arguments: &Arguments) -> ExitCode {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds = Seeds {
        next: AtomicU64::new(arguments.from),
        end: arguments.from + arguments.seeds,
        done: AtomicU64::new(0),
        attempts: AtomicU64::new(0),
        failed: Mutex::default(),
        under_way: (0..workers).map(|_| Mutex::default()).collect(),
        begun: clock::instant(),
        time_max: arguments.time_max_s.map_or(Duration::MAX, Duration::from_secs),
    };
    let over = AtomicBool::new(false);
    let mut panicked = None;
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            seeds.under_way.iter().map(|under_way| scope.spawn(|| seeds.work(arguments, under_way))).collect();
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(PROGRESS_EVERY);
                eprintln!("{} of {} seeds, {} attempts", seeds.done(), arguments.seeds, seeds.attempts());
                if let Some(seed) = seeds.endless() {
                    println!("seed {seed} fails: it does not end\n\n{}", arguments.plan(seed));
                    // Its worker cannot be stopped otherwise.
                    std::process::exit(1);
                }
            }
        });
        for (worker, under_way) in workers.into_iter().zip(&seeds.under_way) {
            if worker.join().is_err() {
                panicked = under_way.lock().map(|(seed, _)| seed);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    if let Some(seed) = panicked {
        println!("seed {seed} fails: it panics\n\n{}", arguments.plan(seed));
        return ExitCode::FAILURE;
    }
    if let Some(seed) = *seeds.failed.lock() {
        fail(seed, &arguments.plan(seed), arguments);
        return ExitCode::FAILURE;
    }
    let took_s = clock::since(seeds.begun).as_secs_f64();
    let done = seeds.done();
    let attempts = seeds.attempts();
    let per_minute = 60.0 * done as f64 / took_s;
    println!("{done} seeds are sound, with {attempts} attempts, in {took_s:.1} s: {per_minute:.0} seeds a minute");
    ExitCode::SUCCESS
}

impl Seeds {
    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    fn fail(&self, seed: u64) {
        let mut failed = self.failed.lock();
        *failed = Some(failed.map_or(seed, |other| other.min(seed)));
    }

    /// Returns a seed that does not end.
    fn endless(&self) -> Option<u64> {
        let under_way = self.under_way.iter().filter_map(|under_way| *under_way.lock());
        under_way.filter(|(_, begun)| clock::since(*begun) > SEED_TIME_MAX).map(|(seed, _)| seed).min()
    }

    fn work(&self, arguments: &Arguments, under_way: &Mutex<Option<(u64, Instant)>>) {
        while self.failed.lock().is_none() && clock::since(self.begun) < self.time_max {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                return;
            }
            *under_way.lock() = Some((seed, clock::instant()));
            let result = run(&arguments.plan(seed));
            *under_way.lock() = None;
            self.attempts.fetch_add(result.attempts, Ordering::Relaxed);
            self.done.fetch_add(1, Ordering::Relaxed);
            if result.violation.is_some() {
                self.fail(seed);
            }
        }
    }
}
