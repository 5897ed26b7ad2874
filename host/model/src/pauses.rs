//! Pauses of a subscription, whose time does not count as the age of its deliveries.
//!
//! # Guarantees
//! - The age of a delivery is its time outside of every pause. The list of pauses is bounded, and the bound can only make
//!   deliveries live longer.
//! - A resumption does not change the deliveries themselves, so its cost does not depend on their number.
//!
//! Pure.

use serde::{Deserialize, Serialize};

/// Beginning of the reason of a pause by the host.
pub const BY_HOST: &str = "bad-config: ";

/// Maximum number of separate pauses.
const KEPT_MAX: usize = 16;

/// Ended pauses, earliest first, in milliseconds since the epoch. They do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pauses(Vec<(i64, i64)>);

impl Pauses {
    /// Adds a pause. Above the maximum, the two pauses with the shortest time between them are merged.
    pub fn add(&mut self, from_ms: i64, to_ms: i64) {
        let from_ms = self.0.last().map_or(from_ms, |(_, before_ms)| from_ms.max(*before_ms));
        if from_ms >= to_ms {
            // The clock was set back meanwhile, or the pause is empty.
            return;
        }
        self.0.push((from_ms, to_ms));
        if self.0.len() > KEPT_MAX {
            let between = |at: &usize| self.0[at + 1].0 - self.0[*at].1;
            let closest = (0..self.0.len() - 1).min_by_key(between).unwrap_or(0);
            let (_, to_ms) = self.0.remove(closest + 1);
            self.0[closest].1 = to_ms;
        }
    }

    /// Returns the time at which the age of a delivery would have begun without pauses. `age_from_ms` is when it began.
    pub fn shift(&self, age_from_ms: i64) -> i64 {
        let paused_ms = |(from_ms, to_ms): &(i64, i64)| (to_ms - age_from_ms.max(*from_ms)).max(0);
        age_from_ms.saturating_add(self.0.iter().map(paused_ms).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pauses: &[(i64, i64)], age_from_ms: i64, expected_ms: i64) {
        let mut all = Pauses::default();
        pauses.iter().for_each(|(from_ms, to_ms)| all.add(*from_ms, *to_ms));
        assert_eq!(all.shift(age_from_ms), expected_ms, "{all:?}");
    }

    #[test]
    fn the_time_of_a_pause_is_no_age() {
        check(&[], 100, 100);
        // Before, during and after the pause.
        check(&[(200, 300)], 100, 200);
        check(&[(200, 300)], 250, 300);
        check(&[(200, 300)], 300, 300);
        check(&[(200, 300), (500, 1_000)], 100, 700);
        check(&[(200, 300), (500, 1_000)], 400, 900);
        // The clock was set back during the pause, or between two pauses.
        check(&[(200, 150)], 100, 100);
        check(&[(200, 300), (250, 400)], 100, 300);
    }

    #[test]
    fn the_two_closest_pauses_become_one() {
        let mut all = Pauses::default();
        (0..16).for_each(|index| all.add(index * 1_000, index * 1_000 + 10));
        all.add(15_100, 15_200);
        assert_eq!(all.0.len(), KEPT_MAX);
        assert_eq!(all.0[15], (15_000, 15_200));
        assert_eq!(all.shift(-1), 15 * 10 + 200 - 1);
    }

    proptest! {
        /// With any number of pauses, no delivery counts as older than it is.
        #[test]
        fn no_delivery_ages_in_a_pause(gaps in proptest::collection::vec((1_i64..1_000, 1_i64..1_000), 0..60), age_from_ms in 0_i64..60_000) {
            let (mut all, mut at_ms, mut paused_ms) = (Pauses::default(), 0, 0);
            for (runs_ms, pause_ms) in gaps {
                let (from_ms, to_ms) = (at_ms + runs_ms, at_ms + runs_ms + pause_ms);
                all.add(from_ms, to_ms);
                paused_ms += (to_ms - age_from_ms.max(from_ms)).max(0);
                at_ms = to_ms;
            }
            prop_assert!(all.0.len() <= KEPT_MAX);
            prop_assert!(all.shift(age_from_ms) >= age_from_ms + paused_ms);
            prop_assert!(all.shift(age_from_ms) <= age_from_ms.max(at_ms));
        }
    }
}
