//! Network and receivers of a simulation. Each request is checked against what the host guarantees, as a receiver sees it.

use crate::checks;
use crate::plan::{RECEIVERS, ReceiverMode};
use crate::world::{Ended, FailureRun, LaneTerm, Rest, Seen, World, short};
use async_trait::async_trait;
use bytes::Bytes;
use hookloom_deliver::{Sender, Sent};
use hookloom_egress::{Answer, NotAnswered, Request};
use hookloom_model::address::Egress;
use hookloom_model::delivery::{DeliveryId, NoAnswer, Timings};
use hookloom_model::subscription::Subscription;
use hookloom_store::Store;
use std::sync::Arc;
use std::time::Duration;

/// Longest time in which a receiver answers, unless it hangs.
const LATENCY_MAX: Duration = Duration::from_millis(80);

/// Network of the world, as one host reaches it.
pub(crate) struct SimNetwork {
    pub(crate) world: World,
    pub(crate) store: Arc<Store>,
    pub(crate) host: u64,
    /// Number of the host's life.
    pub(crate) life: u64,
    pub(crate) is_member: bool,
}

/// Reads the ids of a request.
fn seen(request: &Request) -> Option<Seen> {
    let id = request.headers.get("webhook-id")?.to_str().ok()?;
    let receiver = request.target.url().host_str()?.strip_prefix('r')?.split('.').next()?.parse().ok()?;
    Some(Seen { delivery: DeliveryId(id.parse().ok()?), receiver })
}

#[async_trait]
impl Sender for SimNetwork {
    async fn send(&self, subscription: &Subscription, _: &Egress, request: Request) -> Sent {
        let SimNetwork { world, store, host, life, is_member } = self;
        let Some(seen) = seen(&request) else {
            world.violate("a request has no webhook-id");
            return Sent { answer: Err(NotAnswered::Host { detail: "no id".into() }), timings: None };
        };
        let begun = world.clock.passed();
        let mode = world.with(|state| {
            state.attempts += 1;
            state.requests += 1;
            match state.receivers[seen.receiver.min(RECEIVERS - 1)] {
                ReceiverMode::Wavers if state.requests.is_multiple_of(3) => ReceiverMode::Answers(503),
                ReceiverMode::Wavers => ReceiverMode::Takes,
                mode => mode,
            }
        });
        let time = if mode == ReceiverMode::Hangs { request.timeout } else { world.latency(LATENCY_MAX) };
        let term = LaneTerm { host: *host, life: *life, period: store.ownership_period(subscription.id) };
        let member = is_member.then(|| world.disk.member(*host));
        checks::request_begins(world, subscription, &seen, (term, begun + time), member);
        tokio::time::sleep(time).await;
        let answer = answer(mode);
        note_end(world, subscription, &seen, term, (mode, &answer));
        let total_us = u64::try_from((world.clock.passed() - begun).as_micros()).unwrap_or(u64::MAX);
        Sent { answer, timings: Some(Timings { total_us, ..Timings::default() }) }
    }
}

/// Records the end of a request, and what follows from it for the next one.
fn note_end(
    world: &World,
    subscription: &Subscription,
    seen: &Seen,
    term: LaneTerm,
    (mode, answer): (ReceiverMode, &Result<Answer, NotAnswered>),
) {
    let Seen { delivery, receiver } = *seen;
    let status = answer.as_ref().map(|answer| answer.status);
    world.note(format!("r{receiver} ends {} of {}: {mode:?}", short(delivery), short(subscription.id)));
    let at = world.clock.passed();
    let in_budget = world.disk.delivery(&subscription.tenant, delivery).map_or(0, |stored| stored.attempts_in_budget);
    world.with(|state| {
        if let Some(under_way) = state.in_flight.get_mut(&subscription.id) {
            under_way.retain(|one| one.delivery != delivery || one.host != term.host);
        }
        if matches!(status, Ok(200..=299)) {
            state.taken.insert(delivery);
        }
        let is_scheduled = !matches!(mode, ReceiverMode::Throttles(_));
        if state.lane_terms.get(&subscription.id) != Some(&term) {
            // Another lane decides by now, and it has not seen this: the host stood still, for example.
            return;
        }
        state.ended.insert(delivery, Ended { at, in_budget, is_scheduled });
        if let ReceiverMode::Throttles(pause_s) = mode {
            let to = at + Duration::from_secs(pause_s);
            state.rests.insert(subscription.id, Rest { receiver, from: at, to });
        }
        let run = state.failures.entry(subscription.id).or_default();
        if run.receiver != receiver {
            *run = FailureRun { receiver, ..FailureRun::default() };
        }
        match status {
            Ok(200..=299) => run.count = 0,
            Ok(500 | 501 | 505..) | Err(_) => {
                run.count += 1;
                // Failures of requests that were under way when the breaker opened leave it as it is.
                if run.count <= checks::FAILURES_MAX || at >= run.at + checks::OPEN_MIN {
                    run.at = at;
                }
            }
            Ok(_) => {}
        }
    });
}

fn answer(mode: ReceiverMode) -> Result<Answer, NotAnswered> {
    let failed = |kind| Err(NotAnswered::Receiver { kind, detail: format!("{mode:?}") });
    let status = match mode {
        ReceiverMode::Takes | ReceiverMode::Wavers => 200,
        ReceiverMode::Answers(status) => status,
        ReceiverMode::Throttles(_) => 429,
        ReceiverMode::Hangs => return failed(NoAnswer::Timeout),
        ReceiverMode::Refuses => return failed(NoAnswer::Connect),
        ReceiverMode::Lies => return failed(NoAnswer::Broken),
    };
    let mut answer = Answer { status, body: Bytes::from_static(b"ok"), ..Answer::default() };
    if let ReceiverMode::Throttles(pause_s) = mode {
        answer.headers.insert("retry-after", pause_s.into());
    }
    Ok(answer)
}
