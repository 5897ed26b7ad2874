//! What the tests of plugins in other languages need, and installs what is missing by Debian's packages.
//!
//! Their compilers proper (componentize-qjs, componentize-py) come from npm and PyPI, by each plugin's own build.

use crate::{Failure, run, say};
use std::process::{Command, Stdio};

/// A program that must answer, and the packages that have it.
const NEEDED: [(&[&str], &[&str]); 5] = [
    (&["make", "--version"], &["make"]),
    (&["node", "--version"], &["nodejs", "npm"]),
    (&["npm", "--version"], &["npm"]),
    (&["python3", "-c", "import venv, ensurepip"], &["python3", "python3-venv"]),
    (&["clang-19", "--version"], &["clang-19", "lld-19", "wasi-libc", "libclang-rt-19-dev-wasm32"]),
];

/// Where Debian puts the C library for WebAssembly.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi/libc.a";

pub(crate) fn ensure() -> Result<(), Failure> {
    let answers = |command: &[&str]| {
        let asked = Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let missing = NEEDED.iter().filter(|(command, _)| !answers(command));
    let mut packages: Vec<&str> = missing.flat_map(|(_, packages)| packages.iter().copied()).collect();
    if !std::path::Path::new(WASI_LIBC).is_file() {
        packages.extend(["wasi-libc", "libclang-rt-19-dev-wasm32", "lld-19"]);
    }
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    say(&format!("installing {} (by apt-get, which wants root)", packages.join(" ")));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(arguments);
        run(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"][..], &packages].concat())
}
