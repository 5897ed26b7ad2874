//! Plan of a simulation: what happens and when, drawn from the seed before anything runs.
//!
//! A plan is data, so that a failing one can be shortened: a part of it is another plan.

use hookloom_model::event::Module;
use hookloom_store::memory::FaultRates;
use rand::rngs::ChaCha12Rng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt;
use std::time::Duration;

/// Number of tenants, and of receivers.
pub(crate) const TENANTS: usize = 2;
pub(crate) const RECEIVERS: usize = 4;

/// Number of subscriptions at the beginning.
const SUBSCRIPTIONS: usize = 6;

/// Time in which the actions of a plan happen, in milliseconds.
pub(crate) const ACTIVE_MS: u64 = 120_000;

/// Everything that happens in one simulation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of all numbers that are drawn while the plan runs.
    pub(crate) seed: u64,
    /// Subscriptions of the beginning.
    pub(crate) subscriptions: Vec<NewSubscriber>,
    /// Actions, by time.
    pub(crate) steps: Vec<PlannedStep>,
    /// Faults of the database, in thousandths of its operations, and its longest delay in milliseconds.
    pub(crate) faults: PlannedFaults,
    /// Memory for queued deliveries, in bytes.
    pub(crate) queue_bytes: usize,
    /// Maximum number of requests under way, of the host and of a tenant.
    pub(crate) attempts_max: [u64; 2],
    /// Retention of events, in seconds. 0: they stay.
    pub(crate) retention_s: u64,
    /// Hosts that share the database. None: one host, which has the database for itself.
    pub(crate) fleet: Option<PlannedFleet>,
}

/// Hosts that share the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedFleet {
    /// Number of hosts.
    pub(crate) hosts: usize,
    /// Number of hosts that run at the beginning. The others join at the first action that happens at them.
    pub(crate) first: usize,
    /// Part of the hints that are lost.
    pub(crate) unheard: f64,
}

/// Trouble of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostTrouble {
    /// The process is killed, and starts again after the time.
    Killed,
    /// The process stands still.
    Frozen,
    /// The host does not reach the database.
    CutOff,
    /// No host reaches the database.
    Outage,
    /// The host gives away what it owns and stops, and starts again after the time.
    Stopped,
}

/// Faults of the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedFaults {
    pub(crate) refused: f64,
    pub(crate) lost: f64,
    pub(crate) unread: f64,
    pub(crate) delay: Duration,
}

impl PlannedFaults {
    /// Returns the rates of the faults. `unheard`: part of the hints that are lost.
    pub(crate) fn rates(&self, unheard: f64) -> FaultRates {
        let PlannedFaults { refused, lost, unread, delay } = *self;
        FaultRates { refused, lost, unread, unheard, delay_max: delay }
    }
}

/// Action at a time.
#[derive(Clone, Debug)]
pub(crate) struct PlannedStep {
    /// Time since the beginning, in milliseconds.
    pub(crate) at_ms: u64,
    pub(crate) action: Action,
    /// Host of a fleet that it happens at.
    pub(crate) host: usize,
}

/// Subscription that a plan creates, or the settings of an edit.
#[derive(Clone, Debug)]
pub(crate) struct NewSubscriber {
    pub(crate) tenant: usize,
    pub(crate) receiver: usize,
    pub(crate) modules: Vec<Module>,
    pub(crate) has_plugin: bool,
    pub(crate) concurrency: u32,
    pub(crate) rate_per_s: Option<u32>,
    /// None: no order. 0: blocks. Otherwise: the number of attempts after which later events go on.
    pub(crate) order: Option<u32>,
    pub(crate) schedule_s: Vec<u64>,
    /// Quiet time and longest wait, in seconds.
    pub(crate) settle_s: Option<[u32; 2]>,
}

