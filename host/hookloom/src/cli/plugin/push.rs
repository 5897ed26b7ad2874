//! `hookloom plugin push`: uploads a plugin to a running host.

use super::super::client::{COMPONENT, HostClient, SCRIPT};
use super::super::progress::during;
use super::super::terminal::{self, GREEN, Message, PLAIN, RED, errln, outln};
use super::Failure;
use super::source::Source;
use crate::ids::PluginName;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use clap::Args;
use http::Method;
use serde_json::Value;
use std::path::PathBuf;

/// Maximum number of printed lines of each difference. `--json` has all of them.
const DIFF_LINES_MAX: usize = 12;

/// Options of `plugin push`.
#[derive(Args)]
pub(in crate::cli) struct PushArgs {
    /// Component (.wasm), script (.js), or folder of a plugin.
    #[arg(default_value = ".")]
    plugin: PathBuf,
    #[command(flatten)]
    target: Target,
    /// Upload without activating.
    #[arg(long)]
    inactive: bool,
    /// Number of the last real events, or samples if there are none, that the version must judge first. It is not activated if it
    /// fails on one, or if nothing could be judged.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(1..=500))]
    gate: Option<u32>,
    /// Print the host's answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Options of the activation.
#[derive(Clone, Copy)]
pub(super) struct ActivationOptions {
    pub(super) activate: bool,
    pub(super) gate: Option<u32>,
}

/// Host, tenant and plugin.
#[derive(Args, Clone)]
pub(super) struct Target {
    /// Name of the plugin in the host. Without it: that of the folder's manifest, or of the file.
    #[arg(long)]
    name: Option<PluginName>,
    /// URL of the host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// Key with the scope manage.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true, default_value = "")]
    key: String,
    /// Id of the tenant.
    #[arg(long, default_value_t)]
    tenant: TenantId,
}

impl Target {
    /// Uploads a component, and returns the host's answer.
    pub(super) async fn upload(&self, source: &Source, options: ActivationOptions) -> Result<Value, Failure> {
        let host = HostClient::new(&self.url, &self.key)?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                PluginName::parse(&source.name).map_err(|error| format!("{error}; choose another one with --name"))?
            }
        };
        let path = UrlPath::api_of(&self.tenant).then("plugins").then(&name).query("activate", options.activate);
        let path = match options.gate {
            Some(events) => path.query("gate", events),
            None => path,
        };
        let component = source.read()?;
        let what = format!("{} takes {} KiB in and compiles them", self.url, component.len().div_ceil(1 << 10));
        let content_type = if source.is_script() { SCRIPT } else { COMPONENT };
        during(&what, host.ask(Method::PUT, &path, content_type, component)).await
    }

    /// Returns true if a host was given.
    pub(super) fn is_named(&self) -> bool {
        !self.key.is_empty()
    }
}

pub(super) async fn push(args: &PushArgs) -> Result<(), Failure> {
    let options = ActivationOptions { activate: !args.inactive, gate: args.gate };
    let version = args.target.upload(&Source::find(&args.plugin)?, options).await?;
    if args.json {
        return Ok(terminal::json_pretty(&version)?);
    }
    print_version(&version);
    Ok(())
}

pub(super) fn print_version(version: &Value) {
    let sha256 = version["sha256"].as_str().unwrap_or_default();
    let state = if version["active"] == true { "active" } else { "uploaded, not active" };
    outln!("{}: version {}", state, sha256);
    let probe = &version["report"]["probe"];
    if probe["verdict"] == "fault" {
        let why = probe["reason"].as_str().unwrap_or_default();
        errln!("on a sample event, without config, it failed: {}", Message(why));
    }
    for warning in version["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        errln!("{}", Message(warning));
    }
    compared(&version["comparison"]);
}

/// Prints the gate's comparison on stored events.
fn compared(comparison: &Value) {
    let count = |name: &str| comparison[name].as_u64();
    if count("events").is_none() {
        return;
    }
    let of = |name: &str| count(name).unwrap_or_default();
    let judged_on = comparison["judged_on"].as_str().unwrap_or_default();
    if of("active_us_p95") == 0 {
        // A first version cannot be compared with another.
        outln!(
            "of {}: {} judged, {} failed, {} skipped; 95 % of the calls took up to {} µs",
            judged_on,
            of("same"),
            of("failed"),
            of("skipped"),
            of("new_us_p95")
        );
    } else {
        outln!(
            "of {}: {} the same, {} changed, {} failed; 95 % of the calls took up to {} µs before and {} µs now",
            judged_on,
            of("same"),
            of("changed"),
            of("failed"),
            of("active_us_p95"),
            of("new_us_p95"),
        );
    }
    for difference in comparison["differences"].as_array().into_iter().flatten() {
        let verdict = |arm: &str| difference[arm]["verdict"].as_str().unwrap_or_default().to_owned();
        outln!(
            "  event {}: {} before, {} now",
            difference["event"].as_str().unwrap_or_default(),
            verdict("active"),
            verdict("other")
        );
        for line in difference["diff"].as_array().into_iter().flatten().filter_map(Value::as_str).take(DIFF_LINES_MAX) {
            let tone = if line.starts_with('-') { RED } else { GREEN };
            outln!("    {}{}{}", tone, line, PLAIN);
        }
    }
}
