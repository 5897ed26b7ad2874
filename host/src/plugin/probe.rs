//! The trial of a new version before anybody waits for it: what it costs, and what its answers depend on.
//!
//! # Theory of operation
//! A version judges a sample contact (a deal, if it lets contacts go by) a few times, each time in a fresh instance. Then once more with another time on its
//! clock, once with other random numbers, and once in an instance that was called before; where the answer differs, it
//! depends on that. None of it is wrong: in the host the clock and the random numbers follow from the event, and instances
//! are fresh. But an author who does not know it will wonder.
//!
//! A fault ends the trial and is reported; it refuses nothing, because without its config a plugin may well fail.

use super::chain::ask_alone;
use super::convert;
use super::judgement::{Judgement, Matter};
use super::rollout::Sample;
use super::runtime::Version;
use super::sandbox::{Called, Question, Surroundings, call, call_in};
use crate::event::{Event, EventId, Module, SAMPLES, read_envelope};
use crate::subscription::{CallSettings, Subscription, TenantId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// What a trial of a version found, over a sample event and without config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// What it made of the sample: `pass`, `replace`, `drop`, `later`, `failure` or `fault`.
    pub verdict: String,
    /// Why, unless it passed or replaced.
    pub reason: Option<String>,
    /// Wall time of the first call, in microseconds: with the instance, and with pages that nobody touched before.
    pub first_call_us: u64,
    /// The median of the calls after it, in microseconds, each in a fresh instance too.
    pub steady_call_us: u64,
    /// The most linear memory it had, in bytes.
    pub memory_bytes: u64,
    /// What changes its answer beside the event: `time`, `random`, `earlier calls`. Empty: nothing does. Absent: that was
    /// not found out, because it failed on the sample.
    #[serde(default)]
    pub depends_on: Option<Vec<String>>,
}

const CALLS: usize = 8;

/// A sample of a module, as an event that was accepted.
fn sample(module: Module, text: &'static str) -> Option<Event> {
    let envelope = read_envelope(&Bytes::from_static(text.trim_ascii().as_bytes())).ok()?;
    Some(Event {
        id: EventId(uuid::Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_0001)),
        name: envelope.name,
        module,
        entity_id: envelope.entity_id,
        received_at_ms: 1_709_287_745_000,
        payload: envelope.payload,
    })
}

/// Tries a version. Runs on a plugin thread.
pub(super) fn probe(version: &Version, tenant: TenantId) -> Probe {
    let subscription = Arc::new(Subscription::passing(tenant, CallSettings::default()));
    let samples = SAMPLES.into_iter().filter_map(|(module, text)| sample(module, text));
    let asked = samples.map(|event| {
        let matter = Matter { event: Arc::new(event), previous: None, subscription: subscription.clone() };
        let (judgement, cost) = ask_alone(version, &matter, matter.event.text());
        (matter, judgement, cost)
    });
    let mut asked: Vec<_> = asked.collect();
    let first = asked.first().map(|(_, _, cost)| *cost).unwrap_or_default();
    // The one that tells more: a plugin for deals lets contacts go by.
    let telling = asked.iter().position(|(_, judgement, _)| matches!(judgement, Judgement::Replace(_))).unwrap_or(0);
    let (matter, judgement, _) = asked.swap_remove(telling);
    let mut probe = Probe {
        verdict: judgement.word().to_owned(),
        reason: judgement.reason().map(|reason| reason.to_string()),
        first_call_us: first.wall_us,
        steady_call_us: first.wall_us,
        memory_bytes: first.memory_bytes,
        depends_on: None,
    };
    if matches!(judgement, Judgement::Fault(_)) {
        return probe;
    }
    let mut times: Vec<u64> = (1..CALLS).map(|_| ask_alone(version, &matter, matter.event.text()).1.wall_us).collect();
    times.sort_unstable();
    probe.steady_call_us = times[times.len() / 2];
    let wall = Duration::from_millis(matter.subscription.settings.limits.wall_ms);
    let question = Question { matter: &matter, payload: matter.event.text(), wall };
    let world = Surroundings::of(&question);
    let another_time = Surroundings { now_ms: world.now_ms + 86_400_000 * 45 + 3_600_123, ..world };
    let another_seed = Surroundings { seed: ([7; 16], [9; 16]), ..world };
    let others = [
        ("time", call_in(another_time, &version.plugin, &question)),
        ("random", call_in(another_seed, &version.plugin, &question)),
        ("earlier calls", again(again(call(&version.plugin, &question), &question), &question)),
    ];
    let usual = Sample::of(&judgement);
    let differs = |called: Called| Sample::of(&convert::judgement(called.answer, &matter.subscription)) != usual;
    let found = others.into_iter().filter_map(|(what, called)| differs(called).then(|| what.to_owned()));
    probe.depends_on = Some(found.collect());
    probe
}

/// The same question to the same instance.
fn again(mut called: Called, question: &Question<'_>) -> Called {
    match called.instance.take() {
        Some(instance) => instance.call_again(question),
        None => called,
    }
}
