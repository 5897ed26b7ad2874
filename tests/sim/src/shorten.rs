//! Shorter plans that fail as a given one does.

use crate::plan::{Plan, PlannedFaults};
use crate::run;
use std::time::Duration;

/// Maximum number of runs that a shortening takes.
const RUNS_MAX: usize = 2_000;

/// Returns the shortest plan found that fails, beginning with one that does.
pub fn shortened(plan: &Plan) -> Plan {
    let mut runs = 0;
    let mut fails = |plan: &Plan| {
        runs += 1;
        runs <= RUNS_MAX && run(plan).violation.is_some()
    };
    let mut best = plan.clone();
    let calm = PlannedFaults { refused: 0.0, lost: 0.0, unread: 0.0, delay: Duration::ZERO };
    for faults in [calm, PlannedFaults { delay: plan.faults.delay, ..calm }] {
        let other = Plan { faults, ..best.clone() };
        if fails(&other) {
            best = other;
            break;
        }
    }
    loop {
        let before = best.len();
        best = without_steps(best, &mut fails);
        best = without_subscriptions(best, &mut fails);
        if best.len() == before {
            return best;
        }
    }
}

/// Leaves out steps, in parts that become smaller.
fn without_steps(mut best: Plan, fails: &mut impl FnMut(&Plan) -> bool) -> Plan {
    let mut part = best.steps.len().div_ceil(2);
    while part > 0 {
        let mut from = 0;
        while from < best.steps.len() {
            let mut other = best.clone();
            other.steps.drain(from..(from + part).min(best.steps.len()));
            if fails(&other) {
                best = other;
            } else {
                from += part;
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    best
}

fn without_subscriptions(mut best: Plan, fails: &mut impl FnMut(&Plan) -> bool) -> Plan {
    let mut at = 0;
    while at < best.subscriptions.len() {
        let mut other = best.clone();
        other.subscriptions.remove(at);
        if fails(&other) {
            best = other;
        } else {
            at += 1;
        }
    }
    best
}
