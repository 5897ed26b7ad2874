//! HTTP client of a running host's REST API, for commands.

use super::Failure;
use crate::address::AddressPolicy;
use crate::url_path::{PublicUrl, UrlPath};
use bytes::Bytes;
use clap::Args;
use hookloom_egress::{Client, Request};
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// Options for a host and an admin key.
#[derive(Args)]
pub(super) struct AdminArgs {
    /// URL of the host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    pub(super) url: String,
    /// Admin key.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true)]
    key: String,
}

impl AdminArgs {
    pub(super) fn client(&self) -> Result<HostClient, Failure> {
        HostClient::new(&self.url, &self.key)
    }
}

/// Host and the key for its API.
pub(super) struct HostClient {
    client: Client,
    base: PublicUrl,
    key: String,
}

/// Refusal of a request by a host.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    /// Status of the answer.
    pub(super) status: u16,
    message: String,
}

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(150);

/// Timeout of an upload. The host ends the compilation after `compile_wall_s`, which its operator sets.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Content type of the bodies of the REST API.
pub(super) const JSON: &str = "application/json";

/// Content type of a component.
pub(super) const COMPONENT: &str = "application/wasm";

/// Content type of scripts.
pub(super) const SCRIPT: &str = "text/javascript";
const RESPONSE_BYTES_MAX: usize = 64 << 20;

impl HostClient {
    /// Creates a client. It does not use the address guard, because the operator chooses the host.
    pub(super) fn new(base: &str, key: &str) -> Result<Self, Failure> {
        let base = PublicUrl::parse(base)?;
        Ok(HostClient { client: Client::new(AddressPolicy::everywhere())?, base, key: key.to_owned() })
    }

    /// Returns the URL of a path of the host.
    pub(super) fn link(&self, path: &UrlPath) -> String {
        self.base.link(path)
    }

    /// Sends a request, and returns the JSON of the answer. A problem document becomes an error with its text.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &UrlPath,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Value, Failure> {
        let answer = self.ask_bytes(method, path, content_type, body).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    /// Sends a request, and returns the bytes of the answer.
    pub(super) async fn ask_bytes(
        &self,
        method: Method,
        path: &UrlPath,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        let mut headers = HeaderMap::new();
        if !self.key.is_empty() {
            let bearer = HeaderValue::try_from(format!("Bearer {}", self.key))
                .map_err(|_| "the key contains a character that no key has")?;
            headers.insert(header::AUTHORIZATION, bearer);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let url = Url::parse(&self.link(path))?;
        let timeout = if [COMPONENT, SCRIPT].contains(&content_type) { UPLOAD_TIMEOUT } else { TIMEOUT };
        let request =
            Request { method, target: url.into(), headers, body, timeout, response_bytes_max: RESPONSE_BYTES_MAX };
        let answer = self.client.send(request).await.0.map_err(|error| format!("{}: {error}", self.base))?;
        match answer.status {
            200..=299 => Ok(answer.body),
            status => {
                let message = problem_text(status, &serde_json::from_slice(&answer.body).unwrap_or(Value::Null));
                Err(Refused { status, message }.into())
            }
        }
    }
}

fn problem_text(status: u16, problem: &Value) -> String {
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    match (text("detail"), text("remedy")) {
        (Some(detail), Some(remedy)) => format!("{detail} ({remedy})"),
        (Some(detail), None) => detail.to_owned(),
        _ => format!("the host answered {status}"),
    }
}
