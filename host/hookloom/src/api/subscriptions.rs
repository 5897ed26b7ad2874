//! Routes of subscriptions. Settings are validated in [`mod@write`].

mod warnings;
mod write;

use super::ApiState;
use super::extract::{Access, Body, Item, Json as Input, Params, ToManage, ToRead};
use super::paging::{Page, PageParams};
use super::problem::Problem;
use crate::deliver::LaneStatus;
use crate::signature::SigningKey;
use crate::store::{StateChange, StoreError, now_ms};
use crate::subscription::{Settings, Subscription, SubscriptionId, SubscriptionState, TenantId};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;
#[cfg(test)]
pub(super) use write::READ_ONLY;
pub(super) use write::SubscriptionWrite;
use write::{SubscriptionPatch, TEXT_BYTES_MAX, fault};

/// Maximum number of subscriptions of a tenant. Each event is matched against all of them.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// Signing key.
#[derive(Serialize, ToSchema)]
pub(super) struct SigningKeyBody {
    /// `v1` (HMAC-SHA256) or `v1a` (ed25519).
    scheme: &'static str,
    /// Public key with which receivers verify `v1a` signatures.
    public_key: Option<String>,
    /// Time at which a rotated key stops signing.
    until_ms: Option<i64>,
}

impl From<&SigningKey> for SigningKeyBody {
    fn from(key: &SigningKey) -> Self {
        let SigningKey { secret, until_ms } = key;
        SigningKeyBody { scheme: secret.scheme(), public_key: secret.public_key(), until_ms: *until_ms }
    }
}

/// Subscription of a tenant.
#[derive(Serialize, ToSchema)]
pub(super) struct SubscriptionBody {
    pub(super) id: Uuid,
    #[serde(flatten)]
    settings: Settings,
    /// Host of the Notify URL as it is resolved (punycode), if that differs from the written form.
    #[serde(skip_serializing_if = "Option::is_none")]
    ascii_host: Option<String>,
    /// Names of the secrets, whose values are never shown.
    secrets: Vec<String>,
    /// Keys that sign the webhooks, current one first. The secrets are never shown again.
    signing_keys: Vec<SigningKeyBody>,
    state: SubscriptionState,
    /// Reason why the subscription is not active.
    state_reason: Option<String>,
    /// Time since which the receiver fails, if it has failed for a while.
    failing_since_ms: Option<i64>,
    /// Present state of the deliveries. Absent if there were none since the host started.
    lane: Option<LaneStatus>,
    /// Number that grows with every edit. An attempt has the number of its config.
    config_generation: u64,
    created_at_ms: i64,
    /// Secret with which the receiver verifies webhooks: only in the answer to the subscription's creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signing_secret: Option<String>,
    /// Predicted failures of the plugins or their config, found by judging a few events. Only in the answer to a write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

impl SubscriptionBody {
    pub(super) fn new(subscription: &Subscription, signing_secret: Option<String>) -> Self {
        SubscriptionBody {
            id: subscription.id.0,
            ascii_host: subscription.settings.ascii_host(),
            settings: Settings::clone(&subscription.settings),
            secrets: subscription.settings.secrets().keys().cloned().collect(),
            signing_keys: subscription.signing.iter().filter(|key| key.signs_at(now_ms())).map(Into::into).collect(),
            state: subscription.state,
            state_reason: subscription.state_reason.clone(),
            failing_since_ms: subscription.failing_since_ms,
            lane: None,
            config_generation: subscription.generation,
            created_at_ms: subscription.created_at_ms,
            signing_secret,
            warnings: Vec::new(),
        }
    }

    /// Adds the warnings, for the answer to a write.
    async fn with_warnings(self, state: &ApiState, subscription: &Subscription) -> Self {
        SubscriptionBody { warnings: warnings::warnings(state, subscription).await, ..self }
    }
}

/// List the tenant's subscriptions, oldest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/subscriptions", tag = "subscriptions", operation_id = "list_subscriptions", params(("t" = String, Path), PageParams), responses((status = 200, body = [SubscriptionBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    Params(page): Params<PageParams>,
    State(state): State<Arc<ApiState>>,
) -> Page<SubscriptionBody> {
    let subscriptions = state.store.catalog().subscriptions(&access.tenant);
    // Ids begin with their time.
    page.of(subscriptions.to_vec(), |one| one.id.to_string()).shown(|one| SubscriptionBody::new(&one, None))
}

/// Create a subscription. The answer has the signing secret, which is not shown again.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions", tag = "subscriptions", operation_id = "create_subscription", params(("t" = String, Path)), request_body = SubscriptionWrite,
    responses((status = 201, body = SubscriptionBody), (status = 422, body = Problem)))]
