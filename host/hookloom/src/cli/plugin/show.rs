//! `hookloom plugin list` and `show`: the plugins of a running host, and what their authors say about them.

use super::super::client::HostClient;
use super::super::terminal::{self, BOLD, PLAIN, outln};
use super::Failure;
use crate::ids::PluginName;
use crate::manifest::{ConfigKey, Manifest};
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::Value;

const JSON: &str = "application/json";

/// Options of `plugin list`.
#[derive(Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    host: HostArgs,
}

/// Options of `plugin show`.
#[derive(Args)]
pub(in crate::cli) struct ShowArgs {
    /// Name of the plugin in the host.
    plugin: PluginName,
    #[command(flatten)]
    host: HostArgs,
}

/// Host to ask, and the form of the answer.
#[derive(Args)]
pub(super) struct HostArgs {
    /// URL of the host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// Key with the scope read.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true)]
    key: String,
    /// Id of the tenant.
    #[arg(long, default_value_t)]
    tenant: TenantId,
    /// Print the host's answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl HostArgs {
    /// Asks the host for something of the tenant.
    pub(super) async fn get(&self, path: impl FnOnce(UrlPath) -> UrlPath) -> Result<Value, Failure> {
        let host = HostClient::new(&self.url, &self.key)?;
        host.ask(Method::GET, &path(UrlPath::api_of(&self.tenant)), JSON, Bytes::new()).await
    }
}

pub(super) async fn list(args: ListArgs) -> Result<(), Failure> {
    let plugins = args.host.get(|tenant| tenant.then("plugins").query("limit", 500)).await?;
    if args.host.json {
        return Ok(terminal::json_pretty(&plugins)?);
    }
    for plugin in plugins.as_array().into_iter().flatten() {
        let text = |key: &str| plugin[key].as_str().unwrap_or_default().to_owned();
        let described = match (text("title"), text("description")) {
            (title, _) if title.is_empty() => "no manifest".to_owned(),
            (title, description) => format!("{title}: {description}"),
        };
        outln!("{}{}{}  {}{}", BOLD, text("name"), PLAIN, described, update_of(plugin));
    }
    Ok(())
}

pub(super) async fn show(args: ShowArgs) -> Result<(), Failure> {
    let versions = args.host.get(|tenant| tenant.then("plugins").then(&args.plugin).then("versions")).await?;
    if args.host.json {
        return Ok(terminal::json_pretty(&versions)?);
    }
    let versions = versions.as_array().cloned().unwrap_or_default();
    for version in &versions {
        let state = if version["active"] == true { "active  " } else { "inactive" };
        let sha256 = version["sha256"].as_str().unwrap_or_default();
        let origin = version["report"]["library"].as_str().map(|name| format!(", added from {name} of the library"));
        outln!("{} version {}{}{}", state, sha256, origin.unwrap_or_default(), update_of(version));
    }
    let active = versions.iter().find(|version| version["active"] == true);
    let manifest = active.and_then(|version| serde_json::from_value(version["report"]["manifest"].clone()).ok());
    let Some(manifest): Option<Manifest> = manifest else {
        outln!("the active version has no manifest: its author's documentation describes its config");
        return Ok(());
    };
    outln!("\n{}{}{}\n{}", BOLD, manifest.title, PLAIN, manifest.description);
    let keys = manifest.schema().map_err(|error| format!("the manifest cannot be read: {error}"))?.keys;
    if keys.is_empty() {
        outln!("\nIt has no config.");
    }
    for key in &keys {
        outln!("\n{}{}{} ({})", BOLD, key.name, PLAIN, kind_of(key));
        for line in lines_about(key) {
            outln!("  {}", line);
        }
    }
    Ok(())
}

/// Returns the note about an update of a plugin or version in the host's library; empty if there is none.
fn update_of(plugin: &Value) -> &'static str {
    if plugin["update_available"] == true { "; update available" } else { "" }
}

fn kind_of(key: &ConfigKey) -> String {
    let required = if key.required { ", required" } else { "" };
    format!("{}{required}", key.kind.name())
}

/// Returns the description of a key and its values, line by line.
fn lines_about(key: &ConfigKey) -> Vec<String> {
    let mut lines = vec![key.description.clone()];
    lines.extend(key.choices.iter().map(|choice| match &choice.description {
        Some(description) => format!("{}: {description}", choice.value),
        None => choice.value.clone(),
    }));
    let range = match (&key.minimum, &key.maximum) {
        (Some(least), Some(most)) => Some(format!("from {least} to {most}")),
        (Some(least), None) => Some(format!("at least {least}")),
        (None, Some(most)) => Some(format!("at most {most}")),
        (None, None) => None,
    };
    lines.extend(range);
    lines.extend(key.default.as_ref().map(|default| format!("default: {}", default.replace('\n', " | "))));
    lines.extend(key.examples.iter().map(|example| format!("example: {}", example.replace('\n', " | "))));
    lines.retain(|line| !line.is_empty());
    lines
}
