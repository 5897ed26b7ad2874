//! Routes of subscriptions, and the rules for what an owner may write.

use super::ApiState;
use super::extract::{Access, Body, Item, Json as Input, ToManage, ToRead};
use super::problem::{FieldFault, Problem};
use crate::address::check_url;
use crate::chain::Step;
use crate::deliver::LaneStatus;
use crate::headers::{check_header, fill_secrets};
use crate::signature::{SigningKey, SigningSecret};
use crate::store::{NewSubscription, StateChange, StoreError, now_ms};
use crate::subscription::{Ordering, Secret, Settings, Subscription, SubscriptionId, SubscriptionState, TenantId};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// A key that signs.
#[derive(Serialize, ToSchema)]
pub(super) struct SigningKeyBody {
    /// `v1` (HMAC-SHA256) or `v1a` (ed25519).
    scheme: &'static str,
    /// What receivers verify `v1a` with.
    public_key: Option<String>,
    /// When it ceases to sign, if it was rotated.
    until_ms: Option<i64>,
}

impl From<&SigningKey> for SigningKeyBody {
    fn from(key: &SigningKey) -> Self {
        let SigningKey { secret, until_ms } = key;
        SigningKeyBody { scheme: secret.scheme(), public_key: secret.public_key(), until_ms: *until_ms }
    }
}

/// A subscription.
#[derive(Serialize, ToSchema)]
pub(super) struct SubscriptionBody {
    id: Uuid,
    #[serde(flatten)]
    settings: Settings,
    /// The names of its secrets; their values are never shown.
    secrets: Vec<String>,
    /// What signs its webhooks, the current key first; the secrets themselves are never shown again.
    signing_keys: Vec<SigningKeyBody>,
    state: SubscriptionState,
    /// Why it is not active.
    state_reason: Option<String>,
    /// Since when its receiver fails, if it has failed for a while.
    failing_since_ms: Option<i64>,
    /// How its deliveries go now. Absent: nothing was to be delivered since the start.
    lane: Option<LaneStatus>,
    /// Grows with every edit; each attempt names the one it was made with.
    config_generation: u64,
    created_at_ms: i64,
    /// What the receiver verifies webhooks with: only in the answer to its making.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
}

impl SubscriptionBody {
    pub(super) fn new(subscription: &Subscription, signing_secret: Option<String>) -> Self {
        SubscriptionBody {
            id: subscription.id.0,
            settings: subscription.settings.clone(),
            secrets: subscription.secrets.keys().cloned().collect(),
            signing_keys: subscription.signing.iter().filter(|key| key.signs_at(now_ms())).map(Into::into).collect(),
            state: subscription.state,
            state_reason: subscription.state_reason.clone(),
            failing_since_ms: subscription.failing_since_ms,
            lane: None,
            config_generation: subscription.generation,
            created_at_ms: subscription.created_at_ms,
            signing_secret,
        }
    }
}

/// What an owner writes.
#[derive(ToSchema)]
pub(super) struct SubscriptionWrite {
    #[schema(inline)]
    #[allow(dead_code, reason = "the schema's shape; reading splits the object by hand")]
    #[serde(flatten)]
    settings: Settings,
    /// Secrets to set (text) or to delete (null). Those not named stay.
    secrets: BTreeMap<String, Option<String>>,
    /// A signing secret of the owner's own (`whsec_…` or `whsk_…`). Absent: one is made, or the old one stays.
    signing_secret: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SecretFields {
    secrets: BTreeMap<String, Option<String>>,
    signing_secret: Option<String>,
}

impl SubscriptionWrite {
    /// Splits the object, because settings refuse unknown fields and cannot be flattened.
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let unfit = |error: serde_json::Error| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", format!("the body does not fit: {error}"))
                .remedy("GET /openapi.json shows the shape")
        };
        let mut object: serde_json::Map<String, Value> = serde_json::from_slice(body).map_err(unfit)?;
        let mut fields = serde_json::Map::new();
        for name in ["secrets", "signing_secret"] {
            fields.extend(object.remove_entry(name));
        }
        let SecretFields { secrets, signing_secret } = serde_json::from_value(Value::Object(fields)).map_err(unfit)?;
        let settings = serde_json::from_value(Value::Object(object)).map_err(unfit)?;
        Ok(SubscriptionWrite { settings, secrets, signing_secret })
    }

    /// Checks everything and puts it together with what was there before.
    async fn check(
        self,
        state: &ApiState,
        tenant: &TenantId,
        old: Option<&Subscription>,
    ) -> Result<NewSubscription, Problem> {
        let mut settings = self.settings;
        settings.modules.sort_unstable();
        settings.modules.dedup();
        let mut secrets = old.map(|old| old.secrets.clone()).unwrap_or_default();
        for (name, value) in self.secrets {
            match value {
                Some(value) => secrets.insert(name, Secret(value.into_bytes())),
                None => secrets.remove(&name),
            };
        }
        let mut faults = settings_faults(&settings, &secrets, state, tenant);
        faults.extend(plugin_faults(&settings, state, tenant).await);
        let signing = match (self.signing_secret, old) {
            (Some(text), _) => match SigningSecret::parse(&text) {
                Ok(secret) => vec![SigningKey::current(secret)],
                Err(error) => {
                    faults.push(fault("/signing_secret", error.to_string()));
                    Vec::new()
                }
            },
            (None, Some(old)) => old.signing.clone(),
            (None, None) => vec![SigningKey::current(SigningSecret::generate())],
        };
        if faults.is_empty() {
            Ok(NewSubscription { settings, signing, secrets })
        } else {
            Err(Problem::fields(faults))
        }
    }
}

