//! `hookloom health`: asks a running host whether it can accept events, for health checks of containers.
//!
//! Needs no key. Exits with 0 when `GET /readyz` answers 2xx, and with 1 otherwise, with the reason on stderr.

use super::Failure;
use super::client::HostClient;
use super::terminal::{self, outln};
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::Args;
use http::Method;

/// The host to ask.
#[derive(Args)]
pub(super) struct HealthArgs {
    /// The host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// Print the host's answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn health(args: HealthArgs) -> Result<(), Failure> {
    let host = HostClient::new(&args.url, "")?;
    let path = UrlPath::root().then("readyz");
    let answer = host.ask(Method::GET, &path, "application/json", Bytes::new()).await?;
    if args.json {
        return Ok(terminal::json(&answer)?);
    }
    outln!("{} is ready", args.url);
    Ok(())
}
