//! Mutations that a unit test of the store must find, and the run of such a test.
//!
//! They break guards of several hosts whose loss the simulation does not show within hundreds of seeds, because it takes a rare order of
//! steps, or cannot show: a new delivery that is claimed by a host that does not run its lane is late, but is attempted once. The test of
//! such a guard needs no seed.

use super::fleet::{MEMBERSHIP, OWNERSHIP, TABLES};
use super::{CLAIMS, Check, Mutation, Outcome};
use crate::{Failure, cargo, root};
use std::path::Path;

/// Mutation that a unit test of the store must find.
pub(super) const fn mutation(
    name: &'static str,
    file: &'static str,
    old: &'static str,
    new: &'static str,
    test: &'static str,
) -> Mutation {
    Mutation { name, file, old, new, check: Check::UnitTest(test) }
}

/// Mutations of a fleet, each with the unit test that fails.
pub(super) const MUTATIONS: [Mutation; 7] = [
    mutation(
        "fleet: a host owns what it read before its lease ended",
        MEMBERSHIP,
        "        if current.registration != Some(registration) {\n            return false;",
        "        if current.registration.is_none() && current.before.is_none() {\n            return false;",
        "fleet::membership::tests::what_was_read_under_an_earlier_registration_is_not_owned",
    ),
    mutation(
        "fleet: a host owns what it read before it gave it away",
        MEMBERSHIP,
        ".without(&current.giving.with(&current.given))",
        ".without(&current.giving)",
        "fleet::membership::tests::what_was_read_before_shards_were_given_is_not_owned",
    ),
    mutation(
        "fleet: an outcome of a host that was taken over is recorded later",
        CLAIMS,
        "        claim.takeovers != self.takeovers.load(Ordering::SeqCst)",
        "        claim.takeovers > self.takeovers.load(Ordering::SeqCst)",
        "fleet::membership::tests::claims_are_void_after_a_takeover_but_not_after_an_outage",
    ),
    mutation(
        "fleet: an ended lease is renewed",
        TABLES,
        "row.epoch == registration.epoch && row.has_lease()) else",
        "row.epoch == registration.epoch) else",
        "memory::fleet_tables::tests::an_ended_lease_is_not_renewed",
    ),
    mutation(
        "fleet: a host owns a shard again while it has claims of an earlier ownership",
        MEMBERSHIP,
        "        let gained = claims.without_claims(gained);\n",
        "",
        "fleet::membership::tests::a_shard_is_owned_again_when_the_claims_of_the_earlier_ownership_have_ended",
    ),
    mutation(
        "fleet: a host claims new deliveries of others",
        CLAIMS,
        "        let period = self.owned_period(&lane, delivery.subscription)?;",
        "        let period = lane.period.load(Ordering::SeqCst);",
        "claims::tests::nothing_is_claimed_of_a_subscription_that_another_host_owns",
    ),
    mutation(
        "fleet: an order does not wait for attempts of a host that was taken over",
        OWNERSHIP,
        "(!left.is_zero()).then_some(left)",
        "(left > time_max).then_some(left)",
        "ownership::tests::attempts_begin_until_the_end_of_the_lease_only",
    ),
];

/// Runs a unit test of the store in a copy of the project.
pub(super) fn run(copy: &Path, test: &str) -> Result<Outcome, Failure> {
    let mut command = cargo();
    command.current_dir(copy).env("CARGO_TARGET_DIR", root().join("target"));
    command.args(["test", "-p", "hookloom-store", "--lib", "--", "--exact", test]);
    let output = command.output().map_err(|error| format!("cargo does not start: {error}"))?;
    outcome_of(&String::from_utf8_lossy(&output.stdout), &String::from_utf8_lossy(&output.stderr))
}

/// Reads what the test printed.
fn outcome_of(text: &str, errors: &str) -> Result<Outcome, Failure> {
    if text.contains("test result: FAILED. 0 passed; 1 failed;") {
        let mut lines = text.lines().skip_while(|line| !line.contains(" panicked at "));
        let message = lines.nth(1).unwrap_or("it fails without a message");
        return Ok(Outcome::Found { by: "test".to_owned(), violation: message.to_owned() });
    }
    if text.contains("test result: ok. 1 passed; 0 failed;") {
        return Ok(Outcome::Missed("its unit test".to_owned()));
    }
    if text.contains("test result: ok. 0 passed; 0 failed;") {
        return Err("its unit test does not exist".to_owned());
    }
    Err(format!("it does not compile: {}", errors.lines().find(|line| line.starts_with("error")).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::super::settling;
    use super::*;

    #[test]
    fn a_mutation_is_found_if_its_test_runs_and_fails() {
        let failed = "test a::b ... FAILED\n\n---- a::b stdout ----\n\nthread 'a::b' (7) panicked at b.rs:5:1:\nit is owned\n\n\
            test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 300 filtered out; finished in 0.00s\n";
        let found = outcome_of(failed, "");
        assert!(matches!(found, Ok(Outcome::Found { violation, .. }) if violation == "it is owned"));
        let passed =
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 300 filtered out; finished in 0.00s\n";
        assert!(matches!(outcome_of(passed, ""), Ok(Outcome::Missed(_))));
        let none = passed.replace("1 passed", "0 passed");
        assert!(outcome_of(&none, "").is_err_and(|failure| failure.contains("does not exist")));
        assert!(outcome_of("", "error[E0425]: cannot find it").is_err_and(|failure| failure.contains("E0425")));
    }

    #[test]
    fn the_test_of_each_mutation_exists() {
        for one in MUTATIONS.iter().chain(&settling::MUTATIONS) {
            let Check::UnitTest(test) = one.check else { panic!("{}: no unit test", one.name) };
            // A case of the conformance suite is a test of each backend.
            let (module, name) = test.rsplit_once("::tests::").or(test.rsplit_once("::memory::")).expect(test);
            let module = root().join("host/store/src").join(module.replace("::", "/"));
            let files = [module.join("tests.rs"), module.with_extension("rs")];
            let texts: String = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
            assert!(texts.contains(&format!("fn {name}(")), "{test}");
        }
    }
}
