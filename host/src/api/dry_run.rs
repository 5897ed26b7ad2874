//! The dry run: a plugin judges an event, and nothing is stored or sent.

use super::ApiState;
use super::extract::{Access, Item, Json as Input, ToManage};
use super::problem::{FieldFault, Problem};
use crate::chain::{Chain, Step};
use crate::delivery::{Cost, Reason};
use crate::event::{Event, EventId, read_envelope};
use crate::limits::Limits;
use crate::plugin::{Judgement, Outgoing};
use crate::store::now_ms;
use crate::subscription::{Settings, Subscription, SubscriptionId, SubscriptionState};
use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

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
    /// Another version than the active one, by its sha256.
    #[serde(default)]
    version: Option<String>,
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
    let DryRun { event, config, limits, received_at_ms, version } = dry_run;
    if let Err(detail) = limits.check(&state.config.limits_max()) {
        return Err(Problem::fields(vec![FieldFault { pointer: "/limits".into(), detail }]));
    }
    let event = Arc::new(dry_event(&state, &access, &event, received_at_ms.unwrap_or_else(now_ms))?);
    let step = Step { plugin: name, pin: version };
    if !state.plugins.can_judge(&access.tenant, &step).await {
        return Err(Problem::not_found("version of the plugin"));
    }
    let subscription = Arc::new(dry_subscription(&access, step, config, limits));
    let judged = state.plugins.judge(event.clone(), subscription).await;
    let (cost, plugin_sha256) = (judged.cost(), judged.sha256());
    let (reason, outgoing) = told(judged.judgement, &event);
    Ok(Json(DryRunBody {
        verdict: outgoing.verdict,
        reason,
        body: outgoing.body,
        content_type: outgoing.content_type,
        headers: outgoing.headers,
        log: judged.log,
        cost,
        plugin_sha256,
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
    step: Step,
    config: BTreeMap<String, String>,
    limits: Limits,
) -> Subscription {
    let settings = serde_json::json!({"notify_url": "https://dry-run.invalid/", "modules": []});
    let settings: Settings = serde_json::from_value(settings).expect("the two fields without a default are there");
    Subscription {
        id: SubscriptionId(uuid::Uuid::nil()),
        tenant: access.tenant.clone(),
        settings: Settings { plugin: Chain(vec![step]), config, limits, ..settings },
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
    let mut told = Told { verdict: judgement.word(), body: None, content_type: None, headers: BTreeMap::new() };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let reason = judgement.reason();
    match judgement {
        Judgement::Pass => {
            told.body = Some(event.text().to_owned());
            told.content_type = Some("application/json".to_owned());
        }
        Judgement::Replace(Outgoing { body, content_type, headers, url: _, is_text: _ }) => {
            told.body = Some(text(&body));
            told.content_type = Some(text(content_type.as_bytes()));
            told.headers = headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
        }
        _ => {}
    }
    (reason, told)
}
