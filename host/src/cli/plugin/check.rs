//! `hookloom plugin check` and `build`: the report that an upload would make.

use super::super::terminal::{self, BOLD, GREEN, PLAIN, outln};
use super::Failure;
use super::source::Source;
use crate::plugin::check::Report;
use crate::plugin::workbench::Workbench;
use clap::Args;
use serde_json::json;
use std::fmt::Display;
use std::path::PathBuf;

/// What to check.
#[derive(Args)]
pub(in crate::cli) struct CheckArgs {
    /// A component (.wasm), or a plugin's folder.
    #[arg(default_value = ".")]
    plugin: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What to build.
#[derive(Args)]
pub(in crate::cli) struct BuildArgs {
    /// The plugin's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn build(args: &BuildArgs) -> Result<(), Failure> {
    Source::find(&args.folder)?.build()?;
    check(&CheckArgs { plugin: args.folder.clone(), json: args.json }).await
}

pub(super) async fn check(args: &CheckArgs) -> Result<(), Failure> {
    let source = Source::find(&args.plugin)?;
    let size = source.read()?.len();
    let (_, report) = source.load(&Workbench::start()?).await?;
    if args.json {
        let whole = json!({"name": source.name, "size": size, "report": report});
        return Ok(terminal::json_pretty(&whole)?);
    }
    print_report(&source, size, &report);
    Ok(())
}

pub(super) fn print_report(source: &Source, size: usize, report: &Report) {
    let kib = |bytes: u64| format!("{} KiB", bytes.div_ceil(1 << 10));
    outln!("{}fits{}  {}{}{} ({})", GREEN, PLAIN, BOLD, source.name, PLAIN, source.component.display());
    fn line(name: &str, value: impl Display) {
        outln!("  {:<14}{}", name, value);
    }
    line("contract", report.contract.clone());
    line(
        "size",
        format!("{}, compiled to {} in {} ms", kib(size as u64), kib(report.compiled_bytes), report.compile_ms),
    );
    if let Some(bytes) = report.memory_bytes {
        line("memory", format!("{} at the start, in {} memories", kib(bytes), report.memories.unwrap_or(1)));
    }
    let world = report.imports.iter().filter(|name| !name.starts_with("hookloom:")).count();
    line("may use", report.may_use.join(", "));
    line("imports", format!("{world} interfaces of WASI, all of them empty in the host"));
    let Some(probe) = &report.probe else { return };
    let why = probe.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    line("a sample", format!("{}{why}", probe.verdict));
    line(
        "a call",
        format!(
            "{} µs the first time, {} µs then, {} of memory",
            probe.first_call_us,
            probe.steady_call_us,
            kib(probe.memory_bytes)
        ),
    );
    let depends = match probe.depends_on.as_deref() {
        None => "unknown: it failed on the sample".to_owned(),
        Some([]) => "the event, config and secrets alone".to_owned(),
        Some(more) => format!(
            "the event, config and secrets, and also on {}: in the host these follow from the event",
            more.join(", ")
        ),
    };
    line("depends on", depends);
}
