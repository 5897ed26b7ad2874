//! `hookloom sign-in-link`: creates a link to the admin pages, for operators with an admin key.

use super::Failure;
use super::client::{AdminArgs, JSON};
use super::terminal::{self, outln};
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::json;

/// Options of `sign-in-link`.
#[derive(Args)]
pub(super) struct SignInLinkArgs {
    #[command(flatten)]
    host: AdminArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn link(args: SignInLinkArgs) -> Result<(), Failure> {
    let host = args.host.client()?;
    let route = UrlPath::root().then("v1").then("sign-in-links");
    let made = host.ask(Method::POST, &route, JSON, Bytes::new()).await?;
    let path = made["path"].as_str().and_then(UrlPath::local).ok_or("the host answered without a link")?;
    // The host's public address is better than the address by which this command reaches it.
    let link = made["url"].as_str().map_or_else(|| host.link(&path), str::to_owned);
    if args.json {
        return Ok(terminal::json(&json!({"url": link}))?);
    }
    outln!("{}", link);
    Ok(())
}
