//! Attempts of this host: how many are under way, and how many it makes in a second.
//!
//! # Limits
//! The rate is a mean over the last [`WINDOW`] seconds, for operators. Nothing depends on it.

use hookloom_model::clock;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Number of seconds that the rate is a mean of.
const WINDOW: u64 = 10;

/// Attempts of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AttemptLoad {
    /// Attempts that have ended in a second, as a mean of the last ten seconds.
    pub per_s: f64,
    /// Attempts under way.
    pub under_way: u32,
}

/// Counters of attempts.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    under_way: Arc<AtomicU32>,
    ended: Mutex<EndedAttempts>,
}

/// Ended attempts of the present second and of the [`WINDOW`] seconds before it.
#[derive(Debug, Default)]
struct EndedAttempts {
    /// Present second, by the steady clock.
    second: u64,
    /// Number of each second, at its remainder.
    counts: [u32; WINDOW as usize + 1],
}

impl EndedAttempts {
    /// Forgets the seconds that have left the window.
    fn advance(&mut self, to: u64) {
        for second in (self.second + 1..=to).rev().take(self.counts.len()) {
            *self.count_of(second) = 0;
        }
        self.second = self.second.max(to);
    }

    fn count_of(&mut self, second: u64) -> &mut u32 {
        &mut self.counts[usize::try_from(second % (WINDOW + 1)).unwrap_or_default()]
    }
}

/// Attempt that is under way until this value is dropped.
#[derive(Debug)]
pub struct AttemptUnderWay(Arc<AtomicU32>);

impl Drop for AttemptUnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    /// Counts an attempt that begins.
    pub(crate) fn begin(&self) -> AttemptUnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        AttemptUnderWay(self.under_way.clone())
    }

    /// Counts an attempt that has ended.
    pub(crate) fn note_ended(&self) {
        let now = clock::since_boot().as_secs();
        let mut ended = self.ended.lock();
        ended.advance(now);
        *ended.count_of(now) += 1;
    }

    /// Returns the present load.
    pub(crate) fn load(&self) -> AttemptLoad {
        let now = clock::since_boot().as_secs();
        let mut ended = self.ended.lock();
        ended.advance(now);
        let present = *ended.count_of(now);
        let all: u32 = ended.counts.iter().sum();
        AttemptLoad { per_s: (all - present) as f64 / WINDOW as f64, under_way: self.under_way.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_under_way_until_they_are_dropped() {
        let activity = Activity::default();
        let first = activity.begin();
        let second = activity.begin();
        assert_eq!(activity.load().under_way, 2);
        drop(first);
        assert_eq!(activity.load().under_way, 1);
        drop(second);
        assert_eq!(activity.load().under_way, 0);
    }

    #[test]
    fn a_second_leaves_the_window_after_ten_others() {
        let mut ended = EndedAttempts::default();
        ended.advance(100);
        *ended.count_of(100) = 7;
        ended.advance(105);
        *ended.count_of(105) = 3;
        ended.advance(110);
        assert_eq!(ended.counts.iter().sum::<u32>(), 10);
        ended.advance(111);
        assert_eq!(ended.counts.iter().sum::<u32>(), 3);
        ended.advance(1_000_000);
        assert_eq!(ended.counts.iter().sum::<u32>(), 0);
        // A reading of the clock that is late counts in the present second at most.
        ended.advance(999_999);
        assert_eq!(ended.second, 1_000_000);
    }
}
