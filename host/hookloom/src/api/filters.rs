//! Route that tries a filter on the last events.

use super::ApiState;
use super::extract::Json as Input;
use crate::operations::{Access, FilterTrial, FilterTrialBody, Problem, ToRead};
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// Try modules, event names and a filter on the tenant's last 1,000 events. Nothing is stored or sent.
///
/// The answer has the ids of the events that match, and the first condition that refused each of the newest others.
#[utoipa::path(post, path = "/v1/tenants/{t}/filters/try", tag = "subscriptions", operation_id = "try_filter", params(("t" = String, Path)), request_body = FilterTrial,
    responses((status = 200, body = FilterTrialBody), (status = 422, body = Problem)))]
pub(super) async fn try_filter(
    access: Access<ToRead>,
    State(state): State<Arc<ApiState>>,
    Input(trial): Input<FilterTrial>,
) -> Result<Json<FilterTrialBody>, Problem> {
    Ok(Json(state.operations.try_filter(&access, trial, &[]).await?))
}