/// Something that happens. Numbers select one of the things that exist by then.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A sender posts events of one entity. With a key, it repeats the request until it is answered.
    Accept {
        tenant: usize,
        module: Module,
        entity: u8,
        events: usize,
        has_key: bool,
    },
    Subscribe(NewSubscriber),
    Edit {
        pick: usize,
        to: NewSubscriber,
    },
    Pause {
        pick: usize,
    },
    Resume {
        pick: usize,
    },
    Disable {
        pick: usize,
    },
    Delete {
        pick: usize,
    },
    Retry {
        pick: usize,
    },
    Cancel {
        pick: usize,
    },
    Redrive {
        pick: usize,
    },
    Replay {
        pick: usize,
    },
    Test {
        pick: usize,
    },
    /// A new version of the plugin of a tenant.
    Activate {
        tenant: usize,
    },
    /// A canary of a stored version begins or ends.
    Rollout {
        tenant: usize,
        begins: bool,
    },
    Receiver {
        receiver: usize,
        mode: ReceiverMode,
    },
    Judge {
        mode: JudgeMode,
    },
    SetClock {
        by_ms: i64,
    },
    Crash,
    /// The host stops in order, and starts again.
    Restart,
    /// An operator moves a shard with subscriptions to a host of a fleet. None: to any.
    MoveShard {
        pick: usize,
        to: Option<usize>,
    },
    /// Something happens to a host of a fleet, for a time.
    OfHost {
        what: HostTrouble,
        for_ms: u64,
    },
}

/// Behaviour of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiverMode {
    /// Answers 200.
    Takes,
    /// Answers with this status.
    Answers(u16),
    /// Answers 429 with a pause, in seconds.
    Throttles(u64),
    /// Does not answer before the deadline.
    Hangs,
    /// Refuses the connection.
    Refuses,
    /// Processes the request and closes the connection before its answer.
    Lies,
    /// Every third request fails.
    Wavers,
}

/// Behaviour of the plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JudgeMode {
    Passes,
    /// Drops every fourth event.
    Drops,
    /// Postpones every other judgement.
    Postpones,
    /// Traps until another version is activated.
    Traps,
    Transient,
    BadConfig,
    /// The host has no room for a call.
    Shortage,
}

impl Plan {
    /// Draws a plan from a seed.
    pub fn of(seed: u64) -> Self {
        let random = &mut ChaCha12Rng::seed_from_u64(seed);
        let subscriptions = (0..SUBSCRIPTIONS).map(|_| subscriber(random)).collect();
        let count = random.random_range(20..120);
        let mut times: Vec<u64> = (0..count).map(|_| random.random_range(0..ACTIVE_MS)).collect();
        times.sort_unstable();
        let mut steps: Vec<PlannedStep> =
            times.into_iter().map(|at_ms| PlannedStep { at_ms, action: action(random), host: 0 }).collect();
        race_with_ends(&mut steps, random);
        let calm = random.random_bool(0.3);
        let mut rate = |most: f64| if calm { 0.0 } else { random.random_range(0.0..most) };
        let faults = PlannedFaults {
            refused: rate(0.05),
            lost: rate(0.05),
            unread: rate(0.03),
            delay: Duration::from_millis(random.random_range(0..40)),
        };
        let queue_bytes = if random.random_bool(0.5) { 2 << 10 } else { 1 << 20 };
        let retention_s = if random.random_bool(0.5) { 90 } else { 0 };
        let attempts_max = if random.random_bool(0.5) { [3, 2] } else { [16, 12] };
        Plan { seed, subscriptions, steps, faults, queue_bytes, attempts_max, retention_s, fleet: None }
    }

    /// Returns the number of its actions.
    pub fn len(&self) -> usize {
        self.steps.len() + self.subscriptions.len()
    }

    /// Returns true if nothing happens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlannedFaults { refused, lost, unread, delay } = self.faults;
        writeln!(
            f,
            "faults of the database: {refused:.3} refused, {lost:.3} answers lost, {unread:.3} unread, up to {} ms",
            delay.as_millis()
        )?;
        for (number, subscriber) in self.subscriptions.iter().enumerate() {
            writeln!(f, "subscription {number}: {subscriber:?}")?;
        }
        if let Some(fleet) = &self.fleet {
            writeln!(f, "{fleet:?}")?;
        }
        for PlannedStep { at_ms, action, host } in &self.steps {
            let at_host = if self.fleet.is_some() { format!("host {host}  ") } else { String::new() };
            writeln!(f, "{at_ms:>7} ms  {at_host}{action:?}")?;
        }
        Ok(())
    }
}

