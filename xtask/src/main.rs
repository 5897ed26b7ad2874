//! Program `cargo xtask`: tasks of development.
//!
//! `test` builds what the tests need and runs all of them; `soak` runs the fault tests in their long form; `sim` simulates the
//! dispatcher, and `mutations` checks the simulation; `bench` measures speed;
//! `fuzz` fuzzes untrusted input; `guests` builds only the plugins; `script-engine` builds the engine for scripts, `editor` their editor, and
//! `library` the plugins that are part of the program; `tidy` checks the project's rules; `audit` checks the dependencies. `.ci/run` consists of
//! these.

mod audit;
mod editor;
mod fleet;
mod fuzz;
mod guests;
mod library;
mod mutations;
mod script_engine;
mod test;
mod tidy;
mod toolchains;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Error with a description.
type Failure = String;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = arguments.split_first().map_or(("help", &[][..]), |(task, rest)| (task.as_str(), rest));
    let done = match task {
        "test" => test::run(rest),
        "bench" => test::bench(rest),
        "soak" => test::soak(rest),
        "sim" => test::sim(rest),
        "mutations" => mutations::run(rest),
        "fuzz" => fuzz::fuzz(rest),
        "guests" => guests::build(),
        "editor" => editor::build(rest),
        "script-engine" => script_engine::build(rest),
        "library" => library::run(rest),
        "tidy" => tidy::run(rest),
        "audit" => audit::run_all(),
        "help" | "--help" | "-h" => {
            print(HELP);
            Ok(())
        }
        other => Err(format!("there is no task {other:?}\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("xtask {task}: {failure}"));
            ExitCode::FAILURE
        }
    }
}

const HELP: &str = "\
cargo xtask test [FILTER]   build what the tests need, and run them
cargo xtask soak            run the fault tests in their long form (minutes), and print a table
cargo xtask soak interference [--row R]
                           measure what an honest tenant notices of attacks by others, and print a table
cargo xtask soak fleet [--rounds N] [--before PROGRAM] [FILTER]
                           run each fault of hosts on one database 20 times, and print a table (an hour); with the program of
                           another version, also rolling upgrades from it and back
cargo xtask sim [--seeds N] [--seed S] [--hosts N]
                           simulate the dispatcher: many seeds with progress, or one with its history; with up to N hosts that
                           share a database
cargo xtask mutations [NAME]
                           break the host in small ways, and count the seeds in which the simulation finds each,
                           or run the unit test that must fail
cargo xtask bench [--row R]  measure how fast it is, each figure beside its floor, and print a table;
                           --postgres measures hosts on PostgreSQL;
                           --growth FILE measures how it grows, and draws it;
                           --before PROGRAM compares with another build, in turns
cargo xtask fuzz [SECONDS]   fuzz intake and the address guard, a minute each unless told otherwise
cargo xtask guests          build the example plugins and the tests' guests as components
cargo xtask script-engine [--check]
                           build the engine for scripts from its sources; or compare it with the committed one
cargo xtask library [--check]
                           build the example plugins as the program contains them; or compare them with the committed ones
cargo xtask editor [--check]
                           build the editor for scripts from its sources; or compare it with the committed one
cargo xtask tidy [--list COUNT]
                           check the rules of the house, and count idioms against their limits; list the places of one count
cargo xtask audit           check licences, sources, versions and advisories of the dependencies";

#[expect(clippy::print_stdout, reason = "help is what was asked for")]
fn print(text: &str) {
    println!("{text}");
}

/// Prints progress.
#[expect(clippy::print_stderr, reason = "this is a program for a terminal")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Returns the root of the workspace around the current folder, or else of the one in which this program was built.
fn root() -> PathBuf {
    let current = std::env::current_dir().unwrap_or_default();
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(""));
    current.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file()).unwrap_or(built).to_owned()
}

/// Returns a cargo command in the workspace.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command. Returns its output.
fn output(command: &mut Command) -> Result<String, Failure> {
    let ran = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if ran.status.success() {
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    } else {
        Err(format!("{command:?} failed ({}): {}", ran.status, String::from_utf8_lossy(&ran.stderr)))
    }
}

/// Runs a command, with this program's output.
fn run(command: &mut Command) -> Result<(), Failure> {
    let shown = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown} failed ({status})")),
        Err(error) => Err(format!("{shown} could not be run: {error}")),
    }
}
