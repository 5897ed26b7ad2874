//! `hookloom export` and `hookloom import`: a tenant from one host to another.
//!
//! What is written holds no secret: signing secrets are made anew (and printed once) unless the file is given them, and
//! subscriptions that use secrets of their own say which ones the file must be given before it is imported.

use super::Failure;
use super::client::{AdminArgs, HostClient};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// What to write.
#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    host: AdminArgs,
    /// The tenant.
    #[arg(long, default_value = "default")]
    tenant: String,
    /// Where to. Without it: to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What to read.
#[derive(Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    host: AdminArgs,
    /// The tenant to make: one that is not there yet.
    #[arg(long)]
    tenant: String,
    /// What `export` wrote.
    file: PathBuf,
    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

/// The version of the file's shape.
const FORMAT: u64 = 1;

/// What a subscription's body holds beside its settings.
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

const JSON: &str = "application/json";

struct Tenant {
    host: HostClient,
    name: String,
}

impl Tenant {
    fn new(host: &AdminArgs, name: String) -> Result<Self, Failure> {
        Ok(Tenant { host: host.client()?, name })
    }

    async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.host.ask(Method::GET, &format!("/v1/tenants/{}{path}", self.name), JSON, Bytes::new()).await
    }

    /// A whole list, page by page; `key` is what its cursor holds.
    async fn list(&self, path: &str, key: &str) -> Result<Vec<Value>, Failure> {
        const LIMIT: usize = 500;
        let (mut all, mut query) = (Vec::new(), format!("?limit={LIMIT}"));
        loop {
            let Value::Array(page) = self.get(&format!("{path}{query}")).await? else { return Ok(all) };
            let count = page.len();
            all.extend(page);
            match all.last().and_then(|last: &Value| last[key].as_str()) {
                Some(cursor) if count == LIMIT => query = format!("?limit={LIMIT}&cursor={cursor}"),
                _ => return Ok(all),
            }
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.host.ask(Method::POST, &format!("/v1/tenants/{}{path}", self.name), JSON, body.to_string().into()).await
    }
}

pub(super) async fn export(args: ExportArgs) -> Result<(), Failure> {
    let tenant = Tenant::new(&args.host, args.tenant)?;
    let mut own = tenant.get("").await?;
    without(&mut own, &["id", "created_at_ms"]);
    let mut subscriptions = tenant.list("/subscriptions", "id").await?;
    subscriptions.iter_mut().for_each(|one| without(one, &NOT_SETTINGS));
    let mut bins = tenant.get("/bins").await?;
    bins.as_array_mut()
        .into_iter()
        .flatten()
        .for_each(|one| without(one, &["id", "path", "created_at_ms", "received"]));
    let mut plugins = Vec::new();
    for plugin in tenant.list("/plugins", "name").await? {
        let (Some(name), Some(sha256)) = (plugin["name"].as_str(), plugin["active_sha256"].as_str()) else { continue };
        let path = format!("/v1/tenants/{}/plugins/{name}/versions/{sha256}/component", tenant.name);
        let component = tenant.host.ask_bytes(Method::GET, &path, JSON, Bytes::new()).await?;
        plugins.push(json!({"name": name, "sha256": sha256, "component": BASE64.encode(component)}));
    }
    let all = json!({"hookloom_export": FORMAT, "tenant": own, "plugins": plugins, "subscriptions": subscriptions, "bins": bins});
    match args.out {
        None => anstream::println!("{all:#}"),
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
    let text = std::fs::read(&args.file).map_err(|error| format!("{}: {error}", args.file.display()))?;
    let all: Value = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", args.file.display()))?;
    if all["hookloom_export"] != FORMAT {
        return Err(format!("{} is no export of a tenant that this program knows", args.file.display()).into());
    }
    let list = |name: &str| all[name].as_array().cloned().unwrap_or_default();
    // Everything is looked at before anything is made.
    let subscriptions = list("subscriptions").into_iter().map(writable).collect::<Result<Vec<_>, _>>()?;
    let tenant = Tenant::new(&args.host, args.tenant)?;
    let mut own = all["tenant"].as_object().cloned().unwrap_or_default();
    own.insert("id".into(), tenant.name.clone().into());
    tenant.host.ask(Method::POST, "/v1/tenants", JSON, Value::Object(own).to_string().into()).await?;
    for plugin in list("plugins") {
        let name = plugin["name"].as_str().unwrap_or_default();
        let component = BASE64.decode(plugin["component"].as_str().unwrap_or_default())?;
        anstream::eprintln!("compiling {name}");
        let path = format!("/v1/tenants/{}/plugins/{name}", tenant.name);
        tenant.host.ask(Method::PUT, &path, "application/wasm", component.into()).await?;
    }
    for bin in list("bins") {
        tenant.post("/bins", &bin).await?;
    }
    let mut made = Vec::new();
    for (write, state) in subscriptions {
        let body = tenant.post("/subscriptions", &write).await?;
        let id = body["id"].as_str().unwrap_or_default();
        if state != "active" {
            let reason = json!({"reason": format!("was {state} when it was exported")});
            tenant.post(&format!("/subscriptions/{id}/pause"), &reason).await?;
        }
        made.push(json!({"id": id, "notify_url": body["notify_url"], "signing_secret": body["signing_secret"]}));
    }
    show(&made, args.json);
    Ok(())
}

/// What the route takes, and the state that it had.
fn writable(mut subscription: Value) -> Result<(Value, String), Failure> {
    let state = subscription["state"].as_str().unwrap_or("active").to_owned();
    let url = subscription["notify_url"].as_str().unwrap_or_default().to_owned();
    without(&mut subscription, &["state"]);
    if let Some(names) = subscription["secrets"].as_array() {
        if !names.is_empty() {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            return Err(format!(
                "the webhook to {url} uses secrets that no export holds: write \"secrets\": {{\"{}\": \"…\"}} in the file",
                names.join("\": \"…\", \"")
            )
            .into());
        }
        subscription["secrets"] = Value::Object(Map::new());
    }
    Ok((subscription, state))
}

fn show(made: &[Value], as_json: bool) {
    if as_json {
        anstream::println!("{}", json!({"subscriptions": made}));
        return;
    }
    anstream::println!("{} webhooks were made; their signing secrets are shown this once:", made.len());
    for one in made {
        let text = |name: &str| one[name].as_str().unwrap_or_default();
        anstream::println!("{}  {}  {}", text("id"), text("signing_secret"), text("notify_url"));
    }
}