/// Adds events that are accepted while a subscription is disabled or deleted.
fn race_with_ends(steps: &mut Vec<PlannedStep>, random: &mut ChaCha12Rng) {
    let ends = steps.iter().filter(|step| matches!(step.action, Action::Disable { .. } | Action::Delete { .. }));
    let times: Vec<u64> = ends.map(|step| step.at_ms).collect();
    for at_ms in times {
        for tenant in 0..TENANTS {
            let action = Action::Accept { tenant, module: Module::Contact, entity: 0, events: 1, has_key: true };
            let at_ms = at_ms.saturating_sub(random.random_range(0..10));
            steps.push(PlannedStep { at_ms, action, host: 0 });
        }
    }
    steps.sort_by_key(|step| step.at_ms);
}

fn subscriber(random: &mut ChaCha12Rng) -> NewSubscriber {
    let modules = match random.random_range(0..4) {
        0 => vec![Module::Deal],
        1 => vec![Module::Contact, Module::Subscription],
        _ => vec![Module::Contact],
    };
    let order = match random.random_range(0..4) {
        0 => Some(0),
        1 => Some(2),
        _ => None,
    };
    let schedule_s = match random.random_range(0..4) {
        0 => vec![0],
        1 => vec![2, 3, 9],
        2 => vec![0, 1, 4, 16, 60],
        _ => vec![0, 5, 20],
    };
    NewSubscriber {
        tenant: random.random_range(0..TENANTS),
        receiver: random.random_range(0..RECEIVERS),
        modules,
        has_plugin: random.random_bool(0.4),
        concurrency: random.random_range(1..5),
        rate_per_s: random.random_bool(0.2).then_some(3),
        order,
        schedule_s,
        settle_s: random.random_bool(0.3).then(|| [random.random_range(1..6), random.random_range(6..20)]),
    }
}

pub(crate) fn action(random: &mut ChaCha12Rng) -> Action {
    let pick = random.random_range(0..1_000);
    let tenant = random.random_range(0..TENANTS);
    match random.random_range(0..100) {
        0..38 => Action::Accept {
            tenant,
            module: if random.random_bool(0.7) { Module::Contact } else { Module::Deal },
            entity: random.random_range(0..4),
            events: if random.random_bool(0.8) { 1 } else { random.random_range(2..12) },
            has_key: random.random_bool(0.8),
        },
        38..40 => Action::Subscribe(subscriber(random)),
        40..44 => Action::Edit { pick, to: subscriber(random) },
        44..48 => Action::Pause { pick },
        48..54 => Action::Resume { pick },
        54..55 => Action::Disable { pick },
        55..56 => Action::Delete { pick },
        56..59 => Action::Retry { pick },
        59..62 => Action::Cancel { pick },
        62..64 => Action::Redrive { pick },
        64..66 => Action::Replay { pick },
        66..67 => Action::Test { pick },
        67..70 => Action::Activate { tenant },
        70..71 => Action::Rollout { tenant, begins: random.random_bool(0.5) },
        71..83 => Action::Receiver { receiver: random.random_range(0..RECEIVERS), mode: receiver_mode(random) },
        83..88 => Action::Judge { mode: judge_mode(random) },
        88..90 => Action::SetClock { by_ms: random.random_range(-60_000..60_000) },
        90..95 => Action::Crash,
        95..97 => Action::Restart,
        _ => Action::Resume { pick },
    }
}

fn receiver_mode(random: &mut ChaCha12Rng) -> ReceiverMode {
    match random.random_range(0..10) {
        0..3 => ReceiverMode::Takes,
        3 => ReceiverMode::Answers(500),
        4 => ReceiverMode::Throttles(random.random_range(0..4)),
        5 => ReceiverMode::Hangs,
        6 => ReceiverMode::Refuses,
        7 => ReceiverMode::Lies,
        8 => ReceiverMode::Answers(if random.random_bool(0.5) { 410 } else { 404 }),
        _ => ReceiverMode::Wavers,
    }
}

fn judge_mode(random: &mut ChaCha12Rng) -> JudgeMode {
    match random.random_range(0..8) {
        0 => JudgeMode::Drops,
        1 => JudgeMode::Postpones,
        2 => JudgeMode::Traps,
        3 => JudgeMode::Transient,
        4 => JudgeMode::BadConfig,
        5 => JudgeMode::Shortage,
        _ => JudgeMode::Passes,
    }
}
