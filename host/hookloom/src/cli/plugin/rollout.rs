//! `hookloom plugin rollout`: shows, begins and ends the rollout of a version in a running host.

use super::super::client::{HostClient, JSON};
use super::super::terminal::{self, BOLD, PLAIN, outln};
use super::Failure;
use crate::ids::{PluginName, VersionId};
use crate::plural::counted;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

/// Options of `plugin rollout`. Without --canary, --shadow or --end, the rollout is shown.
#[derive(Args)]
pub(in crate::cli) struct RolloutArgs {
    /// Name of the plugin in the host.
    plugin: PluginName,
    /// Part of the events that the version judges, in percent. The host ends the canary if it does worse than the active version.
    #[arg(long, value_name = "PERCENT", requires = "version", conflicts_with_all = ["shadow", "end"])]
    canary: Option<f64>,
    /// Let the version judge every event in addition to the active version, without sending the results.
    #[arg(long, requires = "version", conflicts_with = "end")]
    shadow: bool,
    /// The sha256 of an uploaded version, for example by `push --inactive`.
    #[arg(long, value_name = "SHA256")]
    version: Option<VersionId>,
    /// End the rollout. The active version judges all events.
    #[arg(long)]
    end: bool,
    /// URL of the host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// Key with the scope manage, or read to show a rollout.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true)]
    key: String,
    /// Id of the tenant.
    #[arg(long, default_value_t)]
    tenant: TenantId,
    /// Print the host's answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn rollout(args: RolloutArgs) -> Result<(), Failure> {
    let host = HostClient::new(&args.url, &args.key)?;
    let path = UrlPath::api_of(&args.tenant).then("plugins").then(&args.plugin).then("rollout");
    let get = async || host.ask(Method::GET, &path, JSON, Bytes::new()).await;
    let begin = async |body: Value| host.ask(Method::PUT, &path, JSON, body.to_string().into()).await;
    let rollout = match (args.canary, &args.version) {
        (Some(percent), Some(sha256)) => begin(json!({"kind": "canary", "sha256": sha256, "percent": percent})).await?,
        (None, Some(sha256)) if args.shadow => begin(json!({"kind": "shadow", "sha256": sha256})).await?,
        _ if args.end => {
            host.ask(Method::DELETE, &path, JSON, Bytes::new()).await?;
            get().await?
        }
        _ => get().await?,
    };
    if args.json {
        return Ok(terminal::json_pretty(&rollout)?);
    }
    print(&rollout);
    Ok(())
}

fn print(rollout: &Value) {
    let text = |name: &str| rollout[name].as_str().unwrap_or_default();
    let share = rollout["percent"].as_f64().map(|percent| format!(", {percent} % of the events")).unwrap_or_default();
    let state = if rollout["ended_reason"].is_null() { "under way" } else { "ended" };
    outln!("{}{}{} of version {}{}: {}", BOLD, text("kind"), PLAIN, text("sha256"), share, state);
    if !text("ended_reason").is_empty() {
        outln!("  {}", text("ended_reason"));
    }
    let figures = &rollout["figures"];
    if figures.is_null() {
        return;
    }
    fn count(value: &Value) -> u64 {
        value.as_u64().unwrap_or_default()
    }
    for arm in ["canary", "active"] {
        let calls = count(&figures[arm]["calls"]);
        let faults = count(&figures[arm]["faults"]);
        let calls = counted(calls, "call", "calls");
        let faults = counted(faults, "fault", "faults");
        outln!("  {:<8}{}, {}, CPU p95 {} µs", arm, calls, faults, count(&figures[arm]["cpu_us_p95"]));
    }
    match &figures["test"] {
        Value::Null => outln!(
            "  {} judged the same, {} differently, {} skipped",
            counted(count(&figures["same"]), "event", "events"),
            count(&figures["different"]),
            count(&figures["skipped"])
        ),
        test => print_test(test),
    }
}

/// Prints the test that ends a canary, with its threshold.
fn print_test(test: &Value) {
    let count = |name: &str| test[name].as_u64().unwrap_or_default();
    let number = |name: &str, digits: usize| format!("{:.*}", digits, test[name].as_f64().unwrap_or_default());
    outln!(
        "  faults  {} of {} failed on the canary alone, {} % is tolerated: evidence {} of {}",
        count("regressions"),
        counted(count("events"), "event", "events"),
        number("tolerated_percent", 1),
        number("evidence", 2),
        number("evidence_max", 0)
    );
    outln!(
        "  CPU     {} of them took much more time: evidence {} of {}",
        count("slow_calls"),
        number("cpu_evidence", 2),
        number("evidence_max", 0)
    );
    outln!(
        "  it ends at {}; {} more in a row that fail on the canary alone would end it",
        number("evidence_max", 0),
        count("regressions_to_end")
    );
}
