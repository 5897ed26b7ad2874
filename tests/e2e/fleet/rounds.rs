//! Short and long form of the tests of several hosts: number of rounds of a fault, and limits of times.

use std::time::Duration;

/// Environment variable with the number of rounds of each fault, for the long form of the tests.
const ROUNDS_VARIABLE: &str = "TEST_FLEET_ROUNDS";

/// Factor of a limit in the short form, whose tests run beside others, on machines that are busy with something else.
const BUSY: u32 = 4;

fn rounds_of_the_long_form() -> Option<usize> {
    Some(std::env::var(ROUNDS_VARIABLE).ok()?.parse().unwrap())
}

/// Returns the number of rounds of a fault, which is `usual` in the short form.
pub(super) fn rounds(usual: usize) -> usize {
    rounds_of_the_long_form().unwrap_or(usual)
}

/// Checks that a time is within what the product promises of a machine that has nothing else to do.
///
/// The long form measures, and its limit is the promise. In the short form the limit only finds what does not end by
/// itself: what must hold there is checked by counts, not by a clock.
pub(super) fn check_time(what: &str, took: Duration, promised: Duration) {
    let limit = rounds_of_the_long_form().map_or(promised * BUSY, |_| promised);
    assert!(took < limit, "{what} took {took:?}, of {limit:?}");
}
