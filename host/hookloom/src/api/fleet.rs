//! Routes of the hosts that share the database, and of their shards.
#![allow(unused_qualifications, reason = "utoipa qualifies the parameters in what it generates")]

use super::ApiState;
use super::extract::{Json as Input, PathParams};
use crate::operations::{Admin, FleetBody, Problem, ShardBody, ShardWrite};
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// List the hosts that share the database, with their shards and load.
#[utoipa::path(get, path = "/v1/fleet", tag = "fleet", operation_id = "get_fleet", responses((status = 200, body = FleetBody), (status = 403, body = Problem)))]
pub(super) async fn get(admin: Admin, State(state): State<Arc<ApiState>>) -> Result<Json<FleetBody>, Problem> {
    Ok(Json(state.operations.fleet(&admin).await?))
}

/// Move a shard to a host, which keeps it while it runs.
///
/// The owner gives it as soon as none of its attempts is under way; `host` of the answer is the present owner.
#[utoipa::path(put, path = "/v1/fleet/shards/{shard}", tag = "fleet", operation_id = "move_shard", params(("shard" = u8, Path)), request_body = ShardWrite,
    responses((status = 200, body = ShardBody), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn move_shard(
    admin: Admin,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
    Input(to): Input<ShardWrite>,
) -> Result<Json<ShardBody>, Problem> {
    Ok(Json(state.operations.move_shard(&admin, path.get("shard"), to).await?))
}
