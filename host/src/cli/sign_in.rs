//! `hookloom sign-in-link`: a way into the admin pages for who has an admin key in a shell.

use super::Failure;
use super::client::HostClient;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::json;

/// Where to, and who asks.
#[derive(Args)]
pub(super) struct SignInLinkArgs {
    /// The host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// An admin key.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true)]
    key: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn link(args: SignInLinkArgs) -> Result<(), Failure> {
    let host = HostClient::new(&args.url, &args.key)?;
    let made = host.ask(Method::POST, "/v1/sign-in-links", "application/json", Bytes::new()).await?;
    let link = format!("{}{}", args.url.trim_end_matches('/'), made["path"].as_str().unwrap_or_default());
    match args.json {
        true => anstream::println!("{}", json!({"url": link})),
        false => anstream::println!("{link}"),
    }
    Ok(())
}
