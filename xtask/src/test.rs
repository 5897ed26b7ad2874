//! Runs all tests, after building what they need: the program, the plugins and the guests.

use crate::{Failure, cargo, editor, fleet, guests, library, root, run as run_command, say, script_engine, toolchains};
use std::process::Command;

/// Number of tests that run at once for each core. The end-to-end tests, which take most of the time, wait for processes, disks and
/// timers.
const TESTS_PER_CORE: usize = 2;

/// Environment variable with the number of tests that run at once (`cargo test -- --help`).
const TEST_THREADS: &str = "RUST_TEST_THREADS";

pub(crate) fn run(filter: &[String]) -> Result<(), Failure> {
    toolchains::ensure_c_compiler()?;
    toolchains::ensure()?;
    guests::build()?;
    if filter.is_empty() {
        script_engine::build(&["--check".to_owned()])?;
        library::run(&["--check".to_owned()])?;
        editor::build(&["--check".to_owned()])?;
    }
    say("building the program and the tests");
    run_command(cargo().args(["build", "--workspace", "--bins", "--tests"]))?;
    say("running the tests");
    let mut tests = cargo();
    tests.args(["test", "--workspace"]).args(filter).envs(toolchains::REGISTRY_RETRIES);
    tests.envs(toolchains::unpacked_postgres().map(|programs| (toolchains::POSTGRES_PROGRAMS, programs)));
    tests.envs(toolchains::unpacked_pgbouncer().map(|program| (toolchains::PGBOUNCER_PROGRAM, program)));
    if std::env::var_os(TEST_THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        tests.env(TEST_THREADS, (cores * TESTS_PER_CORE).to_string());
    }
    run_command(&mut tests)
}

/// Runs the fault tests in their long form, or measures interference.
pub(crate) fn soak(arguments: &[String]) -> Result<(), Failure> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => fault_tests(),
        ["interference"] => interference(""),
        ["interference", "--row", row] => interference(row),
        ["fleet", options @ ..] => fleet::soak(options),
        _ => Err("soak takes nothing, `interference` with `--row NAME`, or `fleet`".into()),
    }
}

/// Runs the simulation of the dispatcher.
pub(crate) fn sim(arguments: &[String]) -> Result<(), Failure> {
    toolchains::ensure_c_compiler()?;
    run_command(cargo().args(["run", "--quiet", "-p", "hookloom-sim", "--"]).args(arguments))
}

/// Profile of the measured program. The release profile takes a quarter of an hour to build.
const SOAK_PROFILE: &str = "soak";

/// Measures each kind of attack on an optimised program, or one row unless `row` is empty. Fails only if a measurement was not
/// possible, the host died or events were lost; missed goals are marked in the table.
fn interference(row: &str) -> Result<(), Failure> {
    toolchains::ensure_c_compiler()?;
    guests::build()?;
    run_command(cargo().args(["build", "--profile", SOAK_PROFILE, "-p", "hookloom", "--bins"]))?;
    let program = root().join("target").join(SOAK_PROFILE).join("hookloom");
    say("this takes a quarter of an hour; each line of the table is printed when it is there");
    say(&format!(
        "program built with the profile `{SOAK_PROFILE}` (release without link-time optimisation); p50 / p99, alone → during"
    ));
    let table = ["test", "-p", "hookloom", "--test", "e2e", "--", "interference::table::", "--ignored", "--nocapture"];
    run_command(cargo().args(table).env("TEST_PROGRAM", program).env("SOAK_ROW", row))
}

/// Runs the fault tests in their long form, one after the other, so that they do not affect each other's figures.
fn fault_tests() -> Result<(), Failure> {
    toolchains::ensure_c_compiler()?;
    guests::build()?;
    run_command(cargo().args(["build", "--workspace", "--bins"]))?;
    say("this takes some minutes; each line of the table is printed when it is there");
    say("| what | figures |\n| --- | --- |");
    let guard = ["test", "-p", "hookloom-model", "--lib", "--", "address::cases", "--nocapture", "--test-threads=1"];
    run_command(cargo().args(guard))?;
    let soak =
        ["test", "-p", "hookloom", "--test", "e2e", "--", "soak::", "--ignored", "--nocapture", "--test-threads=1"];
    run_command(cargo().args(soak))
}

/// Runs the bench with the release build.
pub(crate) fn bench(arguments: &[String]) -> Result<(), Failure> {
    toolchains::ensure_c_compiler()?;
    guests::build()?;
    run_command(cargo().args(["build", "--release", "-p", "hookloom", "-p", "hookloom-bench", "--bins"]))?;
    run_command(Command::new(root().join("target/release/hookloom-bench")).current_dir(root()).args(arguments))
}
