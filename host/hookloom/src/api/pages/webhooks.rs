//! Pages of webhooks: Settings › API & Analytics › Webhooks of the vendor's guide, with more functions.

mod activity;
mod config_fields;
mod customers;
mod facts;
mod filter_form;
mod filter_rows;
mod form;
pub(super) mod health;
pub(super) mod list;
mod matching;
pub(super) mod new;
mod prefill;
mod setting_form;
mod setting_kinds;
mod setting_list;
mod settle_form;
mod test_delivery;
mod time_text;

use super::forms::Form;
use super::notes::NoteParams;
use super::prose::ProsePart;
use super::user::{Posted, TenantUser};
use super::webhook_words::{modules, name};
use super::{DisplayTime, Frame, HtmlPage, PageError, bin_urls, filters, go_to, render};
use crate::api::ApiState;
use crate::api::extract::{Item, Params};
use crate::clock::now_ms;
use crate::ids::BinId;
use crate::operations::{
    Counted, Pause, Problem, RedriveWrite, ReplayWrite, Rotation, SubscriptionBody, vendor_samples,
};
use crate::subscription::{SubscriptionId, SubscriptionState};
use crate::url_path::UrlPath;
use activity::WebhookDay;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use facts::SettingFact;
use filter_form::{COUNT, FilterForm, FilterPart, PART, ShownFilter};
use form::WebhookForm;
use http::StatusCode;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use prefill::{PrefillParams, RECEIVE, receiver_url};
use std::sync::Arc;
use test_delivery::{Tested, test, test_if_wanted};
pub(super) use time_text::in_units;
use uuid::Uuid;

/// Message of the vendor's page.
const SAVED: &str = "Preferences saved successfully";

/// Creates a webhook. Its secret is shown on the answer and not again.
pub(super) async fn create(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    if let Err(problem) = customers::add_library_plugins(&state, &user, &form).await {
        return refused(&state, &user, &form, &problem, None).await;
    }
    if let Some(page) = without_saving(&state, &user, &form, None).await? {
        return Ok(page.into_response());
    }
    let made =
        async { state.operations.create_subscription(&user.access(&state)?, form::settings(&form, None)?).await };
    match made.await {
        Ok(made) => {
            let SubscriptionBody { id, signing_secret: secret, warnings, .. } = made;
            let tested = test_if_wanted(&user, &state, id, &form).await;
            let shown = WebhookExtras { secret, tested, warnings, ..WebhookExtras::default() };
            Ok(state.notes.go_to(&user.user, &page_of(&user, id), SAVED, shown))
        }
        Err(problem) => refused(&state, &user, &form, &problem, None).await,
    }
}

/// Shows the form again with its problem.
async fn refused(
    state: &Arc<ApiState>,
    user: &TenantUser,
    form: &Form,
    problem: &Problem,
    id: Option<Uuid>,
) -> Result<Response, PageError> {
    let again = WebhookForm::again(state, user, form, Some(problem), id).await?;
    let page = match id {
        None => new::page_with(user, state, again).await?,
        Some(id) => one_with(user, state, id, WebhookExtras { form: Some(again), ..WebhookExtras::default() }).await?,
    };
    Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
}

/// Answers the buttons of the form that save nothing. None: the form is to be saved.
async fn without_saving(
    state: &Arc<ApiState>,
    user: &TenantUser,
    form: &Form,
    id: Option<Uuid>,
) -> Result<Option<HtmlPage>, PageError> {
    // The portal has no bins.
    let is_receive = form.has(RECEIVE) && !user.user.is_customer();
    let (page, is_refused) = if form.has(COUNT) && form.has(PART) {
        let (filter, problem) = FilterForm::counted(state, user, form, id).await?;
        (render(state, Some(&user.tenant), FilterPart { filter }).await?, problem.is_some())
    } else if form.has(COUNT) || form.has(form::FIELDS) || is_receive {
        let mut again = WebhookForm::again(state, user, form, None, id).await?;
        if is_receive {
            again.notify_url = receiver_url(state, user).await?;
        }
        let is_refused = !again.problem.is_empty();
        let page = match id {
            None => new::page_with(user, state, again).await?,
            Some(id) => {
                one_with(user, state, id, WebhookExtras { form: Some(again), ..WebhookExtras::default() }).await?
            }
        };
        (page, is_refused)
    } else {
        return Ok(None);
    };
    Ok(Some(if is_refused { page.with(StatusCode::UNPROCESSABLE_ENTITY) } else { page }))
}

