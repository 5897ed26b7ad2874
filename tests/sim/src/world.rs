//! Everything outside of the host under simulation: receivers and senders, what was promised to whom, and the history.
//!
//! The world outlives crashes of the host. It notices violations of what the host guarantees, and keeps the first one.

use crate::clock::SimClock;
use crate::plan::{JudgeMode, RECEIVERS, ReceiverMode};
use hookloom_model::delivery::DeliveryId;
use hookloom_model::event::{EventId, Module};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use hookloom_store::memory::{MemberView, MemoryDisk};
use parking_lot::Mutex;
use rand::rngs::ChaCha12Rng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Request of a sender.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) tenant: TenantId,
    pub(crate) module: Module,
    /// Number of the contact or deal. 0: none.
    pub(crate) entity: u8,
    /// Number of events.
    pub(crate) events: usize,
}

/// Request that a receiver reads.
pub(crate) struct Seen {
    pub(crate) delivery: DeliveryId,
    pub(crate) receiver: usize,
}

/// Accepted event, as its sender knows it.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) tenant: TenantId,
    pub(crate) event: EventId,
    pub(crate) deliveries: usize,
}

/// Latest attempt of a delivery that had an outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) at: Duration,
    /// Number of the attempt in the schedule, from 0.
    pub(crate) in_budget: u32,
    /// True if the delay before the next attempt follows from the schedule alone.
    pub(crate) is_scheduled: bool,
}

/// Pause that a receiver asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    pub(crate) receiver: usize,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// Failures in a row of a subscription's receiver.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FailureRun {
    pub(crate) receiver: usize,
    pub(crate) count: u32,
    /// Time of the failure that opened the breaker, or of the last one before it.
    pub(crate) at: Duration,
}

/// Lane that sends a request: its host, the life of the host, and how often the host has ceased to own the subscription before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneTerm {
    pub(crate) host: u64,
    pub(crate) life: u64,
    pub(crate) period: u64,
}

/// Request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnderWay {
    pub(crate) delivery: DeliveryId,
    pub(crate) host: u64,
    /// Registration of the host when the request began, in a fleet.
    pub(crate) member: Option<MemberView>,
    /// Time at which the receiver has ended the request, also if the host stands still.
    pub(crate) ends_at: Duration,
}

/// State of the world.
pub(crate) struct WorldState {
    pub(crate) random: ChaCha12Rng,
    pub(crate) receivers: [ReceiverMode; RECEIVERS],
    pub(crate) judge: JudgeMode,
    /// Requests of each receiver, for those that waver.
    pub(crate) requests: u64,
    /// Versions that are installed, by host and tenant.
    pub(crate) installed: HashMap<(u64, TenantId), String>,
    /// Number of the last version.
    pub(crate) versions: u64,
    /// Versions that trap.
    pub(crate) trapping: BTreeSet<String>,
    /// Requests under way, by subscription.
    pub(crate) in_flight: BTreeMap<SubscriptionId, Vec<UnderWay>>,
    /// Lane that sent the last request of a subscription.
    pub(crate) lane_terms: HashMap<SubscriptionId, LaneTerm>,
    /// Deliveries that a receiver has answered with 2xx.
    pub(crate) taken: BTreeSet<DeliveryId>,
    /// Subscriptions whose pause, disabling or deletion was answered.
    pub(crate) stopped: BTreeSet<SubscriptionId>,
    /// Subscriptions that match no more events, and the wall clock's time of the answer.
    pub(crate) ended_at_ms: BTreeMap<SubscriptionId, i64>,
    /// Number of requests of each delivery.
    pub(crate) requests_of: HashMap<DeliveryId, u32>,
    /// Pause that a receiver asked for last.
    pub(crate) rests: HashMap<SubscriptionId, Rest>,
    /// Subscriptions whose settings or deliveries an operator has touched, so that the schedule does not tell the next attempt.
    pub(crate) touched: BTreeMap<SubscriptionId, Duration>,
    /// Subscriptions of which an operator has made ended deliveries pending again, so that their order has a gap.
    pub(crate) disordered: BTreeSet<SubscriptionId>,
    /// Largest `concurrency` that a subscription has had.
    pub(crate) concurrency: HashMap<SubscriptionId, u32>,
    pub(crate) ended: HashMap<DeliveryId, Ended>,
    pub(crate) failures: HashMap<SubscriptionId, FailureRun>,
    /// Times at which requests of a subscription began.
    pub(crate) began: HashMap<SubscriptionId, Vec<Duration>>,
    pub(crate) promises: Vec<Promise>,
    /// Requests with a key that were not answered, by key.
    pub(crate) unanswered: BTreeMap<String, Post>,
    /// Events of the requests with a key that were answered, by key.
    pub(crate) answers: BTreeMap<String, Vec<EventId>>,
    /// Number of requests without a key whose answer was lost or an error.
    pub(crate) unknown: usize,
    /// Time of the last change of the wall clock.
    pub(crate) clock_set: Option<Duration>,
    pub(crate) history: Vec<String>,
    pub(crate) violation: Option<String>,
    pub(crate) attempts: u64,
}

