//! `hookloom plugin eject`: writes a script of a running host as a project that builds a component.
//!
//! # Guarantees
//! - The project is the template of JavaScript, with the script as its source.
//! - The cases in `golden/` are what the script answers on the host's engine for scripts. A case on which it fails is left out.

use super::super::client::JSON;
use super::super::terminal::{self, Message, errln, outln};
use super::Failure;
use super::golden::{self, ReportFormat};
use super::host_args::ManagerArgs;
use super::new::{Language, template, write, write_project};
use super::source::{BUILD_FILE, Source};
use crate::event::SAMPLES;
use crate::ids::{PluginName, VersionId};
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Options of `plugin eject`.
#[derive(Args)]
pub(in crate::cli) struct EjectArgs {
    /// Name of the plugin in the host. Its version must be a script.
    plugin: PluginName,
    /// Folder to create. Without it: the name.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// The sha256 of a version. Without it: the active one.
    #[arg(long, value_name = "SHA256")]
    version: Option<VersionId>,
    #[command(flatten)]
    host: ManagerArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// File of the plugin's source, which the component exports as the script does.
const SCRIPT: &str = "src/plugin.js";

/// Folder of the template's cases, which are about another plugin.
const CASES_OF_TEMPLATE: &str = "golden";

/// Beginning of the manifest in the template's build file. A manifest says which config keys there are, and a script has none.
const MANIFEST: &str = "\n# What people see";

pub(super) async fn eject(args: EjectArgs) -> Result<(), Failure> {
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(args.plugin.as_str()));
    if folder.exists() {
        return Err(format!("{} already exists", folder.display()).into());
    }
    let script = fetch(&args).await?;
    write_project(&folder, &args.plugin, Language::Js)?;
    std::fs::remove_dir_all(folder.join(CASES_OF_TEMPLATE))?;
    let readme = Language::Js.filled(template!("script/README.md.txt"), &args.plugin);
    write(&folder.join("README.md"), readme.as_bytes())?;
    let build = std::fs::read_to_string(folder.join(BUILD_FILE))?;
    let build = build.split_once(MANIFEST).map_or(build.as_str(), |(build, _)| build);
    write(&folder.join(BUILD_FILE), build.as_bytes())?;
    write(&folder.join(SCRIPT), &script)?;
    let cases = write_cases(&folder).await?;
    if args.json {
        return Ok(terminal::json_pretty(&json!({"folder": folder, "cases": cases}))?);
    }
    outln!("made {}; next:\n", folder.display());
    outln!("  cd {}\n  hookloom plugin build\n  hookloom plugin test", folder.display());
    outln!("\nIt needs Node.js with npm. README.md there has the rest.");
    Ok(())
}

/// Returns the source of the script.
async fn fetch(args: &EjectArgs) -> Result<Bytes, Failure> {
    let host = args.host.client()?;
    let versions = args.host.plugins().then(&args.plugin).then("versions");
    let listed = host.ask(Method::GET, &versions, JSON, Bytes::new()).await?;
    let is_wanted = |version: &&Value| match &args.version {
        Some(sha256) => version["sha256"].as_str() == Some(&**sha256),
        None => version["active"] == true,
    };
    let version = listed.as_array().into_iter().flatten().find(is_wanted);
    let version = version.ok_or_else(|| format!("{} has no such version", args.plugin))?;
    if version["report"]["script_engine"].is_null() {
        return Err(format!("{} is a component, not a script: its source is where it was built", args.plugin).into());
    }
    let sha256 = VersionId::parse(version["sha256"].as_str().unwrap_or_default())?;
    host.ask_bytes(Method::GET, &versions.then(&sha256).then("component"), JSON, Bytes::new()).await
}

/// Writes a case for each sample event, with the answer of the script. Returns their names.
async fn write_cases(folder: &Path) -> Result<Vec<String>, Failure> {
    let golden = folder.join("golden");
    let mut paths = Vec::new();
    for (module, sample) in SAMPLES {
        let event: Value = serde_json::from_str(sample)?;
        let text = serde_json::to_string_pretty(&json!({"event": event}))?;
        let path = golden.join(format!("{}.json", module.as_str().to_lowercase()));
        write(&path, text.as_bytes())?;
        paths.push((module, path));
        write(&folder.join("event.json"), sample.as_bytes())?;
    }
    golden::run(&Source::find(&folder.join(SCRIPT))?, folder, true, ReportFormat::None).await?;
    let mut kept = Vec::new();
    for (module, path) in paths {
        let case: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        if case["expected"]["verdict"] == "fault" {
            let reason = case["expected"]["reason"].as_str().unwrap_or_default();
            errln!("no case of the sample {}: {}", module.as_str(), Message(reason));
            std::fs::remove_file(&path)?;
        } else {
            kept.push(module.as_str().to_lowercase());
        }
    }
    Ok(kept)
}