fn fault(pointer: &str, detail: impl Into<String>) -> FieldFault {
    FieldFault { pointer: pointer.to_owned(), detail: detail.into() }
}

/// A text for people.
const TEXT_BYTES_MAX: usize = 1_000;

/// How many subscriptions a tenant may have: each event is matched against all of them.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// Config keys, values and secrets: enough for every plugin, too little to fill a disk.
const CONFIG_ENTRIES_MAX: usize = 256;
const CONFIG_BYTES_MAX: usize = 64 << 10;

fn settings_faults(
    settings: &Settings,
    secrets: &BTreeMap<String, Secret>,
    state: &ApiState,
    tenant: &TenantId,
) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    let egress = state.store.catalog().tenant(tenant).map(|tenant| tenant.egress.clone()).unwrap_or_default();
    if let Err(error) = check_url(&settings.notify_url, &state.config.address_policy().narrowed(&egress)) {
        faults.push(fault("/notify_url", error.to_string()));
    }
    if settings.modules.is_empty() {
        // The words of the vendor's own form.
        faults.push(fault("/modules", "Please select at least one option."));
    }
    if let Err(detail) = settings.retry.check() {
        faults.push(fault("/retry", detail));
    }
    if let Err(detail) = settings.limits.check(&state.plugins.limits_max(tenant)) {
        faults.push(fault("/limits", detail));
    }
    if let Some(Err(detail)) = settings.reuse.map(|reuse| reuse.check()) {
        faults.push(fault("/reuse", detail));
    }
    if !(1_000..=30_000).contains(&settings.timeout_ms) {
        faults.push(fault("/timeout_ms", "a deadline is 1000 to 30000 ms"));
    }
    faults.extend(pace_faults(settings));
    let long_host = settings.url_hosts.iter().any(|host| host.len() > 253);
    if settings.url_hosts.len() > 32 || long_host {
        faults.push(fault("/url_hosts", "at most 32 host names of 253 characters"));
    }
    if settings.description.len() > TEXT_BYTES_MAX {
        faults.push(fault("/description", format!("at most {TEXT_BYTES_MAX} bytes")));
    }
    let config_bytes: usize = settings.config.iter().map(|(key, value)| key.len() + value.len()).sum();
    if settings.config.len() > CONFIG_ENTRIES_MAX || config_bytes > CONFIG_BYTES_MAX {
        faults.push(fault(
            "/config",
            format!("at most {CONFIG_ENTRIES_MAX} entries of {CONFIG_BYTES_MAX} bytes together"),
        ));
    }
    let secret_bytes: usize = secrets.iter().map(|(name, secret)| name.len() + secret.0.len()).sum();
    if secrets.len() > CONFIG_ENTRIES_MAX || secret_bytes > CONFIG_BYTES_MAX {
        faults.push(fault(
            "/secrets",
            format!("at most {CONFIG_ENTRIES_MAX} secrets of {CONFIG_BYTES_MAX} bytes together"),
        ));
    }
    faults.extend(header_faults(settings, secrets));
    faults
}

/// What of a lane's pace is out of range.
fn pace_faults(settings: &Settings) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    if settings.rate_per_s.is_some_and(|rate| !(1..=10_000).contains(&rate)) {
        faults.push(fault("/rate_per_s", "1 to 10000 requests may begin in a second"));
    }
    if matches!(settings.ordering, Some(Ordering::SkipAfter { attempts }) if !(1..=100).contains(&attempts)) {
        faults.push(fault("/ordering/attempts", "events wait for 1 to 100 attempts of one that fails"));
    }
    if settings.disable_after_s > 90 * 86_400 {
        faults.push(fault("/disable_after_s", "at most 90 days of seconds; 0 is never"));
    }
    if !(1..=256).contains(&settings.concurrency) {
        faults.push(fault("/concurrency", "1 to 256 requests may be under way at once"));
    }
    faults
}

async fn plugin_faults(settings: &Settings, state: &ApiState, tenant: &TenantId) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    for step in &settings.plugin.0 {
        let Step { plugin, pin } = step;
        if state.plugins.can_judge(tenant, step).await {
            continue;
        }
        faults.push(fault("/plugin", match pin {
            Some(pin) => format!("the plugin {plugin:?} has no version {pin}: GET /v1/tenants/{tenant}/plugins/{plugin}/versions lists them"),
            None => format!("there is no plugin {plugin:?}: PUT /v1/tenants/{tenant}/plugins/{plugin} first"),
        }));
    }
    faults
}

