//! Mutations of the host, each of which the simulation or a unit test must find: `cargo xtask mutations`.
//!
//! A mutation replaces one text of one file by another. They are applied to a copy of the last commit, one after the other, and the
//! simulation runs until a seed fails, or the unit test that is named beside the mutation runs and must fail.

mod fleet;
mod settling;
mod unit_tests;

use crate::{Failure, cargo, root, run as run_command, say};
use std::path::Path;
use std::process::{Command, Stdio};

/// Small change of the host that breaks a guarantee.
struct Mutation {
    /// Fault of the host.
    name: &'static str,
    file: &'static str,
    old: &'static str,
    new: &'static str,
    check: Check,
}

/// Check that must fail with a mutation.
enum Check {
    /// Simulation, with the maximum number of hosts that share the database. None: one host has it for itself.
    Simulation { hosts: Option<u8> },
    /// Unit test of the store, by its path in the crate.
    UnitTest(&'static str),
}

const fn mutation(name: &'static str, file: &'static str, old: &'static str, new: &'static str) -> Mutation {
    Mutation { name, file, old, new, check: Check::Simulation { hosts: None } }
}

/// Returns the mutations of one host and of a fleet.
fn all() -> impl Iterator<Item = &'static Mutation> {
    MUTATIONS.iter().chain(&fleet::MUTATIONS).chain(&settling::MUTATIONS).chain(&unit_tests::MUTATIONS)
}

const MEMORY: &str = "host/store/src/memory.rs";
const MEMORY_LANES: &str = "host/store/src/memory/lanes.rs";
const MEMORY_INTAKE: &str = "host/store/src/memory/intake.rs";
const CLAIMS: &str = "host/store/src/claims.rs";
const LANES: &str = "host/store/src/lanes.rs";
const LANE: &str = "host/deliver/src/lane.rs";
const QUEUE: &str = "host/deliver/src/queue.rs";
const FLOW: &str = "host/deliver/src/flow_control.rs";
const TASK: &str = "host/deliver/src/task.rs";
const RETRY: &str = "host/model/src/retry.rs";

