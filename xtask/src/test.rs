//! Runs all tests, after building what they need: the program, the plugins and the guests.

use crate::{Failure, cargo, guests, root, run as run_command, say, toolchains};
use std::process::Command;

pub(crate) fn run(filter: &[String]) -> Result<(), Failure> {
    ensure_c_compiler()?;
    toolchains::ensure()?;
    guests::build()?;
    say("building the program and the tests");
    run_command(cargo().args(["build", "--workspace", "--bins", "--tests"]))?;
    say("running the tests");
    run_command(cargo().args(["test", "--workspace"]).args(filter))
}

/// The fault tests in their long form, one after the other, so that their figures are their own.
pub(crate) fn soak() -> Result<(), Failure> {
    ensure_c_compiler()?;
    guests::build()?;
    run_command(cargo().args(["build", "--workspace", "--bins"]))?;
    say("this takes some minutes; each line of the table is printed when it is there");
    say("| what | figures |\n| --- | --- |");
    let guard = ["test", "-p", "hookloom", "--lib", "--", "address::cases", "--nocapture", "--test-threads=1"];
    run_command(cargo().args(guard))?;
    let soak = ["test", "-p", "hookloom-tests", "--", "soak::", "--ignored", "--nocapture", "--test-threads=1"];
    run_command(cargo().args(soak))
}

/// The bench, of the program as it is shipped.
pub(crate) fn bench(arguments: &[String]) -> Result<(), Failure> {
    ensure_c_compiler()?;
    guests::build()?;
    run_command(cargo().args(["build", "--release", "-p", "hookloom", "-p", "hookloom-bench", "--bins"]))?;
    run_command(Command::new(root().join("target/release/hookloom-bench")).current_dir(root()).args(arguments))
}

/// SQLite and the durability test's library are C.
fn ensure_c_compiler() -> Result<(), Failure> {
    let works = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    if works("cc") {
        return Ok(());
    }
    say("there is no C compiler: installing Debian's");
    let installed = Command::new("apt-get").args(["install", "--yes", "gcc", "libc6-dev"]).status();
    match installed.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => Err("there is no C compiler (cc), and apt-get could not install one".into()),
    }
}
