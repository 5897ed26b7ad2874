//! Pages of deliveries: the list, one delivery with its timeline, and an event with its explanations.

mod burst;
pub(super) mod list;
pub(super) mod rows;
mod search;
pub(super) mod sent_body;
mod timeline;

use super::user::{Posted, TenantUser};
use super::webhook_words::name;
use super::{DisplayTime, Frame, HtmlPage, PageError, bin_urls, filters, go_to, render};
use crate::api::ApiState;
use crate::api::extract::{Item, Params};
use crate::clock::now_ms;
use crate::delivery::{DeliveryId, DeliveryKind, DeliveryState};
use crate::event::EventId;
use crate::operations::Problem;
use crate::store::BinFilter;
use crate::subscription::Subscription;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use burst::{Burst, Chain};
use rows::NextAttempt;
pub(super) use search::{SearchFault, time};
use sent_body::{SentBody, made_now};
use serde::Deserialize;
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
    /// True if the comparison stands side by side.
    is_split: bool,
    body: SentBody,
}

/// Value of `view` for a comparison side by side.
const SPLIT: &str = "split";

/// Query of a delivery's page.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct DeliveryParams {
    view: String,
}

pub(super) async fn one(
    user: TenantUser,
    Item(id): Item<Uuid>,
    Params(params): Params<DeliveryParams>,
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
        subscription: view.subscription.to_string(),
        name: subscription.as_deref().map_or_else(|| "deleted".to_owned(), name),
        event: view.event.to_string(),
        event_name: event.name.clone(),
        received: received_in_bin(&state, &user, subscription.as_deref(), view.id).await?,
        due,
        why: why.as_deref().map(first_line).unwrap_or_default(),
        superseded_by: view.superseded_by.map(|by| by.to_string()),
        burst: view.settled.filter(|settled| settled.count > 1).map(Burst::of),
        chain: chain.map(|chain| Chain::of(&chain, Some(id))),
        actions,
        accepted: DisplayTime::at_ms(event.received_at_ms),
        attempts: attempts.iter().map(AttemptView::new).collect(),
        is_split: params.view == SPLIT,
        body: SentBody::of(made_now(&state, event, subscription).await, &attempts),
        frame: Frame::new(&user, &state, "Deliveries").watching("attempts"),
    };
    render(&state, Some(&user.tenant), page).await
}

/// Returns the beginning of a text. The whole fault stands at its attempt.
fn first_line(text: &str) -> String {
    match text.split_once('\n') {
        Some((first, _)) => format!("{first} …"),
        None => text.to_owned(),
    }
}

/// Returns the path of the newest request of a delivery in the bin that is its receiver.
async fn received_in_bin(
    state: &ApiState,
    user: &TenantUser,
    subscription: Option<&Subscription>,
    delivery: DeliveryId,
) -> Result<Option<String>, PageError> {
    // The portal has no bins.
    let Some(subscription) = subscription.filter(|_| !user.user.is_customer()) else { return Ok(None) };
    let Some(bin) = bin_urls::bin_of(&subscription.settings.notify_url, &user.tenant, state).await? else {
        return Ok(None);
    };
    let filter = BinFilter { search: Some(delivery.to_string()), limit: 1, before: None };
    let found = state.operations.store.bin_requests(user.tenant.clone(), bin.clone(), filter).await?;
    let Some(request) = found.requests.first() else { return Ok(None) };
    Ok(Some(UrlPath::pages_of(&user.tenant).then("bins").then(&bin).then(&request.id).to_string()))
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
