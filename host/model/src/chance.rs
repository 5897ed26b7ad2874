//! Random numbers that are no secret: the jitter of retries, and the random part of ids.
//!
//! # Guarantees
//! - Without a simulation, the numbers are the system's.
//! - Within [`seed`], a thread draws all of them from the seed, so that a run can be repeated exactly.
//!
//! # Limits
//! Keys, tokens and secrets are never drawn here, so that no seed can lead to one.

use rand::rngs::ChaCha12Rng;
use rand::{RngExt as _, SeedableRng as _};
use std::cell::RefCell;
use std::marker::PhantomData;

thread_local! {
    static SEEDED: RefCell<Option<Numbers>> = const { RefCell::new(None) };
}

/// Numbers drawn from a seed, and the state of the ids that are made with them.
struct Numbers {
    random: ChaCha12Rng,
    /// Time and count of the last id, in milliseconds since the epoch.
    last: (u64, u16),
}

/// Number of ids of one millisecond, which share 12 bits.
const IDS_PER_MS: u16 = 1 << 12;

/// Draws the numbers of this thread from a seed until the guard is dropped.
pub fn seed(seed: u64) -> Seeded {
    SEEDED.set(Some(Numbers { random: ChaCha12Rng::seed_from_u64(seed), last: (0, 0) }));
    Seeded { _of_this_thread: PhantomData }
}

/// Guard of [`seed`].
#[derive(Debug)]
#[must_use]
pub struct Seeded {
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for Seeded {
    fn drop(&mut self) {
        SEEDED.set(None);
    }
}

/// Returns a number from 0 to 1.
pub fn share() -> f64 {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(numbers) => numbers.random.random(),
        None => rand::random(),
    })
}

/// Time and random part of a new id, if they are drawn from a seed. They grow. `not_before_ms` is the earliest time.
pub(crate) fn id_parts(not_before_ms: u64) -> Option<(u64, [u8; 10])> {
    SEEDED.with_borrow_mut(|seeded| {
        let Numbers { random, last } = seeded.as_mut()?;
        *last = match *last {
            (ms, count) if not_before_ms <= ms && count + 1 < IDS_PER_MS => (ms, count + 1),
            (ms, _) => (not_before_ms.max(ms + 1), 0),
        };
        let mut part: [u8; 10] = random.random();
        part[..2].copy_from_slice(&last.1.to_be_bytes());
        Some((last.0, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again_and_growing_ids() {
        fn drawn() -> (f64, Vec<(u64, [u8; 10])>) {
            let _seeded = seed(7);
            let times = [5, 5, 4, 9, 9];
            (share(), times.into_iter().filter_map(id_parts).collect())
        }
        let first = drawn();
        assert_eq!(first, drawn());
        assert_eq!(first.1.iter().map(|(ms, _)| *ms).collect::<Vec<_>>(), [5, 5, 5, 9, 9]);
        assert!(first.1.is_sorted());
        assert_eq!(id_parts(5), None, "the guard is dropped");
    }
}
