//! Pages of deliveries: the list, one delivery with its timeline, and an event with its explanations.

mod burst;
pub(super) mod list;
pub(super) mod rows;
mod search;
mod timeline;

use super::diff::Diff;
use super::user::{Posted, TenantUser};
use super::webhook_words::name;
use super::{DisplayTime, Frame, HtmlPage, PageError, bin_urls, filters, go_to, render};
use crate::api::ApiState;
use crate::api::extract::Item;
use crate::clock::now_ms;
use crate::delivery::{DeliveryId, DeliveryKind, DeliveryState, Verdict};
use crate::event::{Event, EventId};
use crate::operations::Problem;
use crate::plugin::{PluginInput, Shown};
use crate::store::BinFilter;
use crate::subscription::Subscription;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use burst::{Burst, Chain};
use rows::NextAttempt;
use std::collections::HashMap;
use std::sync::Arc;
use timeline::AttemptView;
use uuid::Uuid;

fn kind(kind: DeliveryKind) -> &'static str {
    match kind {
        DeliveryKind::Usual => "",
        DeliveryKind::Replay => "replay",
        DeliveryKind::Test => "test",
    }
}

#[derive(Template)]
#[template(path = "delivery.html")]
struct Delivery {
    frame: Frame,
    id: String,
    state: &'static str,
    reason: String,
    subscription: String,
    name: String,
    event: String,
    event_name: String,
    /// Path of the request in a bin of this tenant, if that is the receiver.
    received: Option<String>,
    /// Time of the next attempt of a pending delivery.
    due: Option<NextAttempt>,
    why: String,
    /// Delivery that supersedes this one.
    superseded_by: Option<String>,
    /// Events that the delivery stands for, if there are several.
    burst: Option<Burst>,
    /// Chain of the burst.
    chain: Option<Chain>,
    actions: Vec<(&'static str, &'static str)>,
    accepted: DisplayTime,
    attempts: Vec<AttemptView>,
    diff: Diff,
}

pub(super) async fn one(
    user: TenantUser,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let (view, attempts) = state.operations.store.delivery(user.tenant.clone(), DeliveryId(id)).await?;
    let whole = state.operations.store.event(user.tenant.clone(), view.event).await?;
    let explained = state.operations.explained(&user.tenant, &whole).await?;
    let chain = state.operations.settled_chain(&user.tenant, &view).await?;
    let event = whole.event;
    let subscription = state.operations.store.catalog().subscription(&user.tenant, view.subscription);
    let why = explained.iter().find(|one| one.subscription == view.subscription.0).map(|one| one.why.clone());
    let actions = match view.state {
        DeliveryState::Pending => vec![("retry", "Attempt now"), ("cancel", "Cancel")],
        _ => vec![("retry", "Attempt again")],
    };
    let lane = state.operations.lanes.status(view.subscription);
    let due = NextAttempt::of(&view, subscription.as_deref().map(|one| one.state), lane, now_ms());
    let page = Delivery {
        id: view.id.to_string(),
        state: view.state.as_str(),
        reason: view.reason.map(|reason| reason.message).unwrap_or_default(),
        subscription: view.subscription.to_string(),
        name: subscription.as_deref().map_or_else(|| "deleted".to_owned(), name),
        event: view.event.to_string(),
        event_name: event.name.clone(),
        received: received_in_bin(&state, &user, subscription.as_deref(), view.id).await,
        due,
        why: why.unwrap_or_default(),
        superseded_by: view.superseded_by.map(|by| by.to_string()),
        burst: view.settled.filter(|settled| settled.count > 1).map(Burst::of),
        chain: chain.map(|chain| Chain::of(&chain, Some(id))),
        actions,
        accepted: DisplayTime::at_ms(event.received_at_ms),
        attempts: attempts.iter().map(AttemptView::new).collect(),
        diff: before_and_after(&state, event, subscription).await,
        frame: Frame::new(&user, &state, "Deliveries").watching("attempts"),
    };
    render(&state, Some(&user.tenant), page).await
}

