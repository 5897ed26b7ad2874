//! Number of rounds of a fault.

/// Environment variable with the number of rounds of each fault, for the long form of the tests.
const ROUNDS_VARIABLE: &str = "TEST_FLEET_ROUNDS";

/// Returns the number of rounds of a fault, which is `usual` in the short form.
pub(super) fn rounds(usual: usize) -> usize {
    std::env::var(ROUNDS_VARIABLE).map_or(usual, |rounds| rounds.parse().unwrap())
}
