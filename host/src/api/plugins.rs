//! Routes of plugins.

use super::ApiState;
use super::extract::{Access, Body, Item, Json as Input, ToManage, ToRead};
use super::problem::{FieldFault, Problem};
use crate::deliver::verdict_word;
use crate::delivery::Reason;
use crate::event::{Event, EventId, read_envelope};
use crate::limits::Limits;
use crate::plugin::check::Report;
use crate::plugin::{Cost, Judgement, Outgoing};
use crate::store::{PluginVersion, now_ms};
use crate::subscription::{Settings, Subscription, SubscriptionId, SubscriptionState, is_slug};
use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A version of a plugin.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionBody {
    /// The sha256 of the component.
    sha256: String,
    /// Its size in bytes.
    size: u64,
    /// Whether it judges.
    active: bool,
    created_at_ms: i64,
    /// The hint of the key that uploaded it.
    created_by: String,
    report: Report,
}

impl VersionBody {
    fn new(version: PluginVersion, report: Report) -> Self {
        let PluginVersion { sha256, size, created_at_ms, created_by, active, .. } = version;
        VersionBody { sha256, size, active, created_at_ms, created_by, report }
    }
}

/// A plugin.
#[derive(Serialize, ToSchema)]
pub(super) struct PluginBody {
    name: String,
    /// The version that judges.
    active_sha256: String,
    /// Since when, in milliseconds since the epoch.
    activated_at_ms: i64,
    /// What is wrong with its file in the plugins folder, if something is.
    file_problem: Option<String>,
}

/// How many plugins a tenant may have: their compiled code is in memory.
const PLUGINS_MAX: usize = 1_000;

fn checked_name(name: &str) -> Result<(), Problem> {
    let detail = "a plugin's name has 1 to 64 of a-z, 0-9 and -, beginning with a letter or digit";
    is_slug(name)
        .then_some(())
        .ok_or_else(|| Problem::fields(vec![FieldFault { pointer: "/name".into(), detail: detail.into() }]))
}

