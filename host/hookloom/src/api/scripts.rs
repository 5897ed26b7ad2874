//! Route that tries a script.

use super::ApiState;
use super::extract::Json as Input;
use crate::operations::{Access, Problem, ScriptTrial, ToManage};
use crate::plugin::Shown;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// Judge an event with a script that is not stored. Nothing is stored and nothing is sent.
///
/// One trial of a tenant runs at a time; others wait. A script that does not load is answered with the verdict `fault` and the
/// position of the error.
#[utoipa::path(post, path = "/v1/tenants/{t}/scripts/try", tag = "plugins", operation_id = "try_script", params(("t" = String, Path)), request_body = ScriptTrial,
    responses((status = 200, body = Shown), (status = 400, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn try_script(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Input(trial): Input<ScriptTrial>,
) -> Result<Json<Shown>, Problem> {
    Ok(Json(state.operations.try_script(&access, trial).await?))
}
