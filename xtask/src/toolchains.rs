//! What the tests of plugins in other languages need, and installs what is missing by Debian's packages.
//!
//! Their compilers proper (componentize-qjs, componentize-py) come from npm and PyPI, by each plugin's own build.

use crate::{Failure, run, say};
use std::path::Path;
use std::process::{Command, Stdio};

/// A program that must answer, and the packages that have it.
const NEEDED: [(&[&str], &[&str]); 7] = [
    (&["make", "--version"], &["make"]),
    (&["node", "--version"], &["nodejs", "npm"]),
    (&["npm", "--version"], &["npm"]),
    (&["python3", "-c", "import venv, ensurepip"], &["python3", "python3-venv"]),
    (&["chromium", "--version"], &["chromium"]),
    (&["chromedriver", "--version"], &["chromium-driver"]),
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
    if !Path::new(WASI_LIBC).is_file() {
        packages.extend(["wasi-libc", "libclang-rt-19-dev-wasm32", "lld-19"]);
    }
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        install(&packages)?;
    }
    into_target()
}

/// What checks the pages, and what checks the REST surface: each of one version.
const AXE_CORE: &str = "axe-core@4.14.1";
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// What comes from npm and PyPI, into the target folder.
fn into_target() -> Result<(), Failure> {
    let tools = Path::new("target/tools");
    let (axe, schemathesis) = (tools.join("axe-core"), tools.join("schemathesis"));
    if !axe.join("node_modules/axe-core/axe.min.js").is_file() {
        say(&format!("installing {AXE_CORE} from npm into {}", axe.display()));
        std::fs::create_dir_all(&axe).map_err(|error| format!("{}: {error}", axe.display()))?;
        run(Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
            .arg(&axe)
            .arg(AXE_CORE))?;
    }
    if !schemathesis.join("bin/schemathesis").is_file() {
        say(&format!("installing {SCHEMATHESIS} from PyPI into {}", schemathesis.display()));
        run(Command::new("python3").args(["-m", "venv"]).arg(&schemathesis))?;
        run(Command::new(schemathesis.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            SCHEMATHESIS,
        ]))?;
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<(), Failure> {
    say(&format!("installing {} (by apt-get, which wants root)", packages.join(" ")));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(arguments);
        run(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"][..], packages].concat())
}
