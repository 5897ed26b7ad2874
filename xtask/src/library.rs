//! Build of the library: the example plugins as the program contains them.
//!
//! # Guarantees
//! - The same sources and toolchain make the same bytes in every folder: paths of dependencies are replaced, and the environment's
//!   flags are ignored. `--check` builds it again and compares; `cargo xtask test` does so.
//!
//! # Limits
//! - Dependencies have to be in cargo's registry folder. Vendored ones would show their paths.

use crate::guests::{PLUGINS, TARGET, ensure_target};
use crate::{Failure, cargo, root, say};
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Folder of the library, in the repository.
const FOLDER: &str = "host/hookloom/assets/library";

/// File with the sha256 of each component, as `sha256sum` writes it.
const SUMS: &str = "sums.txt";

/// Name that replaces the registry folder in paths of sources.
const REGISTRY: &str = "crates";

/// Variables that would change the flags of the compiler.
const FLAGS: [&str; 4] = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_INCREMENTAL", "CARGO_BUILD_RUSTFLAGS"];

/// Component of an example plugin.
struct BuiltPlugin {
    name: &'static str,
    component: Vec<u8>,
}

/// Builds the library, and writes it to the source of the program or compares it with the committed one.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    match arguments {
        [] => write(&build()?),
        [option] if option == "--check" => check(&build()?),
        _ => Err("library takes nothing, or `--check`".into()),
    }
}

fn check(built: &[BuiltPlugin]) -> Result<(), Failure> {
    let path = root().join(FOLDER).join(SUMS);
    let committed = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let given = sums(built);
    if committed == given {
        return Ok(());
    }
    Err(format!("the sources give\n{given}not the committed\n{committed}`cargo xtask library` writes them again"))
}

fn write(built: &[BuiltPlugin]) -> Result<(), Failure> {
    let folder = root().join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut bytes = 0;
    let mut packed_bytes = 0;
    for plugin in built {
        let packed = packed(&plugin.component)?;
        bytes += plugin.component.len();
        packed_bytes += packed.len();
        write_file(&folder.join(format!("{}.wasm.gz", plugin.name)), &packed)?;
    }
    write_file(&folder.join(SUMS), sums(built).as_bytes())?;
    say(&format!("{} components, {} KiB, compressed {} KiB", built.len(), bytes >> 10, packed_bytes >> 10));
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// Builds the components, in the order of their names.
fn build() -> Result<Vec<BuiltPlugin>, Failure> {
    ensure_target()?;
    say("building the library");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mut command = cargo();
    command
        .args(["build", "--quiet", "--locked", "--profile", "library", "--target", TARGET, "--target-dir"])
        .arg(&target);
    for flag in remapped_registries()? {
        command.args(["--config", &format!("target.{TARGET}.rustflags=[{flag:?}]")]);
    }
    for variable in FLAGS {
        command.env_remove(variable);
    }
    crate::run(command.args(PLUGINS.iter().flat_map(|name| ["-p", name])))?;
    let folder = target.join(TARGET).join("library");
    let mut names = PLUGINS;
    names.sort_unstable();
    let read = |name: &'static str| {
        let path = folder.join(format!("{}.wasm", name.replace('-', "_")));
        let component = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(BuiltPlugin { name, component })
    };
    names.into_iter().map(read).collect()
}

/// Returns the flags that replace the folders of cargo's registries in paths of sources, which panic messages contain.
fn remapped_registries() -> Result<Vec<String>, Failure> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).ok_or("cargo's folder is unknown")?;
    let folder = home.join("registry/src");
    // A fresh installation has no such folder until something is fetched.
    crate::run(cargo().args(["fetch", "--quiet", "--locked", "--target", TARGET]))?;
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    fn flag(entry: &std::fs::DirEntry) -> String {
        format!("--remap-path-prefix={}={REGISTRY}", entry.path().display())
    }
    Ok(entries.flatten().map(|entry| flag(&entry)).collect())
}

/// Returns a component compressed by gzip, without a time or a name.
fn packed(component: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(component).and_then(|()| encoder.finish()).map_err(|error| error.to_string())
}

/// Returns the content of the file of sums.
fn sums(built: &[BuiltPlugin]) -> String {
    fn line(plugin: &BuiltPlugin) -> String {
        format!("{}  {}.wasm\n", hex::encode(Sha256::digest(&plugin.component)), plugin.name)
    }
    built.iter().map(line).collect()
}
