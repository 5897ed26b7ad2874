//! Explanations why an event was delivered to a subscription, or why not, in one sentence each.
//!
//! Pure functions: they read neither the store nor a clock.

use super::settled_chain::SettledChainBody;
use crate::deliver::LaneStatus;
use crate::delivery::{Attempt, AttemptOutcome, DeliveryId, DeliveryKind, DeliveryState, Reason, Verdict};
use crate::event::Event;
use crate::filter::Refusal;
use crate::plural::counted;
use crate::store::{DeliveryView, SettledChain};
use crate::subscription::{Ordering, Subscription, SubscriptionState};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// State of an event for one subscription, with the reason.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Explanation {
    pub(crate) subscription: Uuid,
    description: String,
    /// True if the subscription matches the event.
    matched: bool,
    /// State or progress of the delivery with its reason, in a sentence.
    pub(crate) why: String,
    /// Id of the delivery, if there is one; the latest of several.
    pub(crate) delivery: Option<Uuid>,
    /// Time of the next attempt of a pending delivery.
    due_at_ms: Option<i64>,
    /// The plugin's verdict at the last attempt.
    verdict: Option<Verdict>,
    /// Version that returned the verdict.
    plugin_sha256: Option<String>,
    /// The plugin's reason for its verdict, unless it passed or replaced the event.
    verdict_reason: Option<Reason>,
    /// Attempts so far, oldest first.
    attempts: Vec<AttemptSummary>,
    /// Chain of the delivery's burst, if the delivery is superseded or stands for several events; for at most 50 subscriptions.
    pub(crate) settled_chain: Option<SettledChainBody>,
    /// Settings of the subscription: maximum number of concurrent requests, and of requests that begin in a second.
    concurrency: u32,
    rate_per_s: Option<u32>,
    /// Current state of the subscription's lane.
    lane: Option<LaneStatus>,
}

/// Summary of an attempt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptSummary {
    number: u32,
    started_at_ms: i64,
    outcome: AttemptOutcome,
    status: Option<u16>,
    reason: Option<Reason>,
    plugin_sha256: Option<String>,
    config_generation: u64,
}

impl From<&Attempt> for AttemptSummary {
    fn from(attempt: &Attempt) -> Self {
        AttemptSummary {
            number: attempt.number,
            started_at_ms: attempt.started_at_ms,
            outcome: attempt.outcome,
            status: attempt.status,
            reason: attempt.reason.clone(),
            plugin_sha256: attempt.plugin_sha256.clone(),
            config_generation: attempt.config_generation,
        }
    }
}

/// Facts from which an explanation is made.
pub(crate) struct Known<'a> {
    pub(crate) delivery: Option<&'a DeliveryView>,
    pub(crate) attempts: &'a [Attempt],
    /// Earlier delivery of the same entity, with its attempts, that must end first.
    pub(crate) behind: Option<(DeliveryId, u32)>,
    /// Chain of the delivery's burst.
    pub(crate) chain: Option<&'a SettledChain>,
    pub(crate) lane: Option<LaneStatus>,
    /// Reason why the event has no entity although it has an id.
    pub(crate) note: Option<&'a str>,
    /// First condition of the subscription's filter that the event does not meet now, if there is no delivery.
    pub(crate) refusal: Option<&'a Refusal>,
    /// True if the event was made for a test of one subscription; no other subscription gets it.
    pub(crate) is_test: bool,
}

/// Explains the state of an event for a subscription.
pub(crate) fn explain(event: &Event, subscription: &Subscription, known: &Known<'_>, now_ms: i64) -> Explanation {
    let Known { delivery, lane, attempts, .. } = *known;
    let last = attempts.last();
    Explanation {
        subscription: subscription.id.0,
        description: subscription.settings.description.clone(),
        matched: delivery.is_some(),
        why: match known.note.filter(|_| subscription.settings.ordering.is_some()) {
            None => why(event, subscription, known, now_ms),
            Some(note) => format!("{}; out of order, because {note}", why(event, subscription, known, now_ms)),
        },
        delivery: delivery.map(|view| view.id.0),
        due_at_ms: delivery.and_then(|view| view.due_at_ms),
        verdict: last.and_then(|attempt| attempt.verdict),
        plugin_sha256: last.and_then(|attempt| attempt.plugin_sha256.clone()),
        verdict_reason: last.and_then(|attempt| attempt.steps.last()?.reason.clone()),
        attempts: attempts.iter().map(Into::into).collect(),
        settled_chain: known.chain.map(Into::into),
        concurrency: subscription.settings.concurrency,
        rate_per_s: subscription.settings.rate_per_s,
        lane,
    }
}

fn why(event: &Event, subscription: &Subscription, known: &Known<'_>, now_ms: i64) -> String {
    match known.delivery {
        None if known.is_test => {
            "not matched: the event was made for a test delivery of another subscription".to_owned()
        }
        None => not_matched(event, subscription, known.refusal),
        Some(view) if view.state == DeliveryState::Pending => {
            format!("{}{}", cause(view.kind), pending(view, subscription, known, now_ms))
        }
        Some(view) => format!("{}{}", cause(view.kind), ended(view, known.attempts.last())),
    }
}