/// Returns the path of the newest request of a delivery in the bin that is its receiver.
async fn received_in_bin(
    state: &ApiState,
    user: &TenantUser,
    subscription: Option<&Subscription>,
    delivery: DeliveryId,
) -> Option<String> {
    let bin = bin_urls::bin_of(&subscription?.settings.notify_url, state)?;
    let filter = BinFilter { search: Some(delivery.to_string()), limit: 1, before: None };
    let found = state.operations.store.bin_requests(user.tenant.clone(), bin.clone(), filter).await.ok()?;
    let request = found.requests.first()?;
    Some(UrlPath::pages_of(&user.tenant).then("bins").then(&bin).then(&request.id).to_string())
}

/// Returns the event, and the present result of the subscription's plugins for it.
pub(super) async fn before_and_after(
    state: &ApiState,
    event: Arc<Event>,
    subscription: Option<Arc<Subscription>>,
) -> Diff {
    let Some(subscription) = subscription else {
        return Diff::same("The webhook was deleted; the event:", event.text());
    };
    if subscription.settings.plugin.0.is_empty() {
        return Diff::same("There is no plugin: the event is sent unchanged.", event.text());
    }
    let previous = state.operations.store.previous(subscription.tenant.clone(), &event).await.ok().flatten();
    let judged = state
        .operations
        .plugins
        .judge_with(PluginInput { previous, ..PluginInput::new(event.clone(), subscription) })
        .await;
    let shown = Shown::new(judged, &event);
    match (shown.verdict, shown.body) {
        (Verdict::Replace, Some(body)) => Diff::new(event.text(), body),
        (Verdict::Pass, _) => Diff::same("The plugin passes it unchanged.", event.text()),
        (verdict, _) => {
            let reason = shown.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            Diff::words(format!("Nothing would be sent; the plugin says {verdict}{reason}"))
        }
    }
}

pub(super) async fn act(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, .. } = posted;
    let id: Uuid = user.path.get("id").parse().map_err(|_| Problem::not_found("delivery"))?;
    let flash = match user.path.get("action") {
        "retry" => {
            state.operations.retry_delivery(&user.access(&state)?, DeliveryId(id)).await?;
            "It is attempted now."
        }
        "cancel" => {
            state.operations.cancel_delivery(&user.access(&state)?, DeliveryId(id)).await?;
            "It was cancelled."
        }
        _ => return Err(Problem::not_found("action").into()),
    };
    Ok(go_to(&UrlPath::pages_of(&user.tenant).then("deliveries").then(&id), flash))
}

/// State of an event for one webhook.
struct EventDelivery {
    name: String,
    why: String,
    delivery: Option<String>,
    /// Chain of its burst.
    chain: Option<Chain>,
}

#[derive(Template)]
#[template(path = "event.html")]
struct EventTemplate {
    frame: Frame,
    id: String,
    name: String,
    at: DisplayTime,
    module: &'static str,
    entity: Option<String>,
    previous: Option<String>,
    rows: Vec<EventDelivery>,
    payload: String,
}

pub(super) async fn event(
    user: TenantUser,
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let whole = state.operations.store.event(user.tenant.clone(), EventId(id)).await?;
    let explained = state.operations.explained(&user.tenant, &whole).await?;
    let event = whole.event;
    let names: HashMap<Uuid, String> =
        state.operations.store.catalog().subscriptions(&user.tenant).iter().map(|one| (one.id.0, name(one))).collect();
    let page = EventTemplate {
        id: event.id.to_string(),
        name: event.name.clone(),
        at: DisplayTime::at_ms(event.received_at_ms),
        module: event.module.as_str(),
        entity: event.entity_id.clone(),
        previous: whole.previous.map(|previous| previous.to_string()),
        rows: explained
            .iter()
            .map(|one| EventDelivery {
                name: names.get(&one.subscription).cloned().unwrap_or_default(),
                why: one.why.clone(),
                delivery: one.delivery.map(|id| id.to_string()),
                chain: one.settled_chain.as_ref().map(|chain| Chain::of(chain, None)),
            })
            .collect(),
        payload: crate::diff::pretty(event.text()),
        frame: Frame::new(&user, &state, "Deliveries"),
    };
    render(&state, Some(&user.tenant), page).await
}
