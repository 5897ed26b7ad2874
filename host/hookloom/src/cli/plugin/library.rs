//! `hookloom plugin library` and `add`: the plugins that are part of a running host.

use super::super::client::JSON;
use super::super::progress::during;
use super::super::terminal::{self, outln};
use super::Failure;
use super::host_args::{HostArgs, ManagerArgs};
use super::push::print_version;
use crate::ids::PluginName;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

/// Options of `plugin library`.
#[derive(Args)]
pub(in crate::cli) struct LibraryArgs {
    #[command(flatten)]
    host: HostArgs,
}

/// Options of `plugin add`.
#[derive(Args)]
pub(in crate::cli) struct AddArgs {
    /// Name of the plugin in the library.
    plugin: PluginName,
    /// Name of the plugin in the tenant. Without it: that in the library.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<PluginName>,
    /// Add a version of a plugin without activating it.
    #[arg(long)]
    inactive: bool,
    /// Number of the last real events, or samples if there are none, that the version must judge first. It is not activated if it
    /// fails on one, or if nothing could be judged.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(1..=500))]
    gate: Option<u32>,
    #[command(flatten)]
    host: ManagerArgs,
    /// Print the host's answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn library(args: LibraryArgs) -> Result<(), Failure> {
    let plugins = args.host.get(|tenant| tenant.then("library").query("limit", 500)).await?;
    if args.host.json {
        return Ok(terminal::json_pretty(&plugins)?);
    }
    let plugins = plugins.as_array().map(Vec::as_slice).unwrap_or_default();
    let added: Vec<String> = plugins.iter().map(added_as).collect();
    let width = added.iter().map(String::len).max().unwrap_or_default().max("added as".len());
    outln!("{:<12}{:>8}  {}  description", "plugin", "size", format!("{:<width$}", "added as"));
    for (plugin, added) in plugins.iter().zip(&added) {
        let size = plugin["size"].as_u64().unwrap_or_default().div_ceil(1 << 10);
        outln!(
            "{:<12}{:>4} KiB  {}  {}: {}",
            text(plugin, "name"),
            size,
            format!("{added:<width$}"),
            text(plugin, "title"),
            text(plugin, "description")
        );
    }
    Ok(())
}

/// Returns the names of the tenant's plugins that were added from one of the library; `-` for none.
fn added_as(plugin: &Value) -> String {
    fn name(added: &Value) -> String {
        let update = if added["update_available"] == true { " (update available)" } else { "" };
        format!("{}{update}", text(added, "plugin"))
    }
    let names: Vec<String> = plugin["added"].as_array().into_iter().flatten().map(name).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

pub(super) async fn add(args: AddArgs) -> Result<(), Failure> {
    let host = args.host.client()?;
    let path = args.host.plugins().query("activate", !args.inactive);
    let path = match args.gate {
        Some(events) => path.query("gate", events),
        None => path,
    };
    let name = args.name.as_ref().unwrap_or(&args.plugin);
    let body = json!({"library": args.plugin, "name": name});
    let what = format!("{} compiles {}", args.host.url, args.plugin);
    let version = during(&what, host.ask(Method::POST, &path, JSON, Bytes::from(body.to_string()))).await?;
    if args.json {
        return Ok(terminal::json_pretty(&version)?);
    }
    print_version(&version);
    Ok(())
}