/// Upload a component and make it the plugin's active version.
#[utoipa::path(put, path = "/v1/tenants/{t}/plugins/{name}", tag = "plugins", params(("t" = String, Path), ("name" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "the component"),
    responses((status = 200, body = VersionBody), (status = 413, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn put(
    access: Access<ToManage>,
    Item(name): Item<String>,
    State(state): State<Arc<ApiState>>,
    Body(component): Body,
) -> Result<Json<VersionBody>, Problem> {
    checked_name(&name)?;
    if !state.plugins.exists(&access.tenant, &name) && state.plugins.count(&access.tenant) >= PLUGINS_MAX {
        return Err(Problem::too_many("plugins", PLUGINS_MAX));
    }
    let (version, report) = state.plugins.install(access.tenant, name, component, access.key.hint.clone()).await?;
    Ok(Json(VersionBody::new(version, report)))
}

/// The tenant's plugins.
#[utoipa::path(get, path = "/v1/tenants/{t}/plugins", tag = "plugins", params(("t" = String, Path)), responses((status = 200, body = [PluginBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<Vec<PluginBody>>, Problem> {
    let plugins = state.store.plugins().await?.into_iter().filter(|plugin| plugin.tenant == access.tenant);
    let body = plugins.map(|plugin| PluginBody {
        file_problem: state.plugins.file_problem(&plugin.tenant, &plugin.name),
        name: plugin.name,
        active_sha256: plugin.active_sha256,
        activated_at_ms: plugin.activated_at_ms,
    });
    Ok(Json(body.collect()))
}

/// The versions of a plugin, the newest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/plugins/{name}/versions", tag = "plugins", params(("t" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = [VersionBody]), (status = 404, body = Problem)))]
pub(super) async fn versions(
    access: Access<ToRead>,
    Item(name): Item<String>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<Vec<VersionBody>>, Problem> {
    let versions = state.store.plugin_versions(access.tenant, name).await?;
    if versions.is_empty() {
        return Err(Problem::not_found("plugin"));
    }
    let one = |version: PluginVersion| {
        let report = serde_json::from_str(&version.report).map_err(crate::store::StoreError::from)?;
        Ok(VersionBody::new(version, report))
    };
    Ok(Json(versions.into_iter().map(one).collect::<Result<_, Problem>>()?))
}

/// Make a version that was uploaded earlier the active one.
#[utoipa::path(post, path = "/v1/tenants/{t}/plugins/{name}/versions/{sha256}/activate", tag = "plugins",
    params(("t" = String, Path), ("name" = String, Path), ("sha256" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn activate(
    access: Access<ToManage>,
    params: axum::extract::RawPathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    let param = |wanted: &str| {
        params.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    state.plugins.activate(access.tenant, param("name"), param("sha256")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What to judge without sending.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DryRun {
    /// The event: `{eventName, eventData}`.
    #[schema(value_type = Object)]
    event: Box<RawValue>,
    /// What the plugin reads through `config`.
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// How much the call may use.
    #[serde(default)]
    limits: Limits,
    /// When the event was accepted, as the plugin's clock shows it. Absent: now.
    #[serde(default)]
    received_at_ms: Option<i64>,
}

/// What a plugin decided.
#[derive(Serialize, ToSchema)]
pub(super) struct DryRunBody {
    /// `pass`, `replace`, `drop`, `later`, `failure` or `fault`.
    verdict: &'static str,
    /// Why, unless it passed or replaced.
    reason: Option<Reason>,
    /// What would be sent, as text. Absent: nothing.
    body: Option<String>,
    content_type: Option<String>,
    /// Headers that the plugin adds.
    headers: BTreeMap<String, String>,
    log: Vec<String>,
    cost: Cost,
    plugin_sha256: Option<String>,
}

/// Judge an event with a plugin's active version. Nothing is stored and nothing is sent.
#[utoipa::path(post, path = "/v1/tenants/{t}/plugins/{name}/dry-run", tag = "plugins", params(("t" = String, Path), ("name" = String, Path)), request_body = DryRun,
    responses((status = 200, body = DryRunBody), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn dry_run(
    access: Access<ToManage>,
    Item(name): Item<String>,
    State(state): State<Arc<ApiState>>,
    Input(dry_run): Input<DryRun>,
) -> Result<Json<DryRunBody>, Problem> {
    if !state.plugins.exists(&access.tenant, &name) {
        return Err(Problem::not_found("plugin"));
    }
    let DryRun { event, config, limits, received_at_ms } = dry_run;
    if let Err(detail) = limits.check(&state.config.limits_max()) {
        return Err(Problem::fields(vec![FieldFault { pointer: "/limits".into(), detail }]));
    }
    let event = Arc::new(dry_event(&state, &access, &event, received_at_ms.unwrap_or_else(now_ms))?);
    let subscription = Arc::new(dry_subscription(&access, &name, config, limits));
    let judged = state.plugins.judge(&name, event.clone(), subscription).await;
    let (reason, outgoing) = told(judged.judgement, &event);
    Ok(Json(DryRunBody {
        verdict: outgoing.verdict,
        reason,
        body: outgoing.body,
        content_type: outgoing.content_type,
        headers: outgoing.headers,
        log: judged.log,
        cost: judged.cost,
        plugin_sha256: judged.sha256,
    }))
}

fn dry_event(
    state: &ApiState,
    access: &Access<ToManage>,
    event: &RawValue,
    received_at_ms: i64,
) -> Result<Event, Problem> {
    let envelope = read_envelope(&Bytes::copy_from_slice(event.get().as_bytes()))?;
    let module = state.store.catalog().module_of(&access.tenant, &envelope.name);
    Ok(Event {
        id: EventId(uuid::Uuid::nil()),
        module: module.ok_or_else(|| {
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unknown-event-name",
                format!("the event name {:?} is not accepted", envelope.name),
            )
        })?,
        name: envelope.name,
        entity_id: envelope.entity_id,
        received_at_ms,
        payload: envelope.payload,
    })
}

/// A subscription that exists for one call only.
fn dry_subscription(
    access: &Access<ToManage>,
    plugin: &str,
    config: BTreeMap<String, String>,
    limits: Limits,
) -> Subscription {
    let settings = serde_json::json!({"notify_url": "https://dry-run.invalid/", "modules": [], "plugin": plugin});
    let settings: Settings = serde_json::from_value(settings).expect("the two fields without a default are there");
    Subscription {
        id: SubscriptionId(uuid::Uuid::nil()),
        tenant: access.tenant.clone(),
        settings: Settings { config, limits, ..settings },
        state: SubscriptionState::Active,
        state_reason: None,
        generation: 0,
        signing: Vec::new(),
        secrets: BTreeMap::new(),
        created_at_ms: now_ms(),
    }
}

struct Told {
    verdict: &'static str,
    body: Option<String>,
    content_type: Option<String>,
    headers: BTreeMap<String, String>,
}

fn told(judgement: Judgement, event: &Event) -> (Option<Reason>, Told) {
    let mut told = Told { verdict: verdict_word(&judgement), body: None, content_type: None, headers: BTreeMap::new() };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let reason = match judgement {
        Judgement::Pass => {
            told.body = Some(event.text().to_owned());
            told.content_type = Some("application/json".to_owned());
            None
        }
        Judgement::Replace(Outgoing { body, content_type, headers, url: _ }) => {
            told.body = Some(text(&body));
            told.content_type = Some(text(content_type.as_bytes()));
            told.headers = headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
            None
        }
        Judgement::Drop(reason)
        | Judgement::Later { reason, .. }
        | Judgement::InvalidEvent(reason)
        | Judgement::Transient(reason)
        | Judgement::BadConfig(reason) => Some(reason),
        Judgement::Fault(fault) => Some(Reason::new(fault.code(), fault.to_string())),
    };
    (reason, told)
}
