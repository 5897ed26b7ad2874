//! Example plugins as components: found, or built from the source tree with cargo.

use super::super::Failure;
use super::super::terminal::errln;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// Folder with built components.
pub(super) struct Components {
    folder: PathBuf,
}

const NAMES: [&str; 4] = ["flatten", "redact", "slack", "deal-filter"];

impl Components {
    /// Finds the components, and builds those of a source tree. cargo does nothing if nothing has changed.
    pub(super) async fn ready(named: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(folder) = named {
            return Ok(Components { folder });
        }
        let here = std::env::current_dir()?;
        let tree = here.ancestors().find(|folder| folder.join("plugins/flatten/Cargo.toml").is_file());
        let tree = tree.ok_or("the demo builds its plugins from Hookloom's source tree: run it there, or name a folder of built plugins with --plugins")?;
        let target = target_folder(tree)?;
        build(tree, &target).await?;
        Ok(Components { folder: target.join("wasm32-wasip2/guest") })
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let path = self.folder.join(format!("{}.wasm", name.replace('-', "_")));
        std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

/// Returns the target folder into which this program was built, to avoid a second one; otherwise that of the source tree.
fn target_folder(tree: &Path) -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent).filter(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(target.map_or_else(|| tree.join("target"), Path::to_owned))
}

/// Compilation target of plugins.
const TARGET: &str = "wasm32-wasip2";

/// Adds the target of rust-toolchain.toml, which an older installation of the toolchain may lack.
async fn ensure_target(tree: &Path) -> Result<(), Failure> {
    let asked = Command::new("rustc").current_dir(tree).args(["--print", "target-libdir", "--target", TARGET]).output();
    let folder = asked.await.map_err(|error| format!("rustc could not be asked for its targets: {error}"))?.stdout;
    if Path::new(String::from_utf8_lossy(&folder).trim()).is_dir() {
        return Ok(());
    }
    let added = Command::new("rustup").current_dir(tree).args(["target", "add", TARGET]).status().await;
    if added.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err(format!("the target {TARGET} is missing and could not be added: rustup target add {TARGET}").into())
    }
}

async fn build(tree: &Path, target: &Path) -> Result<(), Failure> {
    ensure_target(tree).await?;
    errln!("building the example plugins ({}) …", NAMES.join(", "));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(tree).args(["build", "--profile", "guest", "--target", TARGET, "--target-dir"]).arg(target);
    command.args(NAMES.iter().flat_map(|name| ["-p", name])).stdin(Stdio::null()).stdout(Stdio::null());
    match command.status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(format!("building the example plugins failed ({status}); what cargo says above is why").into())
        }
        Err(error) => Err(format!("cargo could not be run to build the example plugins: {error}").into()),
    }
}
