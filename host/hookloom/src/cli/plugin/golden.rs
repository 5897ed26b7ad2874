//! `hookloom plugin test`: judges the cases of a folder, and compares the results.
//!
//! A case is `golden/<name>.json`: `{"event": {…} or "a/file.json", "previous": the same, "config": {…}, "secrets": {…},
//! "received_at_ms": 0, "expected": {"verdict": "replace", "body": …}}`. Only fields of `expected` are compared. A JSON body is
//! compared as JSON, including the order of its keys and the text of its numbers. `--bless` writes the results as expected ones.

use super::super::diff::print_diff;
use super::super::terminal::{self, GREEN, PLAIN, RED, outln};
use super::Failure;
use super::source::{Source, event, event_in};
use crate::delivery::Verdict;
use crate::plugin::workbench::{BenchPlugin, Workbench};
use crate::plugin::{PluginInput, Shown};
use crate::plural::counted;
use crate::subscription::{CallSettings, Subscription, TenantId};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of `plugin test`.
#[derive(Args)]
pub(in crate::cli) struct TestArgs {
    /// Folder of the plugin.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Component to test instead of the one in the folder's hookloom-plugin.toml.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Write the results as the expected ones.
    #[arg(long)]
    bless: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    event: Value,
    /// Previous event of the same entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    config: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    secrets: BTreeMap<String, String>,
    /// Time of the plugin's clock. A constant time if absent, so that the result of a case does not depend on the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received_at_ms: Option<i64>,
    #[serde(default)]
    expected: Expected,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    verdict: Option<Verdict>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

/// Default time of a case: 2024-01-02T03:04:05Z.
const RECEIVED_AT_MS: i64 = 1_704_164_645_000;

pub(super) async fn test(args: &TestArgs) -> Result<(), Failure> {
    let source = match &args.component {
        Some(component) => Source::find(component)?,
        None => Source::find(&args.folder)?,
    };
    let how = if args.json { ReportFormat::Json } else { ReportFormat::Text };
    let failed = run(&source, &args.folder, args.bless, how).await?;
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("{} failed", counted(failed.len() as u64, "case", "cases")).into())
    }
}

/// Output format of the results.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum ReportFormat {
    Text,
    Json,
    None,
}

/// Judges every case. Returns the failed ones with the reason, a line each.
pub(super) async fn run(
    source: &Source,
    folder: &Path,
    bless: bool,
    how: ReportFormat,
) -> Result<Vec<String>, Failure> {
    let workbench = Workbench::start()?;
    let (plugin, _) = source.load(&workbench).await?;
    let mut results = Vec::new();
    for path in cases(folder)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let faults =
            case(&workbench, &plugin, &path, bless).await.map_err(|error| format!("{}: {error}", path.display()))?;
        if how == ReportFormat::Text {
            print_mismatches(&name, &faults);
        }
        results.push((name, faults));
    }
    let failing = results.iter().filter_map(|(name, faults)| {
        let last = faults.last()?;
        Some(format!("{name}: {} {}", last.what, last.found))
    });
    let failing: Vec<String> = failing.collect();
    let failed = failing.len();
    if how == ReportFormat::Json {
        fn one((name, faults): &(String, Vec<Mismatch>)) -> Value {
            let what: Vec<_> = faults
                .iter()
                .map(|fault| json!({"what": fault.what, "expected": fault.expected, "found": fault.found}))
                .collect();
            json!({"case": name, "ok": faults.is_empty(), "faults": what})
        }
        let whole = json!({"cases": results.iter().map(one).collect::<Vec<_>>(), "failed": failed});
        terminal::json_pretty(&whole)?;
    } else if how == ReportFormat::Text {
        let passed = if bless { "blessed" } else { "right" };
        let cases = counted(results.len() as u64, "case", "cases");
        outln!("{}, {} {}, {} failed", cases, results.len() - failed, passed, failed);
    }
    Ok(failing)
}