fn page_of(user: &TenantUser, id: Uuid) -> UrlPath {
    UrlPath::pages_of(&user.tenant).then("webhooks").then(&id)
}

/// Optional parts of a webhook's page: a new secret, the result of a test, warnings, the form.
#[derive(Default)]
struct WebhookExtras {
    secret: Option<String>,
    tested: Option<Tested>,
    counted: Option<String>,
    warnings: Vec<String>,
    form: Option<WebhookForm>,
}

#[derive(Template)]
#[template(path = "webhook.html")]
struct Webhook {
    frame: Frame,
    id: String,
    name: String,
    state_reason: Option<String>,
    ascii_host: Option<String>,
    modules: String,
    events: String,
    /// Bin of this host that is the receiver.
    bin: Option<BinId>,
    /// Names of the vendor's samples that it receives.
    samples: Vec<&'static str>,
    filter: Option<ShownFilter>,
    settle: Option<crate::settle::Settle>,
    activity: WebhookDay,
    facts: Vec<SettingFact>,
    /// Present state of its requests.
    present: String,
    signing: String,
    secrets: String,
    secret: Option<String>,
    tested: Option<Tested>,
    counted: Option<String>,
    warnings: Vec<String>,
    actions: Vec<(&'static str, &'static str, &'static str)>,
    form: WebhookForm,
    from: String,
    to: String,
}

pub(super) async fn one(
    user: TenantUser,
    Item(id): Item<Uuid>,
    Params(note): Params<NoteParams>,
    Params(prefill): Params<PrefillParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let mut shown: WebhookExtras = state.notes.take(&user.user, &note).unwrap_or_default();
    if prefill.has_plugin() {
        let saved = state.operations.subscription(&user.tenant, id)?;
        let form = WebhookForm::of(&state, &saved).await?;
        shown.form = Some(form.prefilled(&state, &user.tenant, Some(&saved), &prefill).await?);
    }
    one_with(&user, &state, id, shown).await
}

async fn one_with(user: &TenantUser, state: &ApiState, id: Uuid, shown: WebhookExtras) -> Result<HtmlPage, PageError> {
    let subscription = state.operations.subscription(&user.tenant, id)?;
    let form = match shown.form {
        Some(form) => form,
        None => WebhookForm::of(state, &subscription).await?,
    };
    let now = Timestamp::from_millisecond(now_ms()).unwrap_or_default().to_zoned_datetime(TimeZone::UTC).datetime();
    fn box_text(at: DateTime) -> String {
        at.strftime("%Y-%m-%dT%H:%M:%S").to_string()
    }
    let signing = subscription.signing.iter().filter(|key| key.signs_at(now_ms()));
    let signing = signing.map(|key| match key.until_ms {
        None => key.secret.scheme().to_owned(),
        Some(until_ms) => format!("{} (until {})", key.secret.scheme(), DisplayTime::at_ms(until_ms).text),
    });
    let page = Webhook {
        id: subscription.id.to_string(),
        name: name(&subscription),
        state_reason: subscription.state_reason.clone(),
        ascii_host: subscription.settings.ascii_host(),
        modules: modules(&subscription),
        events: subscription.settings.events.join(", "),
        bin: bin_urls::bin_of(&subscription.settings.notify_url, &user.tenant, state).await?,
        samples: vendor_samples(&subscription),
        filter: subscription.settings.filter.as_ref().map(ShownFilter::from),
        settle: subscription.settings.settle,
        activity: WebhookDay::of(state, &subscription).await?,
        facts: facts::facts(&subscription.settings),
        present: present(state, subscription.id),
        signing: signing.collect::<Vec<_>>().join(", "),
        secrets: subscription.settings.secrets().keys().cloned().collect::<Vec<_>>().join(", "),
        secret: shown.secret,
        tested: shown.tested,
        counted: shown.counted,
        warnings: shown.warnings,
        actions: actions(subscription.state),
        form: form.shown_to(user),
        from: box_text(now.saturating_sub(jiff::Span::new().hours(1))),
        to: box_text(now),
        frame: Frame::new(user, state, "Webhooks"),
    };
    render(state, Some(&user.tenant), page).await
}

/// Returns what the requests of a webhook do at present.
fn present(state: &ApiState, id: SubscriptionId) -> String {
    match state.operations.lanes.status(id) {
        Some(lane) => facts::present(lane, now_ms()),
        None if state.operations.store.owns(id) => "no deliveries since the host started".to_owned(),
        None => "another host attempts its deliveries".to_owned(),
    }
}

/// Returns path, label, and a question for confirmation of each action.
fn actions(state: SubscriptionState) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut actions = vec![("test", "Send a test", "")];
    actions.push(match state {
        SubscriptionState::Active => ("pause", "Pause", ""),
        _ => ("resume", "Resume", ""),
    });
    actions.extend([
        ("rotate", "New signing secret", "The old secret keeps signing for one more day. Continue?"),
        ("delete", "Delete", "Delete this webhook? Its pending deliveries are cancelled."),
    ]);
    actions
}

