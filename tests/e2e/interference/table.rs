//! Table of `cargo xtask soak interference`: every scenario with its goals.

use super::arena::Scale;
use super::figures::{Goals, HEAD};
use super::run::{Plan, Scenario, run};
use super::{connections, guests, reads, receivers, writes};
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// Maximum peak of the host's resident memory with default settings, whose parts `docs/explanation/resource-limits.md` lists.
pub(super) const MEMORY_MIB_MAX: u64 = 1_024;

const GOALS: Goals = Goals {
    post: Duration::from_millis(100),
    health: Duration::from_millis(50),
    read: Duration::from_secs(1),
    delivery: Duration::from_secs(1),
    memory_mib: MEMORY_MIB_MAX,
};

const PLAN: Plan = Plan {
    scale: Scale::Full,
    pace: Duration::from_millis(20),
    alone: Duration::from_secs(4),
    during: Duration::from_secs(10),
    patience: Duration::from_secs(60),
};

/// Number of file descriptors for a scenario, including the host's.
const FILES_MAX: u64 = 8_192;

/// Returns all scenarios, in the order of the table.
fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    static NOTHING: Scenario = Scenario::new("nothing", "no attack", |_| Box::pin(async { Vec::new() }));
    let attacks = [guests::ALL, writes::ALL, reads::ALL, receivers::ALL, connections::ALL];
    [&NOTHING].into_iter().chain(attacks.into_iter().flatten())
}

/// Environment variable with the name of the only scenario to run.
const ROW_VARIABLE: &str = "SOAK_ROW";

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn print(line: &str) {
    println!("{line}");
}

/// Returns the scenario with this name.
pub(super) fn scenario(name: &str) -> &'static Scenario {
    let names: Vec<&str> = scenarios().map(|scenario| scenario.name).collect();
    let found = scenarios().find(|scenario| scenario.name == name);
    found.unwrap_or_else(|| panic!("there is no scenario {name:?}; there are {}", names.join(", ")))
}

#[tokio::test]
#[ignore = "long; cargo xtask soak interference runs it"]
async fn table() {
    rlimit::increase_nofile_limit(FILES_MAX).unwrap();
    let wanted = std::env::var(ROW_VARIABLE).ok().filter(|name| !name.is_empty());
    let rows = wanted.map_or_else(|| scenarios().collect(), |name| vec![scenario(&name)]);
    print(HEAD);
    let mut met = 0;
    let mut broken = Vec::new();
    let mut unmeasured = Vec::new();
    for &scenario in &rows {
        let what = format!("`{}`: {}", scenario.name, scenario.what);
        // A scenario that fails is reported, and the others are measured.
        let Ok(outcome) = AssertUnwindSafe(run(scenario, PLAN)).catch_unwind().await else {
            print(&format!("| {what} | could not be measured |"));
            unmeasured.push(scenario.name);
            continue;
        };
        print(&outcome.line(&what, &GOALS));
        met += usize::from(outcome.missed(&GOALS).is_empty());
        broken.extend(outcome.is_broken().then_some(scenario.name));
    }
    print(&format!("\n{met} of {} scenarios met every goal", rows.len()));
    assert!(unmeasured.is_empty(), "could not be measured: {}", unmeasured.join(", "));
    assert!(broken.is_empty(), "the host died or lost events of the honest tenant: {}", broken.join(", "));
}
