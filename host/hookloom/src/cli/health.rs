//! `hookloom health`: asks a running host whether it can accept events, for health checks of containers.
//!
//! No key is needed. The exit code is 0 if `GET /readyz` answers 2xx, and 1 otherwise, with the reason on stderr.

use super::Failure;
use super::client::{HostClient, JSON};
use super::terminal::{self, outln};
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::Args;
use http::Method;

/// Options of `health`.
#[derive(Args)]
pub(super) struct HealthArgs {
    /// URL of the host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// Print the host's answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn health(args: HealthArgs) -> Result<(), Failure> {
    let host = HostClient::new(&args.url, "")?;
    let path = UrlPath::root().then("readyz");
    let answer = host.ask(Method::GET, &path, JSON, Bytes::new()).await?;
    if args.json {
        return Ok(terminal::json(&answer)?);
    }
    outln!("{} is ready", args.url);
    Ok(())
}
