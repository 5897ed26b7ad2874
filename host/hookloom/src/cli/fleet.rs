//! `hookloom fleet`: the hosts that share a database, as one of them sees them, and moves of shards between them.

use super::Failure;
use super::client::{HostClient, JSON};
use super::terminal::{self, outln};
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Options of `fleet` and of its commands.
#[derive(Args)]
pub(super) struct FleetArgs {
    #[command(subcommand)]
    command: Option<FleetCommand>,
    /// URL of the host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420", global = true)]
    url: String,
    /// Admin key.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true, global = true)]
    key: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum FleetCommand {
    /// Move a shard to a host, which keeps it while it runs.
    Move {
        /// Number of the shard, 0 to 255: the last two hexadecimal digits of the ids of its webhooks.
        shard: u8,
        /// Number of the host.
        host: i16,
    },
    /// Let the hosts balance a shard again that was moved to one of them.
    Release {
        /// Number of the shard, 0 to 255.
        shard: u8,
    },
}

pub(super) async fn fleet(args: FleetArgs) -> Result<(), Failure> {
    let FleetArgs { command, url, key, json: as_json } = args;
    let key = key.ok_or("give an admin key by --key or in HOOKLOOM_KEY")?;
    let client = HostClient::new(&url, &key)?;
    let fleet = UrlPath::root().then("v1").then("fleet");
    let (shard, to) = match command {
        None => {
            let fleet = client.ask(Method::GET, &fleet, JSON, Bytes::new()).await?;
            return if as_json { Ok(terminal::json_pretty(&fleet)?) } else { show(&fleet) };
        }
        Some(FleetCommand::Move { shard, host }) => (shard, json!(host)),
        Some(FleetCommand::Release { shard }) => (shard, Value::Null),
    };
    let path = fleet.then("shards").then(&shard);
    let moved = client.ask(Method::PUT, &path, JSON, json!({"host": to}).to_string().into()).await?;
    if as_json {
        return Ok(terminal::json_pretty(&moved)?);
    }
    if to.is_null() {
        outln!("the hosts balance shard {}", shard);
    } else if moved["host"] == to {
        outln!("shard {} is at host {}, which keeps it", shard, to);
    } else {
        let owner = number(&moved["host"]);
        outln!("host {} gives shard {} to host {} when none of its attempts is under way", owner, shard, to);
    }
    Ok(())
}

/// Prints the hosts, and the shards that were moved by hand.
fn show(fleet: &Value) -> Result<(), Failure> {
    outln!("host   version   state     shards  webhooks    pending  attempts/s  under way  behind  name");
    for host in list(fleet, "hosts") {
        outln!(
            "{:>4}{}  {:<10}{:<10}{:>6}{:>10}{:>11}{:>12}{:>11}{:>8}  {}",
            number(&host["number"]),
            if host["this"] == true { "*" } else { " " },
            text(host, "version"),
            text(host, "state"),
            number(&host["shards"]),
            number(&host["subscriptions"]),
            number(&host["pending"]),
            format!("{:.1}", host["attempts_per_s"].as_f64().unwrap_or_default()),
            number(&host["attempts_under_way"]),
            number(&host["changes_behind"]),
            text(host, "name"),
        );
    }
    for host in list(fleet, "lost") {
        let lost_at = Timestamp::from_millisecond(host["lost_at_ms"].as_i64().unwrap_or_default())?;
        let lost_at = lost_at.strftime("%Y-%m-%d %H:%M:%S UTC");
        let version = text(host, "version");
        outln!("{:>4}   {:<10}lost at {}  {}", number(&host["number"]), version, lost_at, text(host, "name"));
    }
    outln!("* answered");
    for shard in list(fleet, "shards").iter().filter(|shard| shard["pinned"] == true) {
        let [place, owner, to] = ["shard", "host", "pinned_to"].map(|name| number(&shard[name]));
        if shard["pinned_to"].is_null() {
            outln!("shard {} is at host {}: the host that it was moved to does not run", place, owner);
        } else if owner == to {
            outln!("shard {} was moved to host {}", place, to);
        } else {
            outln!("shard {} moves from host {} to host {}", place, owner, to);
        }
    }
    Ok(())
}

fn list<'v>(fleet: &'v Value, name: &str) -> &'v [Value] {
    fleet[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'v>(host: &'v Value, name: &str) -> &'v str {
    host[name].as_str().unwrap_or_default()
}

/// Returns a number, or `-` if there is none.
fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string())
}
