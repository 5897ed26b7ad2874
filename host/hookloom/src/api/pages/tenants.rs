//! Pages of tenants for admins: the list, and the deletion with its confirmation.

use super::user::{PostedByAdmin, SignedIn};
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render};
use crate::api::ApiState;
use crate::api::extract::PathParams;
use crate::operations::{Admin, NewTenant, Problem};
use crate::store::TenantContents;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    frame: Frame,
    problem: String,
    /// Submitted name.
    typed: String,
    rows: Vec<TenantRow>,
    /// Tenants that are being deleted.
    leaving: Vec<String>,
}

struct TenantRow {
    id: String,
    webhooks: usize,
    events: u64,
    bytes: u64,
    made: DisplayTime,
}

/// Lists all tenants.
pub(super) async fn list(user: SignedIn, State(state): State<Arc<ApiState>>) -> Result<HtmlPage, PageError> {
    list_with(&user, &state, String::new(), "").await
}

async fn list_with(user: &SignedIn, state: &ApiState, problem: String, typed: &str) -> Result<HtmlPage, PageError> {
    Admin::of(&user.key)?;
    let mut rows = Vec::new();
    for tenant in state.operations.store.catalog().tenants() {
        let usage = state.operations.store.usage(tenant.id.clone()).await?;
        rows.push(TenantRow {
            id: tenant.id.to_string(),
            webhooks: state.operations.store.catalog().subscriptions(&tenant.id).len(),
            events: usage.events,
            bytes: usage.bytes,
            made: DisplayTime::at_ms(tenant.created_at_ms),
        });
    }
    let leaving = state.operations.store.tenants_being_deleted().await?.iter().map(ToString::to_string).collect();
    let frame = Frame::of(user, state, "Tenants");
    let typed = typed.to_owned();
    render(state, None, TenantsPage { rows, leaving, frame, problem, typed }).await
}

/// Creates a tenant.
pub(super) async fn create(State(state): State<Arc<ApiState>>, posted: PostedByAdmin) -> Result<Response, PageError> {
    let PostedByAdmin { admin, user, form } = posted;
    let made = async {
        let id = TenantId::parse(form.get("id")).map_err(|detail| Problem::field("/id", detail))?;
        state.operations.create_tenant(&admin, NewTenant::named(&id)).await.map(|_| id)
    };
    match made.await {
        Ok(id) => Ok(go_to(&UrlPath::pages_of(&id), "The tenant was made.")),
        Err(problem) => {
            let page = list_with(&user, &state, problem.in_words(), form.get("id")).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}

#[derive(Template)]
#[template(path = "tenant_deletion.html")]
struct DeletionPage {
    frame: Frame,
    problem: String,
    id: String,
    since: Option<DisplayTime>,
    counts: Vec<(&'static str, u64)>,
}

/// Shows what the deletion of a tenant deletes, with the form that confirms it.
pub(super) async fn deletion(
    user: SignedIn,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    deletion_with(&user, &state, path.get("t"), String::new()).await
}

async fn deletion_with(user: &SignedIn, state: &ApiState, id: &str, problem: String) -> Result<HtmlPage, PageError> {
    Admin::of(&user.key)?;
    let tenant = TenantId::parse(id).map_err(|_| Problem::not_found("tenant"))?;
    let contents = state.operations.store.tenant_contents(tenant).await?;
    let TenantContents {
        events, deliveries, plugins, versions, subscriptions, bins, keys, intake_tokens, bytes, ..
    } = contents;
    let counts = [
        ("Events", events),
        ("Deliveries", deliveries),
        ("Webhooks", subscriptions),
        ("Plugins", plugins),
        ("Plugin versions", versions),
        ("Inspector bins", bins),
        ("Keys", keys),
        ("Addresses for Agile CRM", intake_tokens),
        ("Bytes of everything", bytes),
    ];
    let page = DeletionPage {
        frame: Frame::of(user, state, "Tenants"),
        problem,
        id: id.to_owned(),
        since: contents.deleting_since_ms.map(DisplayTime::at_ms),
        counts: counts.into(),
    };
    render(state, None, page).await
}

/// Deletes a tenant whose name was entered for confirmation.
pub(super) async fn delete(
    State(state): State<Arc<ApiState>>,
    path: PathParams,
    posted: PostedByAdmin,
) -> Result<Response, PageError> {
    let PostedByAdmin { admin, user, form } = posted;
    let id = path.get("t").to_owned();
    match state.operations.delete_tenant(&admin, &id, Some(form.get("confirm"))).await {
        Ok(_) => Ok(go_to(&UrlPath::root().then("tenants"), &format!("The tenant {id} is being deleted."))),
        Err(problem) => {
            let page = deletion_with(&user, &state, &id, problem.in_words()).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}
