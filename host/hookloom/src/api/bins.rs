//! Routes of bins, the built-in request inspectors.

mod receive;
pub(super) mod requests;

pub(super) use receive::{receive, receive_at_root};

use super::ApiState;
use super::extract::{Access, Item, Json as Input, ToManage, ToRead};
use super::problem::{FieldFault, Problem};
use super::read_back::{ReadBack, Rewrite};
use crate::ids::BinId;
use crate::inspector::{Bin, BinSettings};
use crate::url_path::UrlPath;
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Bin of a tenant.
#[derive(Serialize, ToSchema)]
pub(super) struct BinBody {
    /// Id of the bin, which is part of its URL: 22 characters that cannot be guessed.
    #[schema(value_type = String)]
    pub(super) id: BinId,
    /// Path at which the bin receives: any method, any path below.
    path: String,
    /// Whole URL. Absent if the setting `public_url` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(flatten)]
    settings: BinSettings,
    created_at_ms: i64,
    /// Number of requests received since the bin was created.
    received: u64,
}

impl BinBody {
    fn new(bin: Bin, state: &ApiState) -> Self {
        let Bin { id, settings, created_at_ms, received } = bin;
        let path = UrlPath::of_bin(&id);
        BinBody { url: state.public_link(&path), path: path.to_string(), id, settings, created_at_ms, received }
    }
}

impl ReadBack for BinSettings {
    const READ_ONLY: &'static [&'static str] = &["id", "path", "url", "created_at_ms", "received"];
}

fn checked(settings: BinSettings) -> Result<BinSettings, Problem> {
    let faults = settings.check();
    if faults.is_empty() {
        Ok(settings)
    } else {
        Err(Problem::fields(
            faults.into_iter().map(|(pointer, detail)| FieldFault { pointer: pointer.to_owned(), detail }).collect(),
        ))
    }
}

/// List the tenant's bins, newest first.
#[utoipa::path(get, path = "/v1/tenants/{t}/bins", tag = "bins", operation_id = "list_bins", params(("t" = String, Path)), responses((status = 200, body = [BinBody])))]
pub(super) async fn list(
    access: Access<ToRead>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<Vec<BinBody>>, Problem> {
    let bins = state.store.bins(access.tenant).await?;
    Ok(Json(bins.into_iter().map(|bin| BinBody::new(bin, &state)).collect()))
}

/// Create a bin. Anybody who knows its URL can send to it. Reading it requires a key of the tenant.
#[utoipa::path(post, path = "/v1/tenants/{t}/bins", tag = "bins", operation_id = "create_bin", params(("t" = String, Path)), request_body = BinSettings,
    responses((status = 201, body = BinBody), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn create(
    access: Access<ToManage>,
    State(state): State<Arc<ApiState>>,
    Input(settings): Input<BinSettings>,
) -> Result<(StatusCode, Json<BinBody>), Problem> {
    let actor = access.actor();
    let bin = state.store.create_bin(actor, access.tenant, checked(settings)?).await?;
    Ok((StatusCode::CREATED, Json(BinBody::new(bin, &state))))
}

/// Get a bin.
#[utoipa::path(get, path = "/v1/tenants/{t}/bins/{id}", tag = "bins", operation_id = "get_bin", params(("t" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = BinBody), (status = 404, body = Problem)))]
pub(super) async fn get(
    access: Access<ToRead>,
    Item(id): Item<BinId>,
    State(state): State<Arc<ApiState>>,
) -> Result<Json<BinBody>, Problem> {
    Ok(Json(BinBody::new(state.store.bin(access.tenant, id).await?, &state)))
}

/// Replace the settings of a bin. Requests above its new limits are deleted.
#[utoipa::path(put, path = "/v1/tenants/{t}/bins/{id}", tag = "bins", operation_id = "replace_bin", params(("t" = String, Path), ("id" = String, Path)), request_body = BinSettings,
    responses((status = 200, body = BinBody), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn update(
    access: Access<ToManage>,
    Item(id): Item<BinId>,
    State(state): State<Arc<ApiState>>,
    Rewrite { new: settings, read_only }: Rewrite<BinSettings>,
) -> Result<Json<BinBody>, Problem> {
    read_only.check_id(&id)?;
    let actor = access.actor();
    let bin = state.store.update_bin(actor, access.tenant, id, checked(settings)?).await?;
    Ok(Json(BinBody::new(bin, &state)))
}

/// Delete a bin with its requests.
#[utoipa::path(delete, path = "/v1/tenants/{t}/bins/{id}", tag = "bins", operation_id = "delete_bin", params(("t" = String, Path), ("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    access: Access<ToManage>,
    Item(id): Item<BinId>,
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, Problem> {
    state.store.delete_bin(access.actor(), access.tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