fn header_faults(settings: &Settings, secrets: &BTreeMap<String, Secret>) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    if settings.headers.len() > 32 {
        faults.push(fault("/headers", "at most 32 headers"));
    }
    for (name, value) in &settings.headers {
        let checked = fill_secrets(value, secrets).and_then(|filled| check_header(name, &filled));
        if let Err(detail) = checked {
            faults.push(fault(&format!("/headers/{name}"), detail));
        }
    }
    faults
}

/// The tenant's subscriptions, the oldest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/subscriptions", tag = "subscriptions", params(("t" = String, Path)), responses((status = 200, body = [SubscriptionBody])))]
pub(super) async fn list(access: Access<ToRead>, State(state): State<Arc<ApiState>>) -> Json<Vec<SubscriptionBody>> {
    let subscriptions = state.store.catalog().subscriptions(&access.tenant);
    Json(subscriptions.iter().map(|one| SubscriptionBody::new(one, None)).collect())
}

/// Make a subscription. The answer holds the signing secret, which is not shown again.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions", tag = "subscriptions", params(("t" = String, Path)), request_body = SubscriptionWrite,
    responses((status = 201, body = SubscriptionBody), (status = 422, body = Problem)))]
pub(super) async fn create(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<(StatusCode, Json<SubscriptionBody>), Problem> {
    if state.store.catalog().subscriptions(&access.tenant).len() >= SUBSCRIPTIONS_MAX {
        return Err(Problem::too_many("subscriptions", SUBSCRIPTIONS_MAX));
    }
    let new = SubscriptionWrite::read(&body)?.check(&state, &access.tenant, None).await?;
    let shown = new.signing.first().map(|key| key.secret.reveal());
    let subscription = state.store.create_subscription(access.tenant, new).await?;
    Ok((StatusCode::CREATED, Json(SubscriptionBody::new(&subscription, shown))))
}

pub(super) fn find(state: &ApiState, tenant: &TenantId, id: Uuid) -> Result<Arc<Subscription>, Problem> {
    state.store.catalog().subscription(tenant, SubscriptionId(id)).ok_or_else(|| Problem::not_found("subscription"))
}

/// One subscription.
#[utoipa::path(get, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = SubscriptionBody)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<SubscriptionBody>, Problem> {
    let subscription = find(&state, &access.tenant, id)?;
    let lane = state.lanes.status(subscription.id);
    Ok(Json(SubscriptionBody { lane, ..SubscriptionBody::new(&subscription, None) }))
}

/// How often an edit is made again because others came first.
pub(super) const EDITS_MAX: usize = 16;

/// Rewrite a subscription. It holds from the next attempt on, also of what is pending.
#[utoipa::path(put, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", params(("t" = String, Path), ("id" = Uuid, Path)), request_body = SubscriptionWrite,
    responses((status = 200, body = SubscriptionBody), (status = 422, body = Problem)))]
pub(super) async fn update(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<Json<SubscriptionBody>, Problem> {
    // What is not named stays, so an edit depends on what it found: when another one comes first, it is made again.
    for _ in 0..EDITS_MAX {
        let old = find(&state, &access.tenant, id)?;
        let new = SubscriptionWrite::read(&body)?.check(&state, &access.tenant, Some(&old)).await?;
        match state.store.update_subscription(&old, new).await {
            Err(StoreError::Edited) => {}
            edited => return Ok(Json(SubscriptionBody::new(&*edited?, None))),
        }
    }
    Err(StoreError::Edited.into())
}

/// Delete a subscription. What is pending for it is cancelled.
#[utoipa::path(delete, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn delete(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.store.delete_subscription(&access.tenant, SubscriptionId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Why a subscription is paused.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    /// For people.
    reason: String,
}

/// Pause a subscription: events still match and wait.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/pause", tag = "subscriptions", params(("t" = String, Path), ("id" = Uuid, Path)), request_body = Pause, responses((status = 200, body = SubscriptionBody)))]
pub(super) async fn pause(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Input(pause): Input<Pause>,
) -> Result<Json<SubscriptionBody>, Problem> {
    if pause.reason.len() > TEXT_BYTES_MAX {
        return Err(Problem::fields(vec![fault("/reason", format!("at most {TEXT_BYTES_MAX} bytes"))]));
    }
    set_state(&state, &access, id, StateChange::Pause { reason: pause.reason, by_host: false }).await
}

/// Resume a paused or disabled subscription.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/resume", tag = "subscriptions", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = SubscriptionBody)))]
pub(super) async fn resume(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<SubscriptionBody>, Problem> {
    set_state(&state, &access, id, StateChange::Resume).await
}

async fn set_state(
    state: &ApiState,
    access: &Access<ToManage>,
    id: Uuid,
    change: StateChange,
) -> Result<Json<SubscriptionBody>, Problem> {
    let subscription = state.store.set_subscription_state(&access.tenant, SubscriptionId(id), change).await?;
    Ok(Json(SubscriptionBody::new(&subscription, None)))
}
