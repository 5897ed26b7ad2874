//! `hookloom plugin check` and `build`: print the report that an upload would make, and the plugin's judgements of sample events.
//!
//! A component that breaks the rules, or exceeds its limits on a sample, is refused: the command fails with the reason. `--config`
//! gives config to a plugin that needs it. A failure that the plugin reports itself is shown, and does not fail the command.

use super::super::terminal::{self, BOLD, BOLD_RED, GREEN, PLAIN, outln};
use super::Failure;
use super::source::{Source, event_in, pair};
use crate::clock::now_ms;
use crate::delivery::Verdict;
use crate::event::{Event, sample_events};
use crate::plugin::workbench::{BenchPlugin, Workbench};
use crate::plugin::{PluginInput, Report, Shown};
use crate::subscription::{CallSettings, Subscription, TenantId};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

/// Options of `plugin check`.
#[derive(Args)]
pub(in crate::cli) struct CheckArgs {
    /// Component (.wasm), or folder of a plugin.
    #[arg(default_value = ".")]
    plugin: PathBuf,
    #[command(flatten)]
    given: SampleOptions,
}

/// Options of `plugin build`.
#[derive(Args)]
pub(in crate::cli) struct BuildArgs {
    /// Folder of the plugin.
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    given: SampleOptions,
}

/// Input of the plugin for the samples, and the form of the report.
#[derive(Args, Clone)]
struct SampleOptions {
    /// Config that the plugin reads when it judges the samples.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Secrets that the plugin may use.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    secret: Vec<(String, String)>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Sample event in a plugin's folder, as `hookloom plugin new` writes it.
const EVENT_FILE: &str = "event.json";

/// Sample event, and the plugin's judgement.
struct SampleResult {
    sample: String,
    shown: Shown,
}

impl SampleResult {
    /// Returns the reason to refuse the component, if there is one.
    fn fault(&self) -> Option<String> {
        let reason = self.shown.reason.as_ref().filter(|_| self.shown.verdict == Verdict::Fault)?;
        Some(format!("it breaks on the sample event {}: {reason}", self.sample))
    }

    fn text(&self) -> String {
        let reason = self.shown.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{}{reason}", self.shown.verdict)
    }
}

pub(super) async fn build(args: &BuildArgs) -> Result<(), Failure> {
    Source::find(&args.folder)?.build()?;
    check(&CheckArgs { plugin: args.folder.clone(), given: args.given.clone() }).await
}

pub(super) async fn check(args: &CheckArgs) -> Result<(), Failure> {
    let source = Source::find(&args.plugin)?;
    let size = source.read()?.len();
    let workbench = Workbench::start()?;
    let (plugin, report) = source.load(&workbench).await?;
    let judged = judge_samples(&source, &workbench, &plugin, &args.given).await?;
    let fault = judged.iter().find_map(SampleResult::fault);
    if args.given.json {
        fn sample(one: &SampleResult) -> Value {
            json!({"sample": one.sample, "verdict": one.shown.verdict, "reason": one.shown.reason})
        }
        let samples: Vec<Value> = judged.iter().map(sample).collect();
        terminal::json_pretty(
            &json!({"name": source.name, "size": size, "fits": fault.is_none(), "report": report, "samples": samples}),
        )?;
    } else {
        print_report(&source, size, &report, &judged, fault.is_none());
    }
    match fault {
        None => Ok(()),
        Some(fault) if args.given.config.is_empty() => {
            Err(format!("{} does not fit: {fault}; if it needs config, give it with --config KEY=VALUE", source.name)
                .into())
        }
        Some(fault) => Err(format!("{} does not fit: {fault}", source.name).into()),
    }
}

/// Lets the plugin judge the host's samples, and that of the plugin's folder if there is one.
async fn judge_samples(
    source: &Source,
    workbench: &Workbench,
    plugin: &BenchPlugin,
    given: &SampleOptions,
) -> Result<Vec<SampleResult>, Failure> {
    let samples = sample_events().into_iter();
    let mut events: Vec<(String, Arc<Event>)> =
        samples.map(|event| (event.module.as_str().to_owned(), Arc::new(event))).collect();
    if let Some(file) = source.folder.as_ref().map(|folder| folder.join(EVENT_FILE)).filter(|file| file.is_file()) {
        events.push((EVENT_FILE.to_owned(), event_in(&file, now_ms())?));
    }
    let secrets = given.secret.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let config = given.config.iter().cloned().collect();
    let settings = CallSettings { config, secrets, ..CallSettings::default() };
    let subscription = Arc::new(Subscription::passing(TenantId::default(), settings));
    let mut judged = Vec::new();
    for (sample, event) in events {
        let input = PluginInput::new(event.clone(), subscription.clone());
        judged.push(SampleResult { sample, shown: Shown::new(workbench.judge(plugin, input).await, &event) });
    }
    Ok(judged)
}

fn line(name: &str, value: impl Display) {
    outln!("  {:<14}{}", name, value);
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1 << 10))
}

fn print_report(source: &Source, size: usize, report: &Report, judged: &[SampleResult], fits: bool) {
    let (tone, result) = if fits { (GREEN, "fits") } else { (BOLD_RED, "does not fit") };
    outln!("{}{}{}  {}{}{} ({})", tone, result, PLAIN, BOLD, source.name, PLAIN, source.component.display());
    if let Some(manifest) = &report.manifest {
        line("title", &manifest.title);
        line("description", &manifest.description);
        let keys: Vec<String> =
            manifest.schema().map(|schema| schema.keys.into_iter().map(|key| key.name).collect()).unwrap_or_default();
        line("config", if keys.is_empty() { "none".to_owned() } else { keys.join(", ") });
    }
    line("contract", &report.contract);
    line(
        "size",
        format!("{}, compiled to {} in {} ms", kib(size as u64), kib(report.compiled_bytes), report.compile_ms),
    );
    if let Some(bytes) = report.memory_bytes {
        let memories = crate::plural::counted(report.memories.unwrap_or(1).into(), "memory", "memories");
        line("memory", format!("{} at the start, in {memories}", kib(bytes)));
    }
    let world = report.imports.iter().filter(|name| !name.starts_with("hookloom:")).count();
    line("may use", report.may_use.join(", "));
    let world = crate::plural::counted(world as u64, "interface", "interfaces");
    line("imports", format!("{world} of WASI, empty in the host"));
    for one in judged {
        line(&format!("{} event", one.sample.trim_end_matches(".json")), one.text());
    }
    print_probe(report);
}

/// Prints the findings of the first calls, which were made without config.
fn print_probe(report: &Report) {
    let Some(probe) = &report.probe else { return };
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