/// Returns the cause of a delivery, unless it was made when its event was accepted.
fn cause(kind: DeliveryKind) -> &'static str {
    match kind {
        DeliveryKind::Usual => "",
        DeliveryKind::Replay => "replayed: ",
        DeliveryKind::Test => "a test of this subscription, attempted once: ",
    }
}

fn not_matched(event: &Event, subscription: &Subscription, refusal: Option<&Refusal>) -> String {
    let module = event.module.as_str();
    if !subscription.settings.modules.contains(&event.module) {
        return format!("not matched: its modules do not include {module}");
    }
    if !subscription.settings.lists(&event.name) {
        return format!("not matched: its events do not include {:?}", event.name);
    }
    if let Some(refusal) = refusal {
        return format!("not matched: its filter refuses the event: {refusal}");
    }
    if subscription.created_at_ms > event.received_at_ms {
        return "not matched: the subscription was made after the event; a replay delivers it".to_owned();
    }
    match subscription.state {
        SubscriptionState::Disabled => "not matched: the subscription is disabled; a replay delivers it".to_owned(),
        _ => "not matched: the subscription was disabled, or had other modules, events or another filter, when the event was accepted; a replay delivers it".to_owned(),
    }
}

fn pending(view: &DeliveryView, subscription: &Subscription, known: &Known<'_>, now_ms: i64) -> String {
    let last = view.reason.as_ref().map(|reason| format!("; the last attempt: {reason}")).unwrap_or_default();
    if subscription.state == SubscriptionState::Paused {
        let reason = subscription.state_reason.as_deref().unwrap_or_default();
        return format!("waits: the subscription is paused ({reason}){last}");
    }
    if view.awaiting_plugin {
        return format!("waits for another version or config of its plugin{last}");
    }
    let waits_below = match subscription.settings.ordering {
        None => 0,
        Some(Ordering::Block) => u32::MAX,
        Some(Ordering::SkipAfter { attempts }) => attempts,
    };
    if let Some((earlier, attempts)) = known.behind.filter(|(_, attempts)| *attempts < waits_below) {
        return format!(
            "waits for its turn: the delivery {earlier} of the same entity comes first, {} of it failed{last}",
            counted(attempts.into(), "attempt", "attempts")
        );
    }
    if view.is_settling {
        return settling(view, now_ms);
    }
    let in_s = view.due_at_ms.unwrap_or_default().saturating_sub(now_ms) / 1_000;
    if in_s > 0 {
        return format!("is attempted again in {in_s} s{last}");
    }
    // Its lane has not started, or is at another host.
    let Some(lane) = known.lane else { return format!("is due now{last}") };
    let waits = of_lane(lane);
    format!("{waits}{last}")
}

/// Says that a delivery waits for the end of its burst.
fn settling(view: &DeliveryView, now_ms: i64) -> String {
    let in_s = view.due_at_ms.unwrap_or_default().saturating_sub(now_ms).max(0) / 1_000;
    let events = view.settled.map_or(1, |settled| settled.count);
    format!(
        "waits for the quiet time of its contact or deal: it is sent in {in_s} s unless another event follows, and stands for {} so far",
        counted(events, "event", "events")
    )
}

/// Says why a delivery that is due is not attempted now.
fn of_lane(lane: LaneStatus) -> String {
    let rests_ms = lane.rests_ms.unwrap_or_default();
    let why = match lane.rests_for {
        Some("breaker") => {
            return format!("waits: the receiver is failing, so its circuit breaker is open for {rests_ms} ms");
        }
        Some("retry-after") => return format!("waits: the receiver asked for a pause of {rests_ms} ms (Retry-After)"),
        Some("host-fault") => {
            "waits: this host cannot send or judge at the moment; its log says why, and no attempt is used up"
        }
        Some("throttled") => {
            "waits for its turn: the receiver throttles, and gets requests as often as it seems to allow"
        }
        Some("start") => "is due now",
        Some("lease") => "waits: this host cannot reach the database, and another one may attempt it soon",
        Some("takeover") => {
            "waits for its turn: an attempt of the host that had the webhook before may still be under way"
        }
        Some("plugin") => "waits: its plugin is being compiled",
        _ if lane.rests_ms.is_some() => "waits for its turn: rate_per_s is reached",
        _ if lane.in_flight >= lane.window => {
            let requests = counted(lane.in_flight.into(), "request is", "requests are");
            return format!("waits for its turn: {requests} under way, and no more may be");
        }
        _ => "is due now",
    };
    why.to_owned()
}

fn ended(view: &DeliveryView, last: Option<&Attempt>) -> String {
    match (view.state, last) {
        (DeliveryState::Delivered, Some(last)) => {
            format!("delivered by attempt {}, answered {}", last.number, last.status.unwrap_or_default())
        }
        (DeliveryState::Superseded, _) => {
            let by = view.superseded_by.map(|by| format!(": the delivery {by} stands for it")).unwrap_or_default();
            format!("superseded by a later event of the same contact or deal, which followed within the quiet time{by}")
        }
        (DeliveryState::Dropped, Some(last)) => {
            let plugin = last.steps.last().map_or("the plugin", |step| &step.plugin);
            let reason = view.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("dropped by {plugin}{reason}")
        }
        // The host's codes are for programs, which find them beside the sentence.
        (state, _) => {
            let reason = view.reason.as_ref().map(|reason| format!(": {}", reason.message)).unwrap_or_default();
            format!("{}{reason}", state.as_str())
        }
    }
}
