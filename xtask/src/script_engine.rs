//! Build of the engine for scripts: QuickJS and its wrapper as a component, prepared, compressed and committed.
//!
//! # Guarantees
//! - The same sources give the same component, in any folder. `--check` builds it again and compares.
//!
//! # Limits
//! Needs clang 19 and the C library of WebAssembly, which [`toolchains::ensure_clang`] installs (Debian's packages).

use crate::{Failure, cargo, guests, output, root, run, say, toolchains};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folder of the engine.
const ENGINE: &str = "plugins/script-engine";

/// File of the component, in the folder of the engine. [`SHA256`] is about the component, because gzip programs differ.
const COMPONENT: &str = "engine.wasm.gz";
const SHA256: &str = "engine.wasm.sha256";

/// Builds the engine's component, and writes it or compares it with the committed one.
pub(crate) fn build(arguments: &[String]) -> Result<(), Failure> {
    let is_check = match arguments {
        [] => false,
        [option] if option == "--check" => true,
        _ => return Err("script-engine takes nothing, or `--check`".into()),
    };
    toolchains::ensure_clang()?;
    guests::ensure_target()?;
    let component = component()?;
    let sha256 = sha256(&component)?;
    let folder = root().join(ENGINE);
    if is_check {
        let committed = read(&folder.join(SHA256))?;
        if committed.trim() != sha256 {
            let built = component.display();
            return Err(format!("the sources give {sha256}, not the committed {}: see {built}", committed.trim()));
        }
        return Ok(());
    }
    let compressed = Command::new("gzip").args(["-9", "-n", "-c"]).arg(&component).output();
    let compressed = compressed.map_err(|error| format!("gzip: {error}"))?.stdout;
    write(&folder.join(COMPONENT), &compressed)?;
    write(&folder.join(SHA256), format!("{sha256}\n").as_bytes())?;
    say(&format!("{ENGINE}/{COMPONENT}: {} bytes, sha256 {sha256} before compression", compressed.len()));
    Ok(())
}

/// Builds the component in a target folder of its own. Returns its path.
///
/// Its paths and those of cargo's registry are replaced in messages of panics, which would otherwise name this machine.
fn component() -> Result<PathBuf, Failure> {
    say("building the engine for scripts");
    let root = root();
    let engine = root.join(ENGINE);
    let home = cargo_home()?;
    let remapped = [format!("{}=/hookloom", root.display()), format!("{}=/cargo", home.display())];
    let for_rust = remapped.iter().map(|one| format!("--remap-path-prefix={one}"));
    let for_c = remapped.iter().map(|one| format!("-ffile-prefix-map={one}")).collect::<Vec<_>>().join(" ");
    let headers = engine.join("quickjs_stack.h");
    let target = root.join("target/script-engine");
    let built = cargo()
        .args(["build", "--locked", "--profile", "guest", "--target", guests::TARGET, "-p", "script-engine"])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", for_rust.collect::<Vec<_>>().join("\u{1f}"))
        .env("RQUICKJS_SYS_NO_WASI_SDK", "1")
        .env("CC_wasm32_wasip2", toolchains::CLANG)
        .env("AR_wasm32_wasip2", "ar")
        .env(
            "CFLAGS_wasm32_wasip2",
            format!("-isystem /usr/include/wasm32-wasi -include {} {for_c}", headers.display()),
        )
        .status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("the engine was not built".into());
    }
    let component = target.join(guests::TARGET).join("guest/script_engine.wasm");
    let prepared = target.join("engine.wasm");
    run(cargo().args(["run", "--quiet", "-p", "script-engine-snapshot", "--"]).arg(&component).arg(&prepared))?;
    Ok(prepared)
}

fn cargo_home() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    home.ok_or_else(|| "neither CARGO_HOME nor HOME is set".into())
}

/// Returns the sha256 of a file, in hex.
pub(crate) fn sha256(file: &Path) -> Result<String, Failure> {
    let sum = output(Command::new("sha256sum").arg("-b").arg(file))?;
    sum.split_whitespace().next().map(str::to_owned).ok_or_else(|| "sha256sum printed nothing".into())
}

/// Reads a text.
pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// Writes a file.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
}
