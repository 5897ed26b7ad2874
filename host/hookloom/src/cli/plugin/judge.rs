//! `hookloom plugin run` and `replay`: judge one event locally.

use super::super::client::{HostClient, JSON};
use super::super::diff::print_diff;
use super::super::terminal::{self, BOLD, BOLD_RED, PLAIN, errln, outln};
use super::Failure;
use super::source::{Source, event_in, event_with_id, pair};
use crate::clock::now_ms;
use crate::delivery::Verdict;
use crate::event::Event;
use crate::limits::Limits;
use crate::plugin::workbench::Workbench;
use crate::plugin::{ConfigReads, PluginInput, Shown};
use crate::subscription::{CallSettings, Subscription, SubscriptionId, TenantId};
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

/// Options of `plugin run`.
#[derive(Args)]
pub(in crate::cli) struct RunArgs {
    /// Component (.wasm), or folder of a plugin.
    #[arg(default_value = ".")]
    plugin: PathBuf,
    /// File with one event.
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
    /// File with the previous event of the same entity, which the plugin reads through `history`.
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Configuration that the plugin reads through `config`.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Secrets that the plugin may use.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    secret: Vec<(String, String)>,
    /// Time of acceptance, in milliseconds since the epoch, which the plugin's clock shows. Without it: now.
    #[arg(long, value_name = "MS")]
    received_at_ms: Option<i64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Options of `plugin replay`.
#[derive(Args)]
pub(in crate::cli) struct ReplayArgs {
    /// Id of the delivery.
    delivery: Uuid,
    /// Component (.wasm), or folder of a plugin.
    #[arg(default_value = ".")]
    plugin: PathBuf,
    /// URL of the host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// Key with the scope read.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true)]
    key: String,
    /// Id of the tenant.
    #[arg(long, default_value_t)]
    tenant: TenantId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: RunArgs) -> Result<(), Failure> {
    let received_at_ms = args.received_at_ms.unwrap_or_else(now_ms);
    let event = event_in(&args.event, received_at_ms)?;
    let previous = args.previous.map(|file| event_in(&file, received_at_ms)).transpose()?;
    let secrets = args.secret.into_iter().map(|(name, value)| (name, value.into())).collect();
    let settings = CallSettings { config: args.config.into_iter().collect(), secrets, ..CallSettings::default() };
    let limits = settings.limits;
    let subscription = Subscription::passing(TenantId::default(), settings);
    let shown = judge(&Source::find(&args.plugin)?, event.clone(), previous, subscription).await?;
    print(&shown, &limits, &event, args.json)
}

pub(super) async fn replay(args: ReplayArgs) -> Result<(), Failure> {
    let host = HostClient::new(&args.url, &args.key)?;
    let tenant = UrlPath::api_of(&args.tenant);
    let get = async |path: UrlPath| host.ask(Method::GET, &path, JSON, Bytes::new()).await;
    let delivery = get(tenant.clone().then("deliveries").then(&args.delivery)).await?;
    let events = tenant.clone().then("events");
    let accepted = get(events.clone().then(&id_in(&delivery, "event")?)).await?;
    let before = match accepted["previous"] {
        Value::Null => None,
        _ => Some(get(events.then(&id_in(&accepted, "previous")?)).await?),
    };
    fn past(body: &Value) -> Result<Arc<Event>, Failure> {
        let id = id_in(body, "id")?;
        event_with_id(&body["payload"].to_string(), body["received_at_ms"].as_i64().unwrap_or_default(), id)
    }
    let subscription_id = id_in(&delivery, "subscription")?;
    let subscription = get(tenant.then("subscriptions").then(&subscription_id)).await?;
    let event = past(&accepted)?;
    let previous = before.as_ref().map(past).transpose()?;
    let config: BTreeMap<String, String> = serde_json::from_value(subscription["config"].clone()).unwrap_or_default();
    let limits: Limits = serde_json::from_value(subscription["limits"].clone()).unwrap_or_default();
    let source = Source::find(&args.plugin)?;
    let attempt = delivery["attempts"].as_array().and_then(|attempts| attempts.last()).unwrap_or(&Value::Null);
    if !args.json {
        let field = |name: &str| attempt[name].as_str().unwrap_or("-").to_owned();
        outln!(
            "event {}{}{}, accepted as {}; the host's plugin said {} ({})",
            BOLD,
            event.name,
            PLAIN,
            event.id,
            field("verdict"),
            field("outcome"),
        );
        if subscription["secrets"].as_array().is_some_and(|secrets| !secrets.is_empty()) {
            errln!("its secrets stay in the host; the plugin here has none");
        }
        if subscription["plugin"].as_array().is_some_and(|chain| chain.len() > 1) {
            errln!("the subscription has a chain of plugins; this one judges the original event");
        }
    }
    let settings = CallSettings { config, limits, ..CallSettings::default() };
    // Clock and random numbers depend on these, so the result is that of the host.
    let mut judged_for = Subscription::passing(args.tenant, settings);
    judged_for.id = SubscriptionId(subscription_id);
    let shown = judge(&source, event.clone(), previous, judged_for).await?;
    print(&shown, &limits, &event, args.json)?;
    if !args.json {
        told_of_the_body(&shown, &event, attempt);
    }
    Ok(())
}

/// Returns the id in a field of the host's answer.
fn id_in(answer: &Value, name: &str) -> Result<Uuid, Failure> {
    let id = answer[name].as_str().and_then(|id| id.parse().ok());
    id.ok_or_else(|| format!("the host answered without the id {name:?}").into())
}

/// Prints a note on whether the body is the one that the host sent.
fn told_of_the_body(shown: &Shown, event: &Event, attempt: &Value) {
    let Some(sent) = attempt["body_sha256"].as_str() else { return };
    let body = if shown.verdict == Verdict::Pass { Some(event.text()) } else { shown.body.as_deref() };
    match body.map(|body| hex::encode(Sha256::digest(body)) == sent) {
        Some(true) => outln!("the host sent this very body"),
        _ => outln!("the host sent another body"),
    }
}

async fn judge(
    source: &Source,
    event: Arc<Event>,
    previous: Option<Arc<Event>>,
    subscription: Subscription,
) -> Result<Shown, Failure> {
    let workbench = Workbench::start()?;
    let (plugin, _) = source.load(&workbench).await?;
    let reads = Arc::new(ConfigReads::default());
    let config = subscription.settings.config.clone();
    let asked = PluginInput::new(event.clone(), Arc::new(subscription));
    let input = PluginInput { previous, config_reads: Some(reads.clone()), ..asked };
    let shown = Shown::new(workbench.judge(&plugin, input).await, &event);
    Ok(Shown { unread_config: reads.unread(&config), ..shown })
}

/// Prints a judgement. A fault is a failure of the command, for scripts.
fn print(shown: &Shown, limits: &Limits, event: &Event, json: bool) -> Result<(), Failure> {
    if json {
        let mut whole = serde_json::to_value(shown)?;
        whole["shares"] = shares(shown, limits)
            .iter()
            .map(|(name, used, limit)| json!({"limit": name, "used": used, "of": limit}))
            .collect();
        terminal::json_pretty(&whole)?;
    } else {
        print_shown(shown, limits, event);
    }
    match (shown.verdict, &shown.reason) {
        (Verdict::Fault, Some(reason)) => Err(reason.to_string().into()),
        _ => Ok(()),
    }
}

fn print_shown(shown: &Shown, limits: &Limits, event: &Event) {
    let tone = if shown.verdict == Verdict::Fault { BOLD_RED } else { BOLD };
    // The text of a fault is long, and is printed at the end as the failure of the command.
    let reason = shown.reason.as_ref().filter(|_| shown.verdict != Verdict::Fault);
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    outln!("{}{}{}{}", tone, shown.verdict, PLAIN, reason);
    for line in &shown.log {
        outln!("  log  {}", line);
    }
    for (name, value) in &shown.headers {
        outln!("  header  {}: {}", name, value);
    }
    if let Some(url) = &shown.url {
        outln!("  to  {}", url);
    }
    if let (Some(body), Verdict::Replace) = (&shown.body, shown.verdict) {
        let kind = shown.content_type.as_deref().unwrap_or_default();
        print_diff(&format!("{kind}, "), event.text(), body);
    }
    if !shown.unread_config.is_empty() {
        outln!("  config keys that it did not read for this event: {}", shown.unread_config.join(", "));
    }
    for (name, used, limit) in shares(shown, limits) {
        let share = format!("{:.1}", 100.0 * used as f64 / (limit as f64).max(1.0));
        let tone = if used > limit { BOLD_RED } else { PLAIN };
        outln!("{}  {:<17}{:>10} of {:>10}{:>7} %{}", tone, name, used, limit, share, PLAIN);
    }
}

/// Returns the usage of a call and each of its limits. Times in microseconds.
fn shares(shown: &Shown, limits: &Limits) -> [(&'static str, u64, u64); 11] {
    let cost = &shown.cost;
    let body = if shown.verdict == Verdict::Replace { shown.body.as_ref().map_or(0, String::len) } else { 0 };
    let header_bytes: usize = shown.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    [
        ("cpu, µs", cost.cpu_us, limits.cpu_ms * 1_000),
        ("wall, µs", cost.wall_us, limits.wall_ms * 1_000),
        ("memory_bytes", cost.memory_bytes, limits.memory_bytes),
        ("table_elements", cost.table_elements, limits.table_elements),
        ("output_bytes", body as u64, limits.output_bytes),
        ("headers", shown.headers.len() as u64, limits.headers),
        ("header_bytes", header_bytes as u64, limits.header_bytes),
        ("log_bytes", cost.log_bytes, limits.log_bytes),
        ("host_calls", cost.host_calls, limits.host_calls),
        ("host_call_bytes", cost.host_call_bytes, limits.host_call_bytes),
        ("hashed_bytes", cost.hashed_bytes, limits.hashed_bytes),
    ]
}
