//! First steps: a checklist from an empty tenant to the first delivery, and code that verifies its signature.
//!
//! # Guarantees
//! - The state of a step is read from what there is. What was delivered once stays delivered when its rows are pruned, so the card of the
//!   overview does not come back.
//!
//! # Limits
//! - The host does not know whether a receiver verifies. The last step has no state.

use super::snippets::{SNIPPETS, Snippet};
use super::user::TenantUser;
use super::{Frame, HtmlPage, PageError, filters, render};
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::store::{EventFilter, Milestones};
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "first_steps.html")]
struct FirstStepsPage {
    frame: Frame,
    first_steps: FirstSteps,
    /// Page of the newest event. None: there is none.
    newest_event: Option<String>,
    snippets: &'static [Snippet],
    chosen: &'static Snippet,
}

/// Checklist from nothing to the first delivery.
pub(super) struct FirstSteps {
    pub(super) steps: Vec<FirstStep>,
}

/// Kind of a step, by which a template finds its action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepKind {
    Address,
    Sample,
    Webhook,
    Transform,
    Delivery,
    Verify,
}

/// Step of the checklist.
pub(super) struct FirstStep {
    pub(super) kind: StepKind,
    pub(super) title: &'static str,
    pub(super) text: &'static str,
    pub(super) is_done: bool,
    /// True for the first step that is not done and not optional.
    pub(super) is_next: bool,
    /// True for a step without which an event is delivered.
    pub(super) is_optional: bool,
}

/// Things that a tenant has and has reached.
#[derive(Clone, Copy, Default)]
struct TenantProgress {
    has_address: bool,
    has_webhook: bool,
    has_plugin: bool,
    milestones: Milestones,
}

impl TenantProgress {
    fn of(state: &ApiState, user: &TenantUser, milestones: Milestones) -> TenantProgress {
        let catalog = state.operations.store.catalog();
        let webhooks = catalog.subscriptions(&user.tenant);
        TenantProgress {
            has_address: !catalog.tokens(&user.tenant).is_empty(),
            has_webhook: !webhooks.is_empty(),
            has_plugin: webhooks.iter().any(|one| !one.settings.plugin.0.is_empty()),
            milestones,
        }
    }
}

impl FirstSteps {
    /// Returns the checklist for the overview. None: an event was delivered.
    pub(super) async fn until_delivered(user: &TenantUser, state: &ApiState) -> Result<Option<FirstSteps>, PageError> {
        let milestones = state.operations.store.milestones(user.tenant.clone()).await?;
        Ok((!milestones.delivered).then(|| FirstSteps::new(TenantProgress::of(state, user, milestones))))
    }

    fn new(progress: TenantProgress) -> FirstSteps {
        let TenantProgress { has_address, has_webhook, has_plugin, milestones } = progress;
        let mut steps = vec![
            FirstStep {
                kind: StepKind::Address,
                title: "Make an intake address",
                text: "Agile CRM sends its events to it. It is shown once.",
                is_done: has_address,
                is_next: false,
                is_optional: false,
            },
            FirstStep {
                kind: StepKind::Sample,
                title: "Send a sample event, and see it arrive",
                text: "A sample of the vendor is accepted like an event of your account.",
                is_done: milestones.accepted,
                is_next: false,
                is_optional: false,
            },
            FirstStep {
                kind: StepKind::Webhook,
                title: "Add a webhook",
                text: "It sends the events of its modules to your receiver. \"Receive here\" makes a bin that shows them, if you have none yet.",
                is_done: has_webhook,
                is_next: false,
                is_optional: false,
            },
            FirstStep {
                kind: StepKind::Transform,
                title: "Choose a transform",
                text: "A plugin of the library or a script of yours changes or drops events before they are sent.",
                is_done: has_plugin,
                is_next: false,
                is_optional: true,
            },
            FirstStep {
                kind: StepKind::Delivery,
                title: "See an event delivered",
                text: "Send a sample again, now that a webhook waits for it.",
                is_done: milestones.delivered,
                is_next: false,
                is_optional: false,
            },
            FirstStep {
                kind: StepKind::Verify,
                title: "Verify the signature in your receiver",
                text: "A few lines in your language refuse what Hookloom has not signed.",
                is_done: false,
                is_next: false,
                is_optional: true,
            },
        ];
        if let Some(next) = steps.iter_mut().find(|step| !step.is_done && !step.is_optional) {
            next.is_next = true;
        }
        FirstSteps { steps }
    }

    /// Returns the number of necessary steps that are done.
    pub(super) fn done(&self) -> usize {
        self.necessary().filter(|step| step.is_done).count()
    }

    /// Returns the number of necessary steps.
    pub(super) fn all(&self) -> usize {
        self.necessary().count()
    }

    fn necessary(&self) -> impl Iterator<Item = &FirstStep> {
        self.steps.iter().filter(|step| !step.is_optional)
    }
}

/// Query of the page.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct FirstStepsParams {
    /// Language of the code.
    lang: String,
}

/// Shows the checklist and the code.
pub(super) async fn page(
    user: TenantUser,
    Params(params): Params<FirstStepsParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let store = &state.operations.store;
    let milestones = store.milestones(user.tenant.clone()).await?;
    let newest = store.events(user.tenant.clone(), EventFilter { limit: 1, ..EventFilter::default() }).await?;
    let event_page = |id| UrlPath::pages_of(&user.tenant).then("events").then(&id).to_string();
    let page = FirstStepsPage {
        first_steps: FirstSteps::new(TenantProgress::of(&state, &user, milestones)),
        newest_event: newest.first().map(|event| event_page(event.id)),
        snippets: &SNIPPETS,
        chosen: Snippet::of(&params.lang),
        frame: Frame::new(&user, &state, "Overview"),
    };
    render(&state, Some(&user.tenant), page).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(progress: TenantProgress, done: usize, next: Option<StepKind>) {
        let steps = FirstSteps::new(progress);
        let found = steps.steps.iter().find(|step| step.is_next).map(|step| step.kind);
        assert_eq!((steps.done(), steps.all(), found), (done, 4, next));
    }

    #[test]
    fn the_next_step_is_the_first_that_is_missing() {
        let mut progress = TenantProgress::default();
        check(progress, 0, Some(StepKind::Address));
        progress.has_address = true;
        check(progress, 1, Some(StepKind::Sample));
        progress.milestones.accepted = true;
        check(progress, 2, Some(StepKind::Webhook));
        progress.has_webhook = true;
        check(progress, 3, Some(StepKind::Delivery));
        progress.has_plugin = true;
        check(progress, 3, Some(StepKind::Delivery));
        progress.milestones.delivered = true;
        check(progress, 4, None);
    }
}
