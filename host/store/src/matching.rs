//! Matching of events with subscriptions: module, event name and filter.
//!
//! # Guarantees
//! - An event is parsed only if a subscription of its module has a filter, and then once.
//! - What takes long is done before the transaction that accepts the event. Only conditions `$changed` are left to it, because only
//!   the transaction knows the event before this one.
//! - Between two filters, other tasks of the runtime may run, so that a tenant with expensive filters delays its own requests only.
//!
//! # Limits
//! The filters are evaluated as of the generation of the catalog that the receivers have; a backend refuses an answer that is outdated.

use crate::catalog::Receivers;
use crate::new_event::NewEvent;
use hookloom_model::clock::{instant, since};
use hookloom_model::event::Event;
use hookloom_model::filter::{Decision, Document, ParsedEvent, Residual};
use hookloom_model::subscription::{Subscription, SubscriptionId};
use std::cell::LazyCell;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Time after which matching lets other tasks run.
const SLICE: Duration = Duration::from_millis(1);

/// Cost of the subscriptions that are looked at between two looks at the clock, which takes as long as a cheap filter.
const CLOCK_COST: usize = 32;

/// Maximum cost of the subscriptions that a step of a fan-out looks at: each costs 1, and each regular expression of its filter
/// [`REGEX_COST`].
const STEP_COST_MAX: usize = 512;

/// Number of bytes of a payload that are parsed at a cost of 1.
const PARSED_BYTES: usize = 16;

/// Cost of a regular expression.
const REGEX_COST: usize = 128;

/// Returns the cost of looking at a subscription.
fn cost_of(subscription: &Subscription) -> usize {
    1 + subscription.settings.filter.as_ref().map_or(0, |filter| filter.regexes() * REGEX_COST)
}

/// Subscription that matches an event, if the conditions hold that are left.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    subscription: Arc<Subscription>,
    /// Conditions on the event before. None: the subscription matches.
    residual: Option<Residual>,
}

/// Subscriptions that match one event.
#[derive(Clone, Debug)]
pub(crate) enum EventReceivers {
    /// All subscriptions of its module, none of which has event names or a filter.
    All(Arc<Vec<Arc<Subscription>>>),
    /// Some of them, in the order of their ids.
    Some(Vec<Candidate>),
}

/// Receivers of a request's events, as of one generation of the catalog.
#[derive(Clone, Debug)]
pub struct MatchedReceivers {
    pub(crate) receivers: Receivers,
    /// Receivers of each event.
    pub(crate) events: Vec<EventReceivers>,
}

impl EventReceivers {
    /// Returns the number of subscriptions that match if all conditions hold that are left.
    pub(crate) fn len_max(&self) -> usize {
        match self {
            EventReceivers::All(subscriptions) => subscriptions.len(),
            EventReceivers::Some(candidates) => candidates.len(),
        }
    }

    /// Returns those of the subscriptions that settle their events.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn settling(&self) -> impl Iterator<Item = SubscriptionId> {
        let (all, some) = match self {
            EventReceivers::All(subscriptions) => (&subscriptions[..], &[][..]),
            EventReceivers::Some(candidates) => (&[][..], &candidates[..]),
        };
        let subscriptions = all.iter().chain(some.iter().map(|candidate| &candidate.subscription));
        subscriptions.filter(|one| one.settings.settle.is_some()).map(|one| one.id)
    }

    /// Returns true if the outcome depends on the event before.
    pub(crate) fn needs_previous(&self) -> bool {
        match self {
            EventReceivers::All(_) => false,
            EventReceivers::Some(candidates) => candidates.iter().any(|candidate| candidate.residual.is_some()),
        }
    }

    /// Returns the subscriptions that match, in the order of their ids. `previous` is the event before it of the same contact or
    /// deal; it is not looked at unless [`EventReceivers::needs_previous`] says so.
    pub(crate) fn resolve(self, name: &str, payload: &[u8], previous: Option<&Event>) -> Arc<Vec<Arc<Subscription>>> {
        let candidates = match self {
            EventReceivers::All(subscriptions) => return subscriptions,
            EventReceivers::Some(candidates) => candidates,
        };
        let parsed = LazyCell::new(|| (ParsedEvent::new(name, payload), previous.map(ParsedEvent::of)));
        let documents = LazyCell::new(|| (parsed.0.document(), parsed.1.as_ref().map(ParsedEvent::document)));
        let holds = |residual: Residual| residual.holds(&documents.0, documents.1.as_ref());
        let matching = candidates
            .into_iter()
            .filter_map(|Candidate { subscription, residual }| residual.is_none_or(holds).then_some(subscription));
        Arc::new(matching.collect())
    }
}