/// The world, shared by everything in a simulation.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: Arc<SimClock>,
    pub(crate) disk: MemoryDisk,
    /// Largest difference between the clocks of two hosts, in milliseconds.
    pub(crate) clocks_differ_ms: i64,
    state: Arc<Mutex<WorldState>>,
}

impl World {
    pub(crate) fn new(seed: u64, clocks_differ_ms: i64) -> Self {
        let state = WorldState {
            random: ChaCha12Rng::seed_from_u64(seed ^ 0x5eed),
            receivers: [ReceiverMode::Takes; RECEIVERS],
            judge: JudgeMode::Passes,
            requests: 0,
            installed: HashMap::new(),
            versions: 0,
            trapping: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            lane_terms: HashMap::new(),
            taken: BTreeSet::new(),
            stopped: BTreeSet::new(),
            ended_at_ms: BTreeMap::new(),
            requests_of: HashMap::new(),
            rests: HashMap::new(),
            touched: BTreeMap::new(),
            disordered: BTreeSet::new(),
            concurrency: HashMap::new(),
            ended: HashMap::new(),
            failures: HashMap::new(),
            began: HashMap::new(),
            promises: Vec::new(),
            unanswered: BTreeMap::new(),
            answers: BTreeMap::new(),
            unknown: 0,
            clock_set: None,
            history: Vec::new(),
            violation: None,
            attempts: 0,
        };
        World {
            clock: Arc::new(SimClock::new()),
            disk: MemoryDisk::default(),
            clocks_differ_ms,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Reads or changes the state.
    pub(crate) fn with<T>(&self, run: impl FnOnce(&mut WorldState) -> T) -> T {
        run(&mut self.state.lock())
    }

    /// Adds a line to the history.
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        let line = format!("{:>9.3} s  {}", self.clock.passed().as_secs_f64(), line.as_ref());
        self.with(|state| state.history.push(line));
    }

    /// Records a violation, unless there is one already.
    pub(crate) fn violate(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format!("VIOLATION: {what}"));
        self.with(|state| {
            state.violation.get_or_insert(what);
        });
    }

    /// Returns true if nothing was violated.
    pub(crate) fn is_sound(&self) -> bool {
        self.with(|state| state.violation.is_none())
    }

    /// Returns a random time up to `most`.
    pub(crate) fn latency(&self, most: Duration) -> Duration {
        let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.with(|state| state.random.random_range(0..=most_us)))
    }

    /// Forgets what ends with the host: requests under way, and what a lane has learned of its receiver.
    pub(crate) fn host_ended(&self) {
        self.with(|state| {
            state.in_flight.clear();
            state.failures.clear();
            state.rests.clear();
            state.began.clear();
            state.installed.clear();
        });
    }

    /// Forgets what ends with one host of a fleet. The lanes of others go on.
    pub(crate) fn member_ended(&self, host: u64) {
        self.with(|state| {
            state.in_flight.values_mut().for_each(|under_way| under_way.retain(|one| one.host != host));
            state.installed.retain(|(of, _), _| *of != host);
        });
    }
}

/// Returns the short name of an id in the history.
pub(crate) fn short(id: impl std::fmt::Display) -> String {
    let text = id.to_string();
    let (_, end) = text.split_at(text.len().saturating_sub(6));
    // The beginning of a uuid of version 7 is its time, and the next part counts.
    format!("{}…{end}", &text[9..18.min(text.len())])
}
