//! Routes of deliveries.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::extract::{Access, Item, Params, ToRead};
use super::paging::{PageLimit, limit_of};
use super::problem::Problem;
use crate::delivery::{Attempt, DeliveryId, DeliveryKind, DeliveryState, Reason};
use crate::event::EventId;
use crate::store::{DeliveryFilter, DeliveryView};
use crate::subscription::{SubscriptionId, TenantId};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Delivery of an event.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryBody {
    /// Id of the delivery, and its `webhook-id`.
    pub(super) id: Uuid,
    event: Uuid,
    subscription: Uuid,
    /// Origin of the delivery: `usual`, `replay` or `test`.
    kind: DeliveryKind,
    pub(super) state: DeliveryState,
    /// True while the delivery waits for another plugin version or config.
    awaiting_plugin: bool,
    /// Time of the next attempt of a pending delivery, in milliseconds since the epoch.
    due_at_ms: Option<i64>,
    attempts_made: u32,
    /// Reason for the delivery's current state.
    reason: Option<Reason>,
    created_at_ms: i64,
    updated_at_ms: i64,
}

impl From<DeliveryView> for DeliveryBody {
    fn from(view: DeliveryView) -> Self {
        DeliveryBody {
            id: view.id.0,
            event: view.event.0,
            subscription: view.subscription.0,
            kind: view.kind,
            state: view.state,
            awaiting_plugin: view.awaiting_plugin,
            due_at_ms: view.due_at_ms,
            attempts_made: view.attempts_made,
            reason: view.reason,
            created_at_ms: view.created_at_ms,
            updated_at_ms: view.updated_at_ms,
        }
    }
}

/// Delivery with its attempts.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryDetail {
    #[serde(flatten)]
    pub(super) delivery: DeliveryBody,
    pub(super) attempts: Vec<Attempt>,
}

/// Page of deliveries.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryPage {
    /// Deliveries, newest first.
    deliveries: Vec<DeliveryBody>,
    /// Value of `cursor` in the request for the next page. Absent on the last one.
    cursor: Option<Uuid>,
}

/// Filter and paging of a list of deliveries.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Only deliveries of this subscription.
    subscription: Option<Uuid>,
    /// Only deliveries in this state.
    state: Option<DeliveryState>,
    /// Only deliveries of this event.
    event: Option<Uuid>,
    /// The `cursor` of the previous page.
    cursor: Option<Uuid>,
    /// Number of items: 1 to 500, 50 if absent.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    limit: Option<PageLimit>,
}

/// List deliveries, newest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/deliveries", tag = "deliveries", operation_id = "list_deliveries", params(("t" = String, Path), ListParams),
    responses((status = 200, body = DeliveryPage), (status = 400, body = Problem)))]
pub(super) async fn list(
    access: Access<ToRead>,
    Params(params): Params<ListParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<DeliveryPage>, Problem> {
    let limit = limit_of(params.limit);
    let filter = DeliveryFilter {
        subscription: params.subscription.map(SubscriptionId),
        state: params.state,
        event: params.event.map(EventId),
        before: params.cursor.map(DeliveryId),
        limit,
    };
    let views = state.store.deliveries(access.tenant, filter).await?;
    let cursor = (views.len() == limit).then(|| views.last().map(|view| view.id.0)).flatten();
    Ok(Json(DeliveryPage { deliveries: views.into_iter().map(DeliveryBody::from).collect(), cursor }))
}

/// Get a delivery with its attempts.
#[utoipa::path(get, path = "/v1/tenants/{t}/deliveries/{id}", tag = "deliveries", operation_id = "get_delivery", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = DeliveryDetail), (status = 404, body = Problem)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<DeliveryDetail>, Problem> {
    detail(&state, access.tenant, DeliveryId(id)).await
}

pub(super) async fn detail(
    state: &ApiState,
    tenant: TenantId,
    id: DeliveryId,
) -> Result<Json<DeliveryDetail>, Problem> {
    let (view, attempts) = state.store.delivery(tenant, id).await?;
    Ok(Json(DeliveryDetail { delivery: view.into(), attempts }))
}

impl DeliveryDetail {
    /// Returns true if the delivery is in a final state.
    pub(super) fn has_ended(&self) -> bool {
        self.delivery.state != DeliveryState::Pending
    }
}
