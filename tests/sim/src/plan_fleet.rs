//! Plan of a simulation of several hosts: that of one host, with a host for each action, and what happens to hosts.

use crate::plan::{ACTIVE_MS, Action, HostTrouble, Plan, PlannedFleet, PlannedStep, TENANTS, action};
use hookloom_model::event::Module;
use rand::rngs::ChaCha12Rng;
use rand::{RngExt as _, SeedableRng as _};

impl Plan {
    /// Draws a plan of one host to `hosts_max` hosts from a seed.
    pub fn of_fleet(seed: u64, hosts_max: usize) -> Self {
        let mut plan = Plan::of(seed);
        let random = &mut ChaCha12Rng::seed_from_u64(seed ^ 0xf1ee7);
        // Most plans have as many hosts as may be.
        let hosts = if random.random_bool(0.6) { hosts_max } else { random.random_range(1..=hosts_max) };
        let unheard = if random.random_bool(0.5) { 0.0 } else { random.random_range(0.0..=1.0) };
        plan.fleet = Some(PlannedFleet { hosts, first: random.random_range(1..=hosts), unheard });
        for step in &mut plan.steps {
            step.host = random.random_range(0..hosts);
            let is_of_process = matches!(step.action, Action::Crash | Action::Restart);
            if is_of_process || random.random_bool(0.06) {
                step.action = trouble(random);
            }
        }
        // A burst, in which hosts change while much is under way.
        let at_ms = random.random_range(5_000..60_000);
        for _ in 0..random.random_range(0..20) {
            let action = action(random);
            if !matches!(action, Action::Crash | Action::Restart) {
                let at_ms = at_ms + random.random_range(0..4_000);
                plan.steps.push(PlannedStep { at_ms, action, host: random.random_range(0..hosts) });
            }
        }
        race_with_stops(&mut plan.steps, hosts, random);
        // Drawn apart, so that the rest of a plan does not depend on them.
        move_shards(&mut plan.steps, hosts, &mut ChaCha12Rng::seed_from_u64(seed ^ 0x5a4d));
        plan.steps.sort_by_key(|step| step.at_ms);
        plan
    }
}

/// Adds events that are accepted while a subscription is paused, disabled or deleted at another host.
fn race_with_stops(steps: &mut Vec<PlannedStep>, hosts: usize, random: &mut ChaCha12Rng) {
    let stops = steps
        .iter()
        .filter(|step| matches!(step.action, Action::Pause { .. } | Action::Disable { .. } | Action::Delete { .. }));
    let times: Vec<u64> = stops.map(|step| step.at_ms).collect();
    for at_ms in times {
        for tenant in 0..TENANTS {
            let module = if random.random_bool(0.7) { Module::Contact } else { Module::Deal };
            let events = random.random_range(1..4);
            let action = Action::Accept { tenant, module, entity: 0, events, has_key: true };
            let at_ms = at_ms + random.random_range(0..250);
            steps.push(PlannedStep { at_ms, action, host: random.random_range(0..hosts) });
        }
    }
}

/// Adds moves of shards by hand.
fn move_shards(steps: &mut Vec<PlannedStep>, hosts: usize, random: &mut ChaCha12Rng) {
    for _ in 0..random.random_range(0..8) {
        let to = random.random_bool(0.8).then(|| random.random_range(0..hosts));
        let action = Action::MoveShard { pick: random.random_range(0..1_000), to };
        let at_ms = random.random_range(0..ACTIVE_MS);
        steps.push(PlannedStep { at_ms, action, host: random.random_range(0..hosts) });
    }
}

fn trouble(random: &mut ChaCha12Rng) -> Action {
    let what = match random.random_range(0..20) {
        0..6 => HostTrouble::Killed,
        6..11 => HostTrouble::Frozen,
        11..14 => HostTrouble::CutOff,
        14..16 => HostTrouble::Outage,
        _ => HostTrouble::Stopped,
    };
    // Shorter and longer than a lease.
    let for_ms = match random.random_range(0..3) {
        0 => random.random_range(0..1_000),
        1 => random.random_range(1_000..7_000),
        _ => random.random_range(7_000..25_000),
    };
    Action::OfHost { what, for_ms }
}
