//! `hookloom sign-in-link`: a way into the admin pages for who has an admin key in a shell.

use super::Failure;
use super::client::AdminArgs;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::json;

/// Where to, and who asks.
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
    let made = host.ask(Method::POST, "/v1/sign-in-links", "application/json", Bytes::new()).await?;
    let link = format!("{}{}", args.host.url.trim_end_matches('/'), made["path"].as_str().unwrap_or_default());
    match args.json {
        true => anstream::println!("{}", json!({"url": link})),
        false => anstream::println!("{link}"),
    }
    Ok(())
}
