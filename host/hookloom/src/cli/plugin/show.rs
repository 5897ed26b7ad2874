//! `hookloom plugin list` and `show`: the plugins of a running host, and what their authors say about them.

use super::super::terminal::{self, BOLD, PLAIN, outln};
use super::Failure;
use super::host_args::HostArgs;
use crate::ids::PluginName;
use crate::manifest::{ConfigKey, Manifest};
use clap::Args;
use serde_json::Value;

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
