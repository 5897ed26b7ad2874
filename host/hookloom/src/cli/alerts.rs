//! `hookloom alerts`: incidents of a tenant, the settings of its alerts, and a test.

use super::Failure;
use super::client::{AdminArgs, HostClient, JSON};
use super::terminal::{self, Message, outln};
use crate::ids::TenantId;
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use jiff::Timestamp;
use serde_json::Value;
use std::path::PathBuf;

/// Options of `alerts` and of its commands.
#[derive(Args)]
pub(super) struct AlertsArgs {
    #[command(subcommand)]
    command: AlertsCommand,
}

/// Options of every command.
#[derive(Args)]
struct TenantArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Tenant of the alerts.
    #[arg(long, default_value = "default")]
    tenant: TenantId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum AlertsCommand {
    /// List the incidents, newest first.
    List(TenantArgs),
    /// Print the settings, as JSON that `set` reads.
    Show(TenantArgs),
    /// Replace the settings. An absent setting has its default.
    Set {
        /// JSON file. `-`: stdin.
        file: PathBuf,
        #[command(flatten)]
        of: TenantArgs,
    },
    /// Send a test e-mail to each recipient, and a test event to each active webhook of the module `Incident`.
    Test(TenantArgs),
}

pub(super) async fn alerts(args: AlertsArgs) -> Result<(), Failure> {
    match args.command {
        AlertsCommand::List(of) => {
            let incidents = ask(&of, Method::GET, &["incidents"], Bytes::new()).await?;
            if of.json { Ok(terminal::json_pretty(&incidents)?) } else { show(&incidents) }
        }
        AlertsCommand::Show(of) => {
            let settings = ask(&of, Method::GET, &["alerts"], Bytes::new()).await?;
            Ok(terminal::json_pretty(&settings)?)
        }
        AlertsCommand::Set { file, of } => {
            let text = if file.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())?
            } else {
                std::fs::read_to_string(&file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?
            };
            let settings = ask(&of, Method::PUT, &["alerts"], text.into()).await?;
            Ok(terminal::json_pretty(&settings)?)
        }
        AlertsCommand::Test(of) => {
            let written = ask(&of, Method::POST, &["alerts", "test"], Bytes::new()).await?;
            if of.json {
                return Ok(terminal::json_pretty(&written)?);
            }
            for email in written["emails"].as_array().into_iter().flatten() {
                outln!("an e-mail to {} is on its way", Message(text(email, "recipient")));
            }
            for delivery in written["deliveries"].as_array().into_iter().flatten() {
                let name = Message(text(delivery, "name"));
                match delivery["error"].as_str() {
                    None => outln!("delivery {} to the webhook \"{}\" is on its way", text(delivery, "id"), name),
                    Some(error) => outln!("no delivery to the webhook \"{}\" could be made: {}", name, Message(error)),
                }
            }
            Ok(())
        }
    }
}

async fn ask(of: &TenantArgs, method: Method, path: &[&'static str], body: Bytes) -> Result<Value, Failure> {
    let client: HostClient = of.admin.client()?;
    let path = path.iter().fold(UrlPath::api_of(&of.tenant), |path, segment| path.then(*segment));
    client.ask(method, &path, JSON, body).await
}

fn show(incidents: &Value) -> Result<(), Failure> {
    outln!("opened                   state   severity  kind             what");
    for incident in incidents.as_array().into_iter().flatten() {
        let opened_at = Timestamp::from_millisecond(incident["opened_at_ms"].as_i64().unwrap_or_default())?;
        outln!(
            "{:<25}{:<8}{:<10}{:<17}{}",
            opened_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
            if incident["closed_at_ms"].is_null() { "open" } else { "over" },
            text(incident, "severity"),
            text(incident, "kind"),
            Message(text(incident, "title")),
        );
    }
    Ok(())
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}
