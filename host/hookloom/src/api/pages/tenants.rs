//! Pages of tenants for admins: the list, each tenant with its usage and limits, and the deletion with its confirmation.

mod deletion;
mod limits;
mod one;
mod share;

pub(super) use deletion::{delete, deletion};
pub(super) use one::{page as one, save};

use super::user::{PostedByAdmin, SignedIn};
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render};
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::operations::{Admin, NewTenant, Problem};
use crate::store::StoreError;
use crate::subscription::{Tenant, TenantId};
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Deserialize;
use share::Share;
use std::sync::Arc;

/// Number of tenants on a page. The usage of each is read.
const PAGE: usize = 50;

/// Query of the list.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct TenantListParams {
    /// Part of the name.
    q: String,
    page: usize,
}

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    frame: Frame,
    problem: String,
    /// Submitted name.
    typed: String,
    q: String,
    /// Number of all tenants.
    count: usize,
    rows: Vec<TenantRow>,
    newer: Option<String>,
    older: Option<String>,
    /// Tenants that are being deleted.
    leaving: Vec<String>,
}

struct TenantRow {
    id: String,
    events: Share,
    bytes: Share,
    webhooks: Share,
    plugins: Share,
    pending: u64,
    made: DisplayTime,
}

/// Lists all tenants.
pub(super) async fn list(
    user: SignedIn,
    Params(params): Params<TenantListParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    list_with(&user, &state, params, String::new(), "").await
}

async fn list_with(
    user: &SignedIn,
    state: &ApiState,
    params: TenantListParams,
    problem: String,
    typed: &str,
) -> Result<HtmlPage, PageError> {
    Admin::of(&user.key)?;
    let all = state.operations.store.catalog().tenants();
    let wanted = params.q.trim().to_lowercase();
    let matching: Vec<&Arc<Tenant>> = all.iter().filter(|tenant| tenant.id.0.contains(&*wanted)).collect();
    let pages = matching.len().div_ceil(PAGE).max(1);
    let at = params.page.clamp(1, pages);
    let mut rows = Vec::new();
    for tenant in matching.into_iter().skip((at - 1) * PAGE).take(PAGE) {
        rows.push(row(state, tenant).await?);
    }
    let leaving = state.operations.store.tenants_being_deleted().await?.iter().map(ToString::to_string).collect();
    let page = TenantsPage {
        frame: Frame::of(user, state, "Tenants"),
        problem,
        typed: typed.to_owned(),
        count: all.len(),
        rows,
        newer: (at > 1).then(|| params.page_link(at - 1)),
        older: (at < pages).then(|| params.page_link(at + 1)),
        q: params.q,
        leaving,
    };
    render(state, None, page).await
}

async fn row(state: &ApiState, tenant: &Tenant) -> Result<TenantRow, StoreError> {
    let usage = state.operations.store.usage(tenant.id.clone()).await?;
    Ok(TenantRow {
        id: tenant.id.to_string(),
        events: Share::of(usage.events, usage.events_max),
        bytes: Share::of_bytes(usage.bytes, usage.bytes_max),
        webhooks: share::webhooks(state, &tenant.id),
        plugins: share::plugins(state, &tenant.id),
        pending: state.operations.store.pending(&tenant.id).values().sum(),
        made: DisplayTime::at_ms(tenant.created_at_ms),
    })
}

impl TenantListParams {
    /// Returns the link to another page of the same list.
    fn page_link(&self, page: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(Some(("q", &self.q)).filter(|(_, q)| !q.is_empty()));
        format!("?{}", query.append_pair("page", &page.to_string()).finish())
    }
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
            let params = TenantListParams::default();
            let page = list_with(&user, &state, params, problem.in_words(), form.get("id")).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}

/// Returns the tenant with this name, for an admin.
fn named(state: &ApiState, name: &str) -> Result<Arc<Tenant>, Problem> {
    let id = TenantId::parse(name).ok();
    let tenant = id.and_then(|id| state.operations.store.catalog().tenant(&id));
    tenant.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "not-found", format!("there is no tenant {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_the_search() {
        let params = TenantListParams { q: "a&b".into(), page: 1 };
        assert_eq!(params.page_link(2), "?q=a%26b&page=2");
        assert_eq!(TenantListParams::default().page_link(3), "?page=3");
    }
}
