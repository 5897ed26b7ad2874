//! Build of the example plugins and the tests' guests as components. cargo keeps them, so that a second call is quick.

use crate::{Failure, cargo, run, say};
use std::process::Command;

/// The example plugins.
pub(crate) const PLUGINS: [&str; 12] = [
    "flatten",
    "redact",
    "slack",
    "deal-filter",
    "reshape",
    "route",
    "normalise",
    "units",
    "changes",
    "guard",
    "enrich",
    "wrap",
];

pub(crate) fn build() -> Result<(), Failure> {
    ensure_target()?;
    say("building the example plugins and the tests' guests");
    let packages = PLUGINS.iter().flat_map(|name| ["-p", name]);
    run(cargo().args(["build", "--profile", "guest", "--target", TARGET]).args(packages))?;
    run(cargo().args(["build", "--profile", "guest", "--target", TARGET, "-p", "hookloom-test-guests", "--examples"]))
}

/// Target of components.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// Adds the target of rust-toolchain.toml, which an older installation of the toolchain may lack.
pub(crate) fn ensure_target() -> Result<(), Failure> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let folder = asked.map_err(|error| format!("rustc could not be asked: {error}"))?.stdout;
    if std::path::Path::new(String::from_utf8_lossy(&folder).trim()).is_dir() {
        return Ok(());
    }
    say(&format!("adding the target {TARGET}"));
    run(Command::new("rustup").args(["target", "add", TARGET]))
}
