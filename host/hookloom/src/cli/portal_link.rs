//! `hookloom portal-link`: creates a link to the portal of a tenant, or ends all of them.

use super::Failure;
use super::client::{AdminArgs, JSON};
use super::terminal::{self, outln};
use crate::plural::counted;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::json;

/// Options of `portal-link`.
#[derive(Args)]
pub(super) struct PortalLinkArgs {
    /// Tenant of the portal.
    tenant: TenantId,
    /// Time in which the link can be used, in seconds.
    #[arg(long, value_name = "S")]
    expires_in: Option<u32>,
    /// Duration of the session that the link begins, in seconds.
    #[arg(long, value_name = "S")]
    session: Option<u32>,
    /// The session changes nothing.
    #[arg(long)]
    read_only: bool,
    /// Page that the portal leads back to, at an origin of the setting portal_origins.
    #[arg(long, value_name = "URL")]
    return_url: Option<String>,
    /// End all links and sessions of the tenant's portal instead.
    #[arg(long, conflicts_with_all = ["expires_in", "session", "read_only", "return_url"])]
    end_all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: AdminArgs,
}

pub(super) async fn run(args: PortalLinkArgs) -> Result<(), Failure> {
    let host = args.host.client()?;
    let route = UrlPath::api_of(&args.tenant).then("portal-links");
    if args.end_all {
        let ended = host.ask(Method::DELETE, &route, JSON, Bytes::new()).await?;
        if args.json {
            return Ok(terminal::json(&ended)?);
        }
        let [sessions, links] = ["sessions", "links"].map(|name| ended[name].as_u64().unwrap_or(0));
        let sessions = counted(sessions, "session", "sessions");
        outln!("ended {} and {}", sessions, counted(links, "unused link", "unused links"));
        return Ok(());
    }
    let body = json!({
        "expires_in_s": args.expires_in,
        "session_s": args.session,
        "read_only": args.read_only,
        "return_url": args.return_url,
    });
    let mut made = host.ask(Method::POST, &route, JSON, Bytes::from(body.to_string())).await?;
    let path = made["path"].as_str().and_then(UrlPath::local).ok_or("the host answered without a link")?;
    // The host's public address is better than the address by which this command reaches it.
    let link = made["url"].as_str().map_or_else(|| host.link(&path), str::to_owned);
    if args.json {
        made["url"] = link.into();
        return Ok(terminal::json(&made)?);
    }
    outln!("{}", link);
    Ok(())
}