/// Mutations of one host.
const MUTATIONS: [Mutation; 33] = [
    mutation(
        "a commit is skipped now and then, and answered",
        MEMORY,
        "        *tables = copy;\n",
        "        if copy.sequence % 9 != 8 {\n            *tables = copy;\n        }\n",
    ),
    mutation(
        "a page does not register its claims",
        CLAIMS,
        "        if state.ended.contains(&delivery.id) || !state.claimed.insert(delivery.id) {",
        "        if state.ended.contains(&delivery.id) || state.claimed.contains(&delivery.id) {",
    ),
    mutation(
        "claims that end while a page is read are forgotten",
        CLAIMS,
        "        if state.pages > 0 {\n            state.ended.insert(id);\n        }\n",
        "",
    ),
    mutation(
        "a fresh delivery is queued without its claim",
        CLAIMS,
        "        lane.state.lock().claimed.insert(delivery.id);\n        Some",
        "        Some",
    ),
    mutation(
        "a claim is released before its outcome is recorded",
        LANES,
        "        Unfinished::unless(self.record(claim.delivery(), record).await, claim)",
        "        let delivery = claim.delivery().clone();\n        claim.release();\n        let _ = self.record(&delivery, record).await;\n        Ok(())",
    ),
    mutation(
        "an outcome counts again when it is recorded again",
        MEMORY_LANES,
        "row.state == DeliveryState::Pending && row.attempts_made == delivery.attempts_made",
        "row.state == DeliveryState::Pending",
    ),
    mutation(
        "an idempotency key is not looked up",
        MEMORY_INTAKE,
        "        && let Some(events) = earlier_answer(tables, &request.tenant, once)?\n",
        "        && let Some(events) = earlier_answer(tables, &request.tenant, once)?.filter(|_| false)\n",
    ),
    mutation(
        "stale receivers are accepted",
        MEMORY_INTAKE,
        "    if !state.catalog.is_current(&request.tenant, &request.receivers.receivers) {",
        "    if false && !state.catalog.is_current(&request.tenant, &request.receivers.receivers) {",
    ),
    mutation(
        "an event promises one delivery more than it makes",
        MEMORY_INTAKE,
        "    let event = write_event(tables, tenant, new, deliveries);\n    for subscription in receivers {",
        "    let event = write_event(tables, tenant, new, deliveries + 1);\n    for subscription in receivers {",
    ),
    mutation(
        "new deliveries are not published",
        "host/store/src/host_state.rs",
        "            let _ = self.store_events.send(StoreEvent::Accepted(new_deliveries));\n",
        "            drop(new_deliveries);\n",
    ),
    mutation(
        "replays are not counted in the ledger",
        "host/store/src/memory/operator_actions.rs",
        "row.replayed += made",
        "row.replayed += 0 * made",
    ),
    mutation(
        "pruned deliveries are not counted in the ledger",
        "host/store/src/memory/upkeep.rs",
        "            DeliveryState::Delivered => ledger.pruned.delivered += 1,",
        "            DeliveryState::Delivered => {}",
    ),
    mutation(
        "events with pending deliveries are pruned",
        "host/store/src/memory/upkeep.rs",
        "    has_pending(row.event.id)\n        || ",
        "    ",
    ),
    mutation(
        "an order that blocks does not block",
        LANES,
        "                Some(Ordering::Block) => u32::MAX,",
        "                Some(Ordering::Block) => 0,",
    ),
    mutation(
        "an order goes on one attempt early",
        LANES,
        "                Some(Ordering::SkipAfter { attempts }) => attempts,",
        "                Some(Ordering::SkipAfter { attempts }) => attempts - 1,",
    ),
    mutation(
        "the schedule is read one entry too early",
        RETRY,
        "policy.schedule_s.get(moment.attempts as usize)",
        "policy.schedule_s.get(moment.attempts as usize - 1)",
    ),
    mutation(
        "jitter makes delays shorter",
        RETRY,
        "(wait_ms + jitter_ms).max(delay_ms)",
        "(wait_ms - jitter_ms).max(delay_ms)",
    ),
    mutation(
        "a refused request counts as delivered",
        RETRY,
        "        Outcome::Answered { status: 200..=299, .. } => Next::End",
        "        Outcome::Answered { status: 200..=404, .. } => Next::End",
    ),
    mutation(
        "the circuit breaker never half-opens",
        FLOW,
        "            if now < until {\n                return Admission::NotBefore(until, PauseReason::Breaker);",
        "            if now < until || lasts > Duration::ZERO {\n                return Admission::NotBefore(now + OPEN_MIN, PauseReason::Breaker);",
    ),
    mutation(
        "the circuit breaker never opens",
        FLOW,
        "            Breaker::Closed { .. } => Breaker::Open { until: now + OPEN_MIN, lasts: OPEN_MIN },",
        "            closed @ Breaker::Closed { .. } => closed,",
    ),
    mutation(
        "one request too many is under way",
        FLOW,
        "        if in_flight >= self.window(concurrency) {",
        "        if in_flight > self.window(concurrency) {",
    ),
    mutation(
        "the rate of a subscription is ignored",
        FLOW,
        "        self.bucket.take();",
        "        self.bucket = TokenBucket::default();",
    ),
    mutation(
        "the pause that a receiver asks for is ignored",
        FLOW,
        "        self.retry_after_until = self.retry_after_until.max(Some(now + retry_after));",
        "        self.retry_after_until = self.retry_after_until.max(Some(now + retry_after / 100));",
    ),
    mutation(
        "a lane starts an attempt although its subscription was paused meanwhile",
        LANE,
        "current.filter(|current| current.state == SubscriptionState::Active && !stale)",
        "current.filter(|_| !stale || stale)",
    ),
    mutation(
        "a lane that waited does not look whether its receiver has failed meanwhile",
        LANE,
        "        if self.take_events().await && self.admission(subscription) != Admission::Allow {",
        "        if self.take_events().await && self.disabling > 1_000 {",
    ),
    mutation(
        "an attempt that had to read its event does not look at its subscription again",
        TASK,
        "    let due = load(context, next).await?;\n    // Also if the event was in memory: a change may have been answered before this task began.\n    if !is_wanted(",
        "    let due = load(context, next).await?;\n    if false && !is_wanted(",
    ),
    mutation(
        "a prepared request is sent although its subscription was paused meanwhile",
        TASK,
        "    is_owned && unchanged && retry::too_old_by_now",
        "    is_owned && (unchanged || !unchanged) && retry::too_old_by_now",
    ),
    mutation(
        "a prepared request is sent although its receiver needs a pause since then",
        TASK,
        "    if prepared.is_request() && handle.flow()",
        "    if !prepared.is_request() && handle.flow()",
    ),
    mutation(
        "a lane forgets when a delivery is due again",
        LANE,
        "        if let Some(at_ms) = recorded.again_at_ms {\n            self.queue.note_due_again(at_ms);\n        }\n",
        "",
    ),
    mutation(
        "a lane ends what it has when its subscription changes",
        QUEUE,
        "        self.retry.ready.clear();\n        self.recheck_store();",
        "        self.retry.ready.clear();",
    ),
    mutation(
        "deliveries without a reservation are dropped",
        QUEUE,
        "                due.claim.release();\n                return self.mark_store_dirty();",
        "                due.claim.release();\n                return;",
    ),
    mutation(
        "an outcome that could not be recorded is given up",
        "host/deliver/src/outcome.rs",
        "        claim = unfinished;\n    }",
        "        std::mem::forget(unfinished);\n        return;\n    }",
    ),
    mutation(
        "the queue takes more memory than its budget",
        QUEUE,
        "        let host_permit = budget.free.try_acquire(&due.delivery().tenant, bytes as u64)?;",
        "        let host_permit = budget.free.try_acquire(&due.delivery().tenant, 1)?;",
    ),
];

