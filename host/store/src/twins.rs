//! Stores that do the same and must answer the same: one in memory, and one on SQLite or PostgreSQL.
//!
//! # Theory of operation
//! A case is a sequence of operations. All stores run each of them, under one clock that only the test turns, and their answers are
//! compared as texts. Ids and credentials are random, so each store has its own: in the texts of a store, each is replaced by a name
//! with the number of its first appearance. The texts are the same only if the ids correspond. A difference is a fault of one of the
//! stores; what is right follows from the traits of [`backend`](crate::backend).
//!
//! New ids follow each other in the whole process, whatever the clock, so other tests would shift their times. The comparison runs in
//! a process of its own.
//!
//! # Limits
//! Sizes in bytes are not compared, because they differ by design.

mod access;
mod bins;
mod lanes;
mod names;
mod operation;
mod operators;
mod plugins;
mod portal;
mod side;
mod subscriptions;
mod survey;
mod upkeep;

use crate::Caps;
use crate::backend::upkeep::STEP;
use hookloom_model::clock::{self, ManualClock};
use operation::{TwinStep, TwinWhat, steps};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use side::TwinSide;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use survey::Survey;

/// Number of steps after which all stores are read completely.
const SURVEY_EVERY: usize = 6;

/// Time between the beginnings of two cases, in milliseconds, more than a case turns the clock. Ids grow over all cases.
const CASE_MS: i64 = 1_000 * 86_400_000;

/// Times that pass, and by which the clock is set.
const PAUSES_MS: [i64; 8] = [10, 1_000, 7_000, 90_000, 3_600_000, 7_200_000, 86_400_000, 9 * 86_400_000];

/// Number of times that a case is run in which a lease ends.
const RUNS_MAX: usize = 5;

/// Beginning of the next case, in milliseconds since the epoch.
static NEXT_CASE_MS: AtomicI64 = AtomicI64::new(20_833 * 86_400_000);

/// Backend of a store.
#[derive(Clone, Copy, Debug)]
enum TwinKind {
    Memory,
    Sqlite,
    Postgres,
}

/// Stores of a case, and the clock that they share.
struct Twins {
    clock: Arc<ManualClock>,
    kinds: Vec<TwinKind>,
    sides: Vec<TwinSide>,
}

impl Twins {
    async fn new(clock: Arc<ManualClock>, kinds: &[TwinKind], share: Caps) -> Self {
        let mut sides = Vec::new();
        for kind in kinds {
            sides.push(match kind {
                TwinKind::Memory => TwinSide::in_memory(share).await,
                TwinKind::Sqlite => TwinSide::on_sqlite(share).await,
                TwinKind::Postgres => TwinSide::on_postgres(share).await,
            });
        }
        Twins { clock, kinds: kinds.to_vec(), sides }
    }

    /// Runs a step on all stores, and returns a description of the first difference.
    async fn take(&mut self, step: &TwinStep) -> Result<(), String> {
        // Things are made at different times, so that lists by time have an order.
        self.clock.pass(1);
        match step.what {
            TwinWhat::Pass => self.clock.pass(PAUSES_MS[step.pick].unsigned_abs()),
            TwinWhat::SetBack => self.clock.set_wall(-PAUSES_MS[step.pick]),
            TwinWhat::SetForward => self.clock.set_wall(PAUSES_MS[step.pick]),
            _ => {}
        }
        let mut answers = Vec::new();
        for side in &mut self.sides {
            answers.push(side.act(step).await);
        }
        // First, so that the end of a lease is seen even if the answers differ because of it.
        let published: Vec<String> = self.sides.iter_mut().map(TwinSide::published).collect();
        self.differs("answer", &answers)?;
        self.differs("published", &published)
    }

    /// Reads everything from all stores, and returns a description of the first difference.
    async fn survey(&mut self) -> Result<(), String> {
        let mut surveys = Vec::new();
        for side in &mut self.sides {
            surveys.push(side.survey().await);
        }
        for (index, (what, answer)) in surveys[0].iter().enumerate() {
            // A store with fewer things has fewer answers.
            let answer_of = |survey: &Survey| survey.get(index).map(|(_, answer)| answer.clone()).unwrap_or_default();
            let answers: Vec<String> = surveys.iter().map(answer_of).collect();
            self.differs(what, &answers)?;
            if *what == survey::LAW && answer != "true" {
                let ledgers: Vec<_> = surveys[0].iter().filter(|(what, _)| *what == "ledger").collect();
                return Err(format!("the law of the ledger does not hold in any store: {ledgers:?}"));
            }
        }
        Ok(())
    }

    /// Returns an error with two of the texts, unless all are the same.
    fn differs(&self, what: &str, answers: &[String]) -> Result<(), String> {
        let first = &answers[0];
        let Some(index) = answers.iter().position(|answer| answer != first) else { return Ok(()) };
        let other = &answers[index];
        let same = first.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
        let near = |text: &str| {
            let from = text.floor_char_boundary(same.saturating_sub(300));
            let to = text.floor_char_boundary((same + 300).min(text.len()));
            text[from..to].to_owned()
        };
        let [one, two] = [self.kinds[0], self.kinds[index]];
        Err(format!("{what} differs at {same}:\n  {one:?}: …{}…\n  {two:?}: …{}…", near(first), near(other)))
    }
}