/// Subscriptions that a step of a fan-out has looked at.
pub(crate) struct StepReceivers {
    /// Those of them that match.
    pub(crate) matching: EventReceivers,
    /// Last one of them. None: there were none.
    pub(crate) last: Option<SubscriptionId>,
    /// True if no subscription comes after them.
    pub(crate) is_last: bool,
}

impl Receivers {
    /// Matches the events of a request.
    pub(crate) async fn match_events(self, events: &[NewEvent]) -> MatchedReceivers {
        let mut matched = Vec::with_capacity(events.len());
        let mut begun = instant();
        let mut cost = 0;
        for event in events {
            if !self.is_selective(event.module) {
                matched.push(EventReceivers::All(self.list(event.module)));
                continue;
            }
            // A lock, because the view of it lives across the pauses below, on whichever thread goes on.
            let parsed = LazyLock::new(|| ParsedEvent::new(&event.name, &event.payload));
            let document = LazyCell::new(|| parsed.document());
            let mut candidates = Vec::new();
            cost += event.payload.len() / PARSED_BYTES;
            for subscription in self.of(event.module) {
                candidates.extend(candidate(subscription, &event.name, &document));
                cost += cost_of(subscription);
                if cost >= CLOCK_COST {
                    cost = 0;
                    if since(begun) >= SLICE {
                        tokio::task::yield_now().await;
                        begun = instant();
                    }
                }
            }
            matched.push(EventReceivers::Some(candidates));
        }
        MatchedReceivers { receivers: self, events: matched }
    }

    /// Matches an event of the host itself.
    pub(crate) fn match_host_event(&self, event: &NewEvent) -> EventReceivers {
        if !self.is_selective(event.module) {
            return EventReceivers::All(self.list(event.module));
        }
        let parsed = LazyCell::new(|| ParsedEvent::new(&event.name, &event.payload));
        let document = LazyCell::new(|| parsed.document());
        let subscriptions = self.of(event.module).iter();
        EventReceivers::Some(subscriptions.filter_map(|one| candidate(one, &event.name, &document)).collect())
    }

    /// Matches an event with the subscriptions after one, up to a number of matching ones.
    pub(crate) fn match_step(
        &self,
        event: &Event,
        after: Option<SubscriptionId>,
        deliveries_max: usize,
    ) -> StepReceivers {
        let parsed = LazyCell::new(|| ParsedEvent::of(event));
        let document = LazyCell::new(|| parsed.document());
        let mut candidates = Vec::new();
        let mut last = None;
        let mut cost = 0;
        let left = self.of(event.module).iter().filter(|one| after.is_none_or(|after| one.id > after));
        for subscription in left {
            if candidates.len() == deliveries_max || cost >= STEP_COST_MAX {
                return StepReceivers { matching: EventReceivers::Some(candidates), last, is_last: false };
            }
            cost += cost_of(subscription);
            candidates.extend(candidate(subscription, &event.name, &document));
            last = Some(subscription.id);
        }
        StepReceivers { matching: EventReceivers::Some(candidates), last, is_last: true }
    }
}

/// Returns the subscription, unless its event names or its filter refuse the event.
fn candidate<'e>(
    subscription: &Arc<Subscription>,
    event_name: &str,
    document: &LazyCell<Document<'e>, impl FnOnce() -> Document<'e>>,
) -> Option<Candidate> {
    if !subscription.settings.lists(event_name) {
        return None;
    }
    let residual = match subscription.settings.filter.as_ref().map(|filter| filter.decide(document)) {
        None | Some(Decision::Matches) => None,
        Some(Decision::Refuses) => return None,
        Some(Decision::Depends(residual)) => Some(residual),
    };
    Some(Candidate { subscription: subscription.clone(), residual })
}