/// Maximum number of seeds that are run for a mutation, and maximum time in seconds.
const SEEDS: u32 = 2_000;
const TIME_MAX_S: u32 = 600;

/// Text after the number of a seed that fails, and after the number of seeds that do not.
const FAILS: &str = " fails: ";
const SOUND: &str = " seeds are sound";

/// Result of a mutation.
enum Outcome {
    /// A seed or the unit test fails.
    Found { by: String, violation: String },
    /// Seeds or unit test that do not fail.
    Missed(String),
}

/// Applies each mutation whose name contains `filter` to a copy of the last commit, and runs its check.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let filter = arguments.first().map_or("", String::as_str);
    let copy = root().join("target/mutations");
    remove(&copy);
    run_command(git().args(["worktree", "add", "--force", "--detach"]).arg(&copy).arg("HEAD"))?;
    let mut missed = Vec::new();
    for one in all().filter(|one| one.name.contains(filter)) {
        let found = try_one(&copy, one);
        let text = match &found {
            Ok(Outcome::Found { by, violation }) => format!("{by:>9}: {violation}"),
            Ok(Outcome::Missed(by)) => format!("NOT FOUND by {by}"),
            Err(failure) => format!("NOT FOUND: {failure}"),
        };
        say(&format!("{:<75} {text}", one.name));
        missed.extend((!matches!(found, Ok(Outcome::Found { .. }))).then_some(one.name));
    }
    remove(&copy);
    if missed.is_empty() { Ok(()) } else { Err(format!("not found: {}", missed.join("; "))) }
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.current_dir(root());
    git
}

/// Removes the copy of an earlier run.
fn remove(copy: &Path) {
    let removed = git().args(["worktree", "remove", "--force"]).arg(copy).stderr(Stdio::null()).status();
    if !removed.is_ok_and(|status| status.success()) {
        let _ = std::fs::remove_dir_all(copy);
    }
}

/// Runs the check of one mutation.
fn try_one(copy: &Path, one: &Mutation) -> Result<Outcome, Failure> {
    let path = copy.join(one.file);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if text.matches(one.old).count() != 1 {
        return Err(format!("its text is not once in {}", one.file));
    }
    write(&path, &text.replace(one.old, one.new))?;
    let found = match one.check {
        Check::Simulation { hosts } => build_and_simulate(copy, hosts),
        Check::UnitTest(test) => unit_tests::run(copy, test),
    };
    write(&path, &text)?;
    found
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn build_and_simulate(copy: &Path, hosts: Option<u8>) -> Result<Outcome, Failure> {
    let built = cargo()
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", root().join("target"))
        .args(["build", "--quiet", "-p", "hookloom-sim"])
        .status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("it does not compile".to_owned());
    }
    simulate(&root().join("target/debug/hookloom-sim"), hosts)
}

fn simulate(program: &Path, hosts: Option<u8>) -> Result<Outcome, Failure> {
    let mut simulation = Command::new(program);
    simulation.args(["--whole", "--seeds", &SEEDS.to_string(), "--time-max-s", &TIME_MAX_S.to_string()]);
    if let Some(hosts) = hosts {
        simulation.args(["--hosts", &hosts.to_string()]);
    }
    let output = simulation.stderr(Stdio::null()).output();
    let output = output.map_err(|error| format!("the simulation does not start: {error}"))?;
    outcome_of(&String::from_utf8_lossy(&output.stdout))
}

/// Reads what the simulation printed.
fn outcome_of(text: &str) -> Result<Outcome, Failure> {
    for line in text.lines() {
        let failed = line.strip_prefix("seed ").and_then(|line| line.split_once(FAILS));
        if let Some((Ok(seed), violation)) = failed.map(|(seed, violation)| (seed.parse::<u32>(), violation)) {
            return Ok(Outcome::Found { by: format!("seed {seed}"), violation: violation.to_owned() });
        }
        if let Some(Ok(seeds)) = line.split_once(SOUND).map(|(seeds, _)| seeds.parse::<u32>()) {
            return Ok(Outcome::Missed(format!("{seeds} seeds")));
        }
    }
    Err(format!("the simulation ended without a result: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutation_is_missed_if_the_seeds_that_were_run_are_sound() {
        let missed = outcome_of("412 seeds are sound, with 67000 attempts, in 600.1 s: 41 seeds a minute\n");
        assert!(matches!(missed, Ok(Outcome::Missed(by)) if by == "412 seeds"));
        let found = outcome_of("seed 7 fails: it does not end\n\nfaults of the database: none\n");
        assert!(
            matches!(found, Ok(Outcome::Found { by, violation }) if by == "seed 7" && violation == "it does not end")
        );
        assert!(outcome_of("").is_err());
    }

    #[test]
    fn the_text_of_each_mutation_is_once_in_its_file() {
        for one in all() {
            let text = std::fs::read_to_string(root().join(one.file)).expect(one.file);
            assert_eq!(text.matches(one.old).count(), 1, "{}: {:?}", one.name, one.old);
            assert_ne!(one.old, one.new, "{}", one.name);
        }
    }
}