/// Runs steps on new stores, and describes the first difference.
///
/// A machine that is too busy to renew the lease of a host within seconds says nothing about the stores: the steps are run again.
fn compare(kinds: &[TwinKind], events_max: Option<u64>, steps: &[TwinStep]) -> Result<(), TestCaseError> {
    for _ in 0..RUNS_MAX {
        if let Some(found) = compare_once(kinds, events_max, steps) {
            return found;
        }
    }
    Err(TestCaseError::fail(format!("a lease ended in each of {RUNS_MAX} runs")))
}

/// Runs steps on new stores, and describes the first difference. None: a lease ended meanwhile.
fn compare_once(kinds: &[TwinKind], events_max: Option<u64>, steps: &[TwinStep]) -> Option<Result<(), TestCaseError>> {
    let clock = Arc::new(ManualClock::at(NEXT_CASE_MS.fetch_add(CASE_MS, Ordering::Relaxed)));
    let _entered = clock::enter(Some(clock.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let share = events_max.map_or(Caps::NONE, |events| Caps { events, ..Caps::NONE });
    runtime.block_on(async {
        let mut twins = Twins::new(clock, kinds, share).await;
        for (index, step) in steps.iter().enumerate() {
            let mut found = twins.take(step).await;
            if found.is_ok() && (index % SURVEY_EVERY == SURVEY_EVERY - 1 || index + 1 == steps.len()) {
                found = twins.survey().await;
            }
            if twins.sides.iter().any(|side| side.lost_its_lease) {
                return None;
            }
            if let Err(difference) = found {
                return Some(Err(TestCaseError::fail(told(events_max, &steps[..=index], &difference))));
            }
        }
        Some(Ok(()))
    })
}

/// Returns the steps of a case and its first difference, as a text for people.
fn told(events_max: Option<u64>, steps: &[TwinStep], difference: &str) -> String {
    let mut text = format!("the stores differ, with at most {events_max:?} events, after:\n");
    for (index, TwinStep { tenant, what, pick, more }) in steps.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:>3} {what:?} tenant {tenant} pick {pick} more {more}", index + 1);
    }
    text + difference
}

/// Returns a strategy for the share of a tenant, in events. None: no limit.
fn shares() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![3 => Just(None), 1 => (2_u64..14).prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..cases(48) })]

    #[test]
    #[ignore = "shifts the ids of other tests: runs in a process of its own"]
    fn sqlite_compared(events_max in shares(), steps in steps(48)) {
        compare(&[TwinKind::Memory, TwinKind::Sqlite], events_max, &steps)?;
    }
}

proptest! {
    // Each case makes a database and waits for each statement.
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..cases(24) })]

    #[test]
    #[ignore = "shifts the ids of other tests: runs in a process of its own"]
    fn postgres_compared(events_max in shares(), steps in steps(48)) {
        compare(&[TwinKind::Memory, TwinKind::Postgres], events_max, &steps)?;
    }
}

/// Returns the settings of a test with this number of cases, unless the environment says otherwise.
fn cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    match std::env::var("PROPTEST_CASES") {
        Ok(_) => default,
        Err(_) => ProptestConfig { cases, ..default },
    }
}

/// Runs an ignored test of this module in another process.
fn run_alone(name: &str) {
    let program = std::env::current_exe().expect("the program of the tests");
    let test = format!("twins::{name}");
    let mut command = std::process::Command::new(program);
    let output = command.args([&*test, "--exact", "--ignored", "--nocapture"]).output().expect("it runs");
    let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && out.contains("1 passed"), "{out}{error}");
}

#[test]
fn memory_and_sqlite_answer_the_same() {
    run_alone("sqlite_compared");
}

#[test]
fn memory_and_postgres_answer_the_same() {
    run_alone("postgres_compared");
}

#[test]
fn all_stores_answer_the_same_when_work_takes_steps() {
    run_alone("compared_in_bulk");
}

const _: () = assert!(side::BULK > 2 * STEP);

/// Returns an operation on the first tenant.
fn bulk(what: TwinWhat, pick: usize, more: usize) -> TwinStep {
    TwinStep { tenant: 0, what, pick, more }
}

/// Compares operations on more deliveries than one step takes.
#[test]
#[ignore = "shifts the ids of other tests: runs in a process of its own"]
fn compared_in_bulk() {
    use TwinWhat::*;
    let accept = [bulk(AcceptBulk, 0, 0), bulk(AcceptBulk, 1, 0)];
    let plans: [&[TwinStep]; 5] = [
        &[bulk(Disable, 0, 0), bulk(Resume, 0, 0), bulk(Redrive, 0, 0), bulk(Unsubscribe, 0, 0)],
        &[bulk(Replay, 0, 0), bulk(CountReplayable, 0, 0), bulk(Test, 0, 0), bulk(Disable, 1, 0)],
        &[bulk(AwaitAll, 0, 0), bulk(Edit, 0, 0), bulk(Claim, 0, 1), bulk(Sweep, 0, 0), bulk(Claim, 0, 1)],
        &[bulk(Delay, 0, 0), bulk(SetBack, 0, 1), bulk(Claim, 0, 0), bulk(Unsubscribe, 0, 0)],
        &[bulk(Disable, 0, 0), bulk(Disable, 0, 0), bulk(Pass, 6, 0), bulk(Prune, 0, 1), bulk(Replay, 0, 0)],
    ];
    for plan in plans {
        let steps = [&accept[..], plan].concat();
        compare(&[TwinKind::Memory, TwinKind::Sqlite, TwinKind::Postgres], None, &steps).expect("no difference");
    }
}
