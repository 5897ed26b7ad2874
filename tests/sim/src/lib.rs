//! Simulation of the dispatcher: the real lanes, policies and claims, on the store in memory, in simulated time.
//!
//! # Guarantees
//! - One seed decides about everything: what happens and when ([`plan`]), how receivers and plugins behave, which operations of the
//!   database fail or lose their answer, every jitter and every id. The same seed gives the same history.
//! - Nothing waits: the time of the runtime is paused and jumps to the next timer.
//! - A failing seed is shortened ([`shorten`]) to a plan that still fails, with its history.
//!
//! # Theory of operation
//! A simulation of one host is a sequence of its lives, each in a runtime of its own. A crash drops the runtime with all its tasks, wherever
//! they wait; the tables in memory are what a disk would keep. The [`world`] outlives the host: senders that repeat a request until it
//! is answered, receivers that check each request, and what was promised. At the end, everything works again, and every promise must
//! be kept.
//!
//! Several hosts share the tables in memory ([`fleet`]). Each has a runtime of its own ([`machine`]), and they run in turns, for some
//! milliseconds of the simulated time each. So a host can be frozen while its shards are taken over, and goes on as a zombie.
//!
//! # Limits
//! The network and the plugins are models. SQLite is not simulated: the property tests of the store compare it with the tables in memory.

mod actions;
mod checks;
mod clock;
mod fleet;
mod host;
mod judge;
mod machine;
mod plan;
mod plan_fleet;
mod receivers;
mod shorten;
mod world;

pub use plan::Plan;
pub use shorten::shortened;

use hookloom_model::{chance, clock as model_clock};
use host::LifeEnd;
use world::World;

/// Result of a simulation.
#[derive(Clone, Debug)]
pub struct Run {
    /// Guarantee that was violated first.
    pub violation: Option<String>,
    /// Everything that happened, one line each.
    pub history: Vec<String>,
    /// Number of attempts.
    pub attempts: u64,
    /// Number of lives of the host.
    pub lives: u64,
}

/// Runs a plan.
///
/// # Panics
/// If the runtime cannot be created.
pub fn run(plan: &Plan) -> Run {
    let _seeded = chance::seed(plan.seed);
    let world = World::new(plan.seed, if plan.fleet.is_some() { fleet::STEP_MAX_MS } else { 0 });
    let _entered = model_clock::enter(Some(world.clock.clone()));
    let lives = if plan.fleet.is_some() { fleet::run(&world, plan) } else { run_host(&world, plan) };
    world.with(|state| Run {
        violation: state.violation.take(),
        history: std::mem::take(&mut state.history),
        attempts: state.attempts,
        lives,
    })
}

/// Runs a plan of a host that has the database for itself. Returns the number of its lives.
fn run_host(world: &World, plan: &Plan) -> u64 {
    let mut from = 0;
    let mut lives = 0;
    loop {
        lives += 1;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let end = runtime.expect("a runtime").block_on(host::live(world, plan, from));
        match end {
            LifeEnd::Continues(next) if world.is_sound() => from = next,
            LifeEnd::Continues(_) | LifeEnd::Over => return lives,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of seeds of a test run. `cargo xtask sim` runs as many as wanted.
    const SEEDS: u64 = 200;

    /// Maximum number of hosts of a fleet.
    const HOSTS: usize = 3;

    #[test]
    fn the_guarantees_hold_whatever_a_seed_does() {
        check(Plan::of, "");
    }

    #[test]
    fn the_guarantees_hold_for_hosts_that_share_a_database() {
        check(|seed| Plan::of_fleet(seed, HOSTS), " --hosts 3");
    }

    #[track_caller]
    fn check(plan: impl Fn(u64) -> Plan + Sync, option: &str) {
        let failure_of = &|seed: u64| {
            let violation = run(&plan(seed)).violation?;
            Some(format!("{violation}: cargo xtask sim --seed {seed}{option}"))
        };
        let failing = std::thread::scope(|scope| {
            let halves = [0, 1].map(|half| scope.spawn(move || (half..SEEDS).step_by(2).find_map(failure_of)));
            halves.into_iter().find_map(|half| half.join().expect("no panic"))
        });
        assert_eq!(failing, None);
    }

    #[test]
    fn a_seed_gives_the_same_history_again() {
        for plan in (0..20).map(Plan::of).chain((0..10).map(|seed| Plan::of_fleet(seed, HOSTS))) {
            let [one, other] = [(), ()].map(|()| run(&plan));
            assert_eq!(one.history, other.history, "{plan}");
            assert!(one.attempts > 0 || one.history.len() > 3, "{plan}");
        }
    }

    #[test]
    fn seeds_meet_every_kind_of_trouble() {
        let histories: String = (0..60).flat_map(|seed| run(&Plan::of(seed)).history).collect();
        meets(
            &histories,
            &[
                "the host is killed",
                "the host stops",
                "the answer of the database was lost",
                "the database cannot be reached",
                "repeated: true",
                "is Paused",
                "is Disabled",
                "is deleted",
                "the clock is set",
                "Hangs",
                "Lies",
                "Throttles",
                "Answers(410)",
                " stands for 2 events",
                " stands for 3 events",
            ],
        );
    }

    #[test]
    fn fleets_meet_every_kind_of_trouble() {
        let histories: String = (0..40).flat_map(|seed| run(&Plan::of_fleet(seed, HOSTS)).history).collect();
        meets(
            &histories,
            &[
                "host 1 is killed",
                "host 1 is frozen",
                "host 1 is cut off",
                "no host reaches the database",
                "host 2 has stopped",
                "host 2 serves",
                "from host 2",
                "host 1 owns ",
                "is to be at Some(",
                " stands for 2 events",
                "the answer of the database was lost",
                "repeated: true",
            ],
        );
    }

    #[track_caller]
    fn meets(histories: &str, troubles: &[&str]) {
        for trouble in troubles {
            assert!(histories.contains(trouble), "{trouble:?} is in no history");
        }
    }
}