pub(super) async fn create(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<(StatusCode, Json<SubscriptionBody>), Problem> {
    Ok((StatusCode::CREATED, Json(create_from(&state, &access, SubscriptionWrite::read(&body)?).await?)))
}

pub(super) async fn create_from(
    state: &ApiState,
    access: &Access<ToManage>,
    write: SubscriptionWrite,
) -> Result<SubscriptionBody, Problem> {
    if state.store.catalog().subscriptions(&access.tenant).len() >= SUBSCRIPTIONS_MAX {
        return Err(Problem::too_many("subscriptions", SUBSCRIPTIONS_MAX));
    }
    let new = write.check(state, &access.tenant, None).await?;
    let shown = new.signing.first().map(|key| key.secret.reveal());
    let subscription = state.store.create_subscription(access.actor(), access.tenant.clone(), new).await?;
    let body = SubscriptionBody::new(&subscription, shown);
    Ok(body.with_warnings(state, &subscription).await)
}

pub(super) fn find(state: &ApiState, tenant: &TenantId, id: Uuid) -> Result<Arc<Subscription>, Problem> {
    state.store.catalog().subscription(tenant, SubscriptionId(id)).ok_or_else(|| Problem::not_found("subscription"))
}

/// Get a subscription.
#[utoipa::path(get, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", operation_id = "get_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = SubscriptionBody)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<SubscriptionBody>, Problem> {
    let subscription = find(&state, &access.tenant, id)?;
    let lane = state.lanes.status(subscription.id);
    Ok(Json(SubscriptionBody { lane, ..SubscriptionBody::new(&subscription, None) }))
}

/// Maximum number of times that an edit is repeated because a concurrent edit was committed first.
pub(super) const EDITS_MAX: usize = 16;

/// Replace a subscription, from the next attempt on, also of pending deliveries.
///
/// Absent settings get their default values; absent secrets are kept. The answer of `GET` can be sent back.
#[utoipa::path(put, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", operation_id = "replace_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), request_body = SubscriptionWrite,
    responses((status = 200, body = SubscriptionBody), (status = 422, body = Problem)))]
pub(super) async fn update(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<Json<SubscriptionBody>, Problem> {
    edit(&state, &access, id, |_| SubscriptionWrite::read_back(&body)).await
}

/// Change settings of a subscription by a JSON merge patch (RFC 7396), from the next attempt on, also of pending deliveries.
///
/// Absent members stay, null restores the default, and objects are merged member by member.
#[utoipa::path(patch, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", operation_id = "update_subscription", params(("t" = String, Path), ("id" = Uuid, Path)),
    request_body(content = SubscriptionPatch, content_type = "application/merge-patch+json"),
    responses((status = 200, body = SubscriptionBody), (status = 422, body = Problem)))]
pub(super) async fn patch(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    Body(body): Body,
) -> Result<Json<SubscriptionBody>, Problem> {
    edit(&state, &access, id, |old| SubscriptionWrite::patched(&body, &old.settings)).await
}

pub(super) async fn edit(
    state: &ApiState,
    access: &Access<ToManage>,
    id: Uuid,
    read: impl Fn(&Subscription) -> Result<SubscriptionWrite, Problem>,
) -> Result<Json<SubscriptionBody>, Problem> {
    // Absent members stay, so the result depends on the previous settings. If another edit comes first, the patch is applied again.
    for _ in 0..EDITS_MAX {
        let old = find(state, &access.tenant, id)?;
        let write = read(&old)?;
        write.read_only.check_id(&id)?;
        write.read_only.check_unchanged("state", &old.state, "POST …/pause and POST …/resume change it")?;
        let new = write.check(state, &access.tenant, Some(&old)).await?;
        match state.store.update_subscription(access.actor(), &old, new).await {
            Err(StoreError::Edited) => {}
            edited => {
                let subscription = edited?;
                let body = SubscriptionBody::new(&subscription, None);
                return Ok(Json(body.with_warnings(state, &subscription).await));
            }
        }
    }
    Err(StoreError::Edited.into())
}

/// Delete a subscription. Its pending deliveries are cancelled.
#[utoipa::path(delete, path = "/v1/tenants/{t}/subscriptions/{id}", tag = "subscriptions", operation_id = "delete_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 204)))]
pub(super) async fn delete(
    access: Access<ToManage>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.store.delete_subscription(access.actor(), &access.tenant, SubscriptionId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reason for a pause.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    /// Reason for people.
    pub(super) reason: String,
}

/// Pause a subscription. Events still match, and their deliveries wait.
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/pause", tag = "subscriptions", operation_id = "pause_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), request_body = Pause, responses((status = 200, body = SubscriptionBody)))]
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
#[utoipa::path(post, path = "/v1/tenants/{t}/subscriptions/{id}/resume", tag = "subscriptions", operation_id = "resume_subscription", params(("t" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = SubscriptionBody)))]
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
    let id = find(state, &access.tenant, id)?.id;
    let subscription = state.store.set_subscription_state(access.actor(), &access.tenant, id, change).await?;
    Ok(Json(SubscriptionBody::new(&subscription, None)))
}