pub(super) async fn update(
    Item(id): Item<Uuid>,
    State(state): State<Arc<ApiState>>,
    posted: Posted,
) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let access = user.access(&state)?;
    if let Err(problem) = customers::add_library_plugins(&state, &user, &form).await {
        return refused(&state, &user, &form, &problem, Some(id)).await;
    }
    if let Some(page) = without_saving(&state, &user, &form, Some(id)).await? {
        return Ok(page.into_response());
    }
    let edited = state.operations.edit_subscription(&access, id, |old| form::settings(&form, Some(old))).await;
    match edited {
        Ok(body) => {
            let tested = test_if_wanted(&user, &state, id, &form).await;
            let shown = WebhookExtras { tested, warnings: body.warnings, ..WebhookExtras::default() };
            Ok(state.notes.go_to(&user.user, &page_of(&user, id), SAVED, shown))
        }
        Err(problem) => refused(&state, &user, &form, &problem, Some(id)).await,
    }
}

/// Handles the buttons of a webhook's page.
pub(super) async fn act(State(state): State<Arc<ApiState>>, posted: Posted) -> Result<Response, PageError> {
    let Posted { user, form } = posted;
    let id: Uuid = user.path.get("id").parse().map_err(|_| Problem::not_found("subscription"))?;
    let all = UrlPath::pages_of(&user.tenant).then("webhooks");
    let here = page_of(&user, id);
    let operations = &state.operations;
    let access = user.access(&state)?;
    let shown = match user.path.get("action") {
        "test" => WebhookExtras { tested: Some(test(&user, &state, id).await?), ..WebhookExtras::default() },
        "pause" => {
            let pause = Pause { reason: "paused on the page".into() };
            operations.pause_subscription(&access, id, pause).await?;
            return Ok(go_to(&here, "It is paused: events still match and wait."));
        }
        "resume" => {
            operations.resume_subscription(&access, id).await?;
            return Ok(go_to(&here, "It is active again."));
        }
        "delete" => {
            operations.delete_subscription(&access, id).await?;
            return Ok(go_to(&all, "The webhook was deleted."));
        }
        "rotate" => {
            let rotated = operations.rotate_signing_secret(&access, id, Rotation::default()).await?;
            WebhookExtras { secret: rotated.signing_secret, ..WebhookExtras::default() }
        }
        "redrive" => {
            let wanted = RedriveWrite::of_dead(form.has("preview"));
            let counted = operations.redrive_subscription(&access, id, wanted).await?;
            WebhookExtras {
                counted: Some(counted_text(
                    &counted,
                    ["would be attempted again", "is attempted again", "are attempted again"],
                )),
                ..WebhookExtras::default()
            }
        }
        "replay" => {
            let wanted = ReplayWrite {
                from_ms: ms(form.get("from"))?,
                to_ms: ms(form.get("to"))?,
                preview: form.has("preview"),
            };
            let counted = operations.replay_to_subscription(&access, id, wanted).await?;
            WebhookExtras {
                counted: Some(counted_text(
                    &counted,
                    ["would be delivered again", "is delivered again", "are delivered again"],
                )),
                ..WebhookExtras::default()
            }
        }
        _ => return Err(Problem::not_found("action").into()),
    };
    Ok(state.notes.go_to(&user.user, &here, "", shown))
}

fn counted_text(counted: &Counted, [would, is, are]: [&str; 3]) -> String {
    let deliveries = crate::plural::counted(counted.deliveries, "delivery", "deliveries");
    let verb = match counted {
        Counted { preview: true, .. } => would,
        Counted { deliveries: 1, .. } => is,
        Counted { .. } => are,
    };
    format!("{deliveries} {verb}")
}

/// Parses the value of a date and time box, in UTC, to milliseconds since the epoch.
fn ms(text: &str) -> Result<i64, Problem> {
    let unfit = |_| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no-time", format!("{text:?} is not a time"));
    let at: DateTime = text.parse().map_err(unfit)?;
    Ok(at.to_zoned_datetime(TimeZone::UTC).map_err(unfit)?.timestamp().as_millisecond())
}