fn cases(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let golden = folder.join("golden");
    let entries = std::fs::read_dir(&golden)
        .map_err(|error| format!("{}: {error}; this folder holds the cases, one per file", golden.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{} holds no case", golden.display()).into());
    }
    Ok(paths)
}

struct Mismatch {
    what: &'static str,
    expected: String,
    found: String,
}

async fn case(workbench: &Workbench, plugin: &BenchPlugin, path: &Path, bless: bool) -> Result<Vec<Mismatch>, Failure> {
    let mut case: Case = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let received_at_ms = case.received_at_ms.unwrap_or(RECEIVED_AT_MS);
    let given = |value: &Value| match value {
        Value::String(file) => event_in(&path.parent().unwrap_or(Path::new(".")).join(file), received_at_ms),
        object => event(&object.to_string(), received_at_ms),
    };
    let event = given(&case.event)?;
    let previous = case.previous.as_ref().map(given).transpose()?;
    let secrets = case.secrets.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let settings = CallSettings { config: case.config.clone(), secrets, ..CallSettings::default() };
    let subscription = Arc::new(Subscription::passing(TenantId::default(), settings));
    let input = PluginInput { previous, ..PluginInput::new(event.clone(), subscription) };
    let found = found(Shown::new(workbench.judge(plugin, input).await, &event));
    if bless {
        case.expected = found;
        std::fs::write(path, serde_json::to_string_pretty(&case)? + "\n")?;
        return Ok(Vec::new());
    }
    if case.expected.verdict.is_none() {
        return Err("`expected.verdict` is missing; --bless writes what is found".into());
    }
    Ok(compare(&case.expected, &found))
}

fn found(shown: Shown) -> Expected {
    let replaced = shown.verdict == Verdict::Replace;
    let body = shown.body.filter(|_| replaced).map(|body| serde_json::from_str(&body).unwrap_or(Value::String(body)));
    Expected {
        verdict: Some(shown.verdict),
        reason: shown.reason.map(|reason| reason.to_string()),
        content_type: shown.content_type.filter(|_| replaced),
        headers: Some(shown.headers).filter(|headers| !headers.is_empty()),
        url: shown.url,
        body,
    }
}

fn compare(expected: &Expected, found: &Expected) -> Vec<Mismatch> {
    fn text(value: &Option<String>) -> Option<String> {
        value.clone()
    }
    fn word(verdict: Verdict) -> String {
        verdict.to_string()
    }
    fn json(value: &Option<Value>) -> Option<String> {
        value.as_ref().map(Value::to_string)
    }
    fn headers(value: &Option<BTreeMap<String, String>>) -> Option<String> {
        value.as_ref().map(|value| json!(value).to_string())
    }
    let pairs = [
        ("verdict", expected.verdict.map(word), found.verdict.map(word)),
        ("reason", text(&expected.reason), text(&found.reason)),
        ("content_type", text(&expected.content_type), text(&found.content_type)),
        ("headers", headers(&expected.headers), headers(&found.headers)),
        ("url", text(&expected.url), text(&found.url)),
        ("body", json(&expected.body), json(&found.body)),
    ];
    fn differs((what, expected, found): (&'static str, Option<String>, Option<String>)) -> Option<Mismatch> {
        let expected = expected?;
        let found = found.unwrap_or_default();
        (expected != found).then_some(Mismatch { what, expected, found })
    }
    let mut faults: Vec<Mismatch> = pairs.into_iter().filter_map(differs).collect();
    // The author wants to know why the plugin failed, even if the case does not name a reason.
    if !faults.is_empty() && expected.reason.is_none() && found.reason.is_some() {
        faults.push(Mismatch {
            what: "reason",
            expected: String::new(),
            found: found.reason.clone().unwrap_or_default(),
        });
    }
    faults
}

fn print_mismatches(name: &str, faults: &[Mismatch]) {
    if faults.is_empty() {
        outln!("{}ok{}      {}", GREEN, PLAIN, name);
        return;
    }
    outln!("{}FAILED{}  {}", RED, PLAIN, name);
    for fault in faults {
        let Mismatch { what, expected, found } = fault;
        if expected.is_empty() || expected.len() + found.len() < 200 {
            outln!("  {}", what);
            if !expected.is_empty() {
                outln!("      {}- {}{}", RED, expected, PLAIN);
            }
            outln!("      {}+ {}{}", GREEN, found, PLAIN);
            continue;
        }
        outln!("  {}: - expected, + found", what);
        print_diff("", expected, found);
    }
}
