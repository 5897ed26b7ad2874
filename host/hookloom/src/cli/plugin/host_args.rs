//! Options of the commands that ask a running host about the plugins of a tenant.

use super::super::client::{HostClient, JSON};
use super::Failure;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::Value;

/// Host to ask, and the form of the answer.
#[derive(Args)]
pub(super) struct HostArgs {
    /// URL of the host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    url: String,
    /// Key with the scope read.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true)]
    key: String,
    /// Id of the tenant.
    #[arg(long, default_value_t)]
    tenant: TenantId,
    /// Print the host's answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl HostArgs {
    /// Asks the host for something of the tenant.
    pub(super) async fn get(&self, path: impl FnOnce(UrlPath) -> UrlPath) -> Result<Value, Failure> {
        let host = HostClient::new(&self.url, &self.key)?;
        host.ask(Method::GET, &path(UrlPath::api_of(&self.tenant)), JSON, Bytes::new()).await
    }
}

/// Host and tenant that a command manages.
#[derive(Args)]
pub(super) struct ManagerArgs {
    /// URL of the host.
    #[arg(long, value_name = "URL", env = "HOOKLOOM_URL", default_value = "http://127.0.0.1:8420")]
    pub(super) url: String,
    /// Key with the scope manage.
    #[arg(long, env = "HOOKLOOM_KEY", hide_env_values = true)]
    key: String,
    /// Id of the tenant.
    #[arg(long, default_value_t)]
    tenant: TenantId,
}

impl ManagerArgs {
    pub(super) fn client(&self) -> Result<HostClient, Failure> {
        HostClient::new(&self.url, &self.key)
    }

    /// Returns the path of the tenant's plugins.
    pub(super) fn plugins(&self) -> UrlPath {
        UrlPath::api_of(&self.tenant).then("plugins")
    }
}
