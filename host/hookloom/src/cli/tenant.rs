//! `hookloom export` and `hookloom import`: move a tenant from one host to another.
//!
//! The file has no secrets. The import creates new signing secrets, and prints them once, unless they are given. Secrets that
//! webhooks use must be given in a separate file or on standard input. The file may come from anywhere: an import checks every name
//! in it first, and a file with an invalid name changes nothing.

mod imported;
mod secrets;

use super::Failure;
use super::client::{AdminArgs, COMPONENT, HostClient, JSON};
use super::terminal::{self, errln, outln};
use crate::ids::{PluginName, TenantId, VersionId};
use crate::url_path::UrlPath;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use clap::Args;
use http::Method;
use imported::Imported;
use secrets::ImportSecrets;
use serde_json::{Value, json};
use std::path::PathBuf;
use uuid::Uuid;

/// Options of `export`.
#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    host: AdminArgs,
    /// Id of the tenant.
    #[arg(long, default_value_t)]
    tenant: TenantId,
    /// Output file. Without it: stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Options of `import`.
#[derive(Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    host: AdminArgs,
    /// Id of the new tenant, which must not exist yet.
    #[arg(long)]
    tenant: TenantId,
    /// File that `export` wrote.
    file: PathBuf,
    /// Secrets of the webhooks, which an export does not contain: {"secrets": {"name": "…"}, "webhooks": [{"notify_url": "…",
    /// "secrets": {…}, "signing_secret": "…"}]}. `-` reads them from stdin, so that they are in no file.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// Print the created things as JSON.
    #[arg(long)]
    json: bool,
}

/// Version of the file format.
const FORMAT: u64 = 1;

/// Fields of a subscription that are not settings.
const NOT_SETTINGS: [&str; 8] = [
    "ascii_host",
    "signing_keys",
    "state_reason",
    "failing_since_ms",
    "lane",
    "config_generation",
    "created_at_ms",
    "id",
];

struct TenantClient {
    host: HostClient,
    id: TenantId,
}

impl TenantClient {
    fn new(host: &AdminArgs, id: TenantId) -> Result<Self, Failure> {
        Ok(TenantClient { host: host.client()?, id })
    }

    fn path(&self) -> UrlPath {
        UrlPath::api_of(&self.id)
    }

    async fn get(&self, path: &UrlPath) -> Result<Value, Failure> {
        self.host.ask(Method::GET, path, JSON, Bytes::new()).await
    }

    /// Returns a whole list, page by page. `key` is the field that is the cursor.
    async fn list(&self, path: UrlPath, key: &str) -> Result<Vec<Value>, Failure> {
        const LIMIT: usize = 500;
        let first = path.query("limit", LIMIT);
        let mut all = Vec::new();
        let mut next = first.clone();
        loop {
            let Value::Array(page) = self.get(&next).await? else { return Ok(all) };
            let count = page.len();
            all.extend(page);
            match all.last().and_then(|last: &Value| last[key].as_str()) {
                Some(cursor) if count == LIMIT => next = first.clone().query("cursor", cursor),
                _ => return Ok(all),
            }
        }
    }

    async fn post(&self, path: &UrlPath, body: &Value) -> Result<Value, Failure> {
        self.host.ask(Method::POST, path, JSON, body.to_string().into()).await
    }
}

pub(super) async fn export(args: ExportArgs) -> Result<(), Failure> {
    let tenant = TenantClient::new(&args.host, args.tenant)?;
    let mut settings = tenant.get(&tenant.path()).await?;
    without(&mut settings, &["id", "created_at_ms"]);
    let mut subscriptions = tenant.list(tenant.path().then("subscriptions"), "id").await?;
    subscriptions.iter_mut().for_each(|one| without(one, &NOT_SETTINGS));
    let mut bins = tenant.get(&tenant.path().then("bins")).await?;
    bins.as_array_mut()
        .into_iter()
        .flatten()
        .for_each(|one| without(one, &["id", "path", "url", "created_at_ms", "received"]));
    let mut plugins = Vec::new();
    for plugin in tenant.list(tenant.path().then("plugins"), "name").await? {
        let (Some(name), Some(sha256)) = (plugin["name"].as_str(), plugin["active_sha256"].as_str()) else { continue };
        // The answer of the host is checked like any other text before it becomes a part of a path or a file.
        let name = PluginName::parse(name)?;
        let sha256 = VersionId::parse(sha256)?;
        let path = tenant.path().then("plugins").then(&name).then("versions").then(&sha256).then("component");
        let component = tenant.host.ask_bytes(Method::GET, &path, JSON, Bytes::new()).await?;
        plugins.push(json!({"name": name, "sha256": sha256, "component": BASE64.encode(component)}));
    }
    let all = json!({"hookloom_export": FORMAT, "tenant": settings, "plugins": plugins, "subscriptions": subscriptions, "bins": bins});
    match args.out {
        None => terminal::json_pretty(&all)?,
        Some(file) => {
            std::fs::write(&file, format!("{all:#}")).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    Ok(())
}

fn without(value: &mut Value, fields: &[&str]) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, _| !fields.contains(&name.as_str()));
    }
}

pub(super) async fn import(args: ImportArgs) -> Result<(), Failure> {
    let shown = args.file.display();
    let text = std::fs::read(&args.file).map_err(|error| format!("{shown}: {error}"))?;
    // Everything is checked before anything is created.
    let secrets = args.secrets.as_deref().map(ImportSecrets::read).transpose()?.unwrap_or_default();
    let all = Imported::read(&text, &secrets).map_err(|error| format!("{shown}: {error}; nothing was changed"))?;
    let tenant = TenantClient::new(&args.host, args.tenant)?;
    let mut settings = all.tenant;
    settings.insert("id".into(), json!(tenant.id));
    let tenants = UrlPath::root().then("v1").then("tenants");
    tenant.post(&tenants, &Value::Object(settings)).await?;
    for plugin in all.plugins {
        errln!("compiling {}", plugin.name);
        let path = tenant.path().then("plugins").then(&plugin.name);
        tenant.host.ask(Method::PUT, &path, COMPONENT, plugin.component).await?;
    }
    for bin in all.bins {
        tenant.post(&tenant.path().then("bins"), &bin).await?;
    }
    let mut made = Vec::new();
    let subscriptions = tenant.path().then("subscriptions");
    for (write, state) in all.subscriptions {
        let body = tenant.post(&subscriptions, &write).await?;
        for warning in body["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            errln!("the webhook to {}: {}", body["notify_url"].as_str().unwrap_or_default(), warning);
        }
        let id: Uuid = body["id"].as_str().unwrap_or_default().parse()?;
        if state != "active" {
            let reason = json!({"reason": format!("was {state} when it was exported")});
            tenant.post(&subscriptions.clone().then(&id).then("pause"), &reason).await?;
        }
        made.push(json!({"id": id, "notify_url": body["notify_url"], "signing_secret": body["signing_secret"]}));
    }
    show(&made, args.json)
}

fn show(made: &[Value], as_json: bool) -> Result<(), Failure> {
    if as_json {
        return Ok(terminal::json(&json!({"subscriptions": made}))?);
    }
    let webhooks = crate::plural::counted(made.len() as u64, "webhook", "webhooks");
    outln!("{} made, each with its signing secret, which is shown this once:", webhooks);
    for one in made {
        let text = |name: &str| one[name].as_str().unwrap_or_default();
        outln!("  {}  {}  {}", text("id"), text("signing_secret"), text("notify_url"));
    }
    Ok(())
}
