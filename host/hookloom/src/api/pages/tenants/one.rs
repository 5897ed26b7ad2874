//! Page of one tenant for admins: what it uses of each limit, what happens when a limit is met, and the limits that can be changed.

use super::limits::{self, LimitsForm};
use super::share::{self, Share};
use super::{PostedByAdmin, SignedIn, named};
use crate::api::ApiState;
use crate::api::extract::PathParams;
use crate::api::pages::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render};
use crate::event_type::EVENT_TYPES_MAX;
use crate::operations::{Admin, CREDENTIALS_MAX, Problem};
use crate::store::{BINS_MAX, Usage};
use crate::subscription::Tenant;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "tenant.html")]
struct TenantPage {
    frame: Frame,
    id: String,
    made: DisplayTime,
    limits: Vec<LimitRow>,
    form: LimitsForm,
}

/// Limit with its used part.
struct LimitRow {
    name: &'static str,
    share: Share,
    /// Action of the host when the limit is met.
    when_met: &'static str,
    /// Setting of the host that sets the limit. Empty: it is fixed.
    setting: &'static str,
}

/// Shows a tenant.
pub(in crate::api::pages) async fn page(
    user: SignedIn,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    Admin::of(&user.key)?;
    let tenant = named(&state, path.get("t"))?;
    let form = LimitsForm::of(&tenant, &state.operations.config.limits_max());
    page_with(&user, &state, &tenant, form).await
}

async fn page_with(
    user: &SignedIn,
    state: &ApiState,
    tenant: &Tenant,
    form: LimitsForm,
) -> Result<HtmlPage, PageError> {
    let usage = state.operations.store.usage(tenant.id.clone()).await?;
    let page = TenantPage {
        frame: Frame::of(user, state, "Tenants"),
        id: tenant.id.to_string(),
        made: DisplayTime::at_ms(tenant.created_at_ms),
        limits: limit_rows(state, tenant, &usage).await?,
        form,
    };
    render(state, None, page).await
}

async fn limit_rows(state: &ApiState, tenant: &Tenant, usage: &Usage) -> Result<Vec<LimitRow>, Problem> {
    fn fixed(name: &'static str, used: usize, max: usize) -> LimitRow {
        let when_met = "A further one is refused with 409, until one is deleted or revoked.";
        LimitRow { name, share: Share::of(used as u64, max as u64), when_met, setting: "" }
    }
    let id = &tenant.id;
    let catalog = state.operations.store.catalog();
    let webhooks = catalog.subscriptions(id);
    let under_way = webhooks.iter().filter_map(|one| state.operations.lanes.status(one.id));
    let under_way: u64 = under_way.map(|lane| u64::from(lane.in_flight)).sum();
    let bins = state.operations.store.bins(id.clone()).await?.len();
    Ok(vec![
        LimitRow {
            name: "Events stored",
            share: Share::of(usage.events, usage.events_max),
            when_met: "New events are refused with 507 until old ones are pruned. Those that were accepted are delivered.",
            setting: "tenant_events_max",
        },
        LimitRow {
            name: "Storage",
            share: Share::of_bytes(usage.bytes, usage.bytes_max),
            when_met: "Whatever would store more is refused with 507. Accepted events are delivered, and their outcomes recorded.",
            setting: "tenant_bytes_max",
        },
        LimitRow {
            name: "Attempts at once",
            share: Share::of(under_way, state.operations.config.attempts_per_tenant_max),
            when_met: "Further deliveries wait for their turn. Other tenants do not notice.",
            setting: "attempts_per_tenant_max",
        },
        LimitRow { share: share::webhooks(state, id), ..fixed("Webhooks", 0, 1) },
        LimitRow { share: share::plugins(state, id), ..fixed("Plugins", 0, 1) },
        fixed("Keys", catalog.keys(Some(id)).len(), CREDENTIALS_MAX),
        fixed("Addresses for Agile CRM", catalog.tokens(id).len(), CREDENTIALS_MAX),
        fixed("Event types of its own", tenant.event_types.iter().count(), EVENT_TYPES_MAX),
        fixed("Inspector bins", bins, BINS_MAX),
    ])
}

/// Saves the limits of a tenant.
pub(in crate::api::pages) async fn save(
    State(state): State<Arc<ApiState>>,
    path: PathParams,
    posted: PostedByAdmin,
) -> Result<Response, PageError> {
    let PostedByAdmin { admin, user, form } = posted;
    let tenant = named(&state, path.get("t"))?;
    let saved = async { state.operations.update_tenant(&admin, tenant.id.clone(), limits::change(&form)?).await };
    match saved.await {
        Ok(_) => {
            let here = UrlPath::root().then("tenants").then(&tenant.id);
            Ok(go_to(&here, "The limits were saved. They apply from the next attempt on."))
        }
        Err(problem) => {
            let shown = LimitsForm::of(&tenant, &state.operations.config.limits_max()).refused(&form, &problem);
            let page = page_with(&user, &state, &tenant, shown).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}
