//! Routes of deliveries.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::extract::{Item, Params};
use super::paging::{PageLimit, limit_of};
use crate::delivery::{DeliveryId, DeliveryState};
use crate::event::EventId;
use crate::operations::{Access, DeliveryDetail, DeliveryPage, Problem, ToRead};
use crate::store::DeliveryFilter;
use crate::subscription::SubscriptionId;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use uuid::Uuid;

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
    let filter = DeliveryFilter {
        subscription: params.subscription.map(SubscriptionId),
        state: params.state,
        event: params.event.map(EventId),
        before: params.cursor.map(DeliveryId),
        limit: limit_of(params.limit),
        ..DeliveryFilter::default()
    };
    Ok(Json(state.operations.list_deliveries(&access, filter).await?))
}

/// Get a delivery with its attempts.
#[utoipa::path(get, path = "/v1/tenants/{t}/deliveries/{id}", tag = "deliveries", operation_id = "get_delivery", params(("t" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = DeliveryDetail), (status = 404, body = Problem)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<DeliveryDetail>, Problem> {
    Ok(Json(state.operations.get_delivery(&access, DeliveryId(id)).await?))
}
