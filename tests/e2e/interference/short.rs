//! Short form: some scenarios for a few seconds each, on the debug build and a busy machine.
//!
//! The limits are far above the goals of the table, and far below the results without the defence, in which the host dies or grows
//! without bound, or the honest tenant waits for half a minute or longer.

use super::arena::Scale;
use super::figures::Goals;
use super::run::{Plan, run};
use super::table::{MEMORY_MIB_MAX, scenario};
use std::time::Duration;

const LIMITS: Goals = Goals {
    post: Duration::from_secs(20),
    health: Duration::from_secs(20),
    read: Duration::from_secs(20),
    delivery: Duration::from_secs(20),
    memory_mib: MEMORY_MIB_MAX,
};

const PLAN: Plan = Plan {
    scale: Scale::Short,
    pace: Duration::from_millis(100),
    alone: Duration::from_secs(1),
    during: Duration::from_secs(5),
    patience: Duration::from_secs(120),
};

/// Runs a scenario and checks that the host holds every limit.
async fn check(name: &str) {
    let outcome = run(scenario(name), PLAN).await;
    let missed = outcome.missed(&LIMITS);
    assert!(missed.is_empty(), "{missed:?}: {}", outcome.line(name, &LIMITS));
}

#[tokio::test]
async fn debug_sections_of_a_plugin() {
    check("debug-ranges").await;
}

#[tokio::test]
async fn plugins_that_spin() {
    check("spinning-plugins").await;
}

#[tokio::test]
async fn receivers_that_hang() {
    check("hanging-receivers").await;
}

#[tokio::test]
async fn a_batch_for_many_webhooks() {
    check("fan-out").await;
}

#[tokio::test]
async fn bodies_that_stop_before_their_end() {
    check("stalled-bodies").await;
}

#[tokio::test]
async fn connections_that_read_nothing() {
    check("read-nothing").await;
}

#[tokio::test]
async fn searches_that_find_nothing() {
    check("bin-searches").await;
}
