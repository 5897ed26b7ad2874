//! Clock of a simulation: it goes with the paused time of the runtime, over crashes, and can be set back and forward.

use hookloom_model::clock::{Clock, SystemClock};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Time at which every simulation begins, in milliseconds since the epoch.
pub(crate) const BEGUN_MS: i64 = 1_800_000_000_000;

/// Clock of a simulation.
#[derive(Debug)]
pub(crate) struct SimClock {
    begun: Instant,
    /// Time that earlier runtimes have passed, and the beginning of the present one.
    passed: Mutex<(Duration, Option<tokio::time::Instant>)>,
    /// Difference between the wall clock and the time that has passed since [`BEGUN_MS`], in milliseconds.
    set_ms: AtomicI64,
}

impl SimClock {
    pub(crate) fn new() -> Self {
        // After the first reading of the time since the boot, from which leases count.
        let begun = SystemClock.instant() + Duration::from_secs(3_600);
        SimClock { begun, passed: Mutex::new((Duration::ZERO, None)), set_ms: AtomicI64::new(0) }
    }

    /// Begins to follow a runtime, within it.
    pub(crate) fn follow_runtime(&self) {
        self.passed.lock().1 = Some(tokio::time::Instant::now());
    }

    /// Ends to follow a runtime, within it.
    pub(crate) fn leave_runtime(&self) {
        let passed = self.passed();
        *self.passed.lock() = (passed, None);
    }

    /// Follows the runtime of one of several hosts, within it: the time was `base` when the runtime's was `origin`.
    pub(crate) fn follow_host(&self, base: Duration, origin: tokio::time::Instant) {
        *self.passed.lock() = (base, Some(origin));
    }

    /// Stands at a time, between two hosts.
    pub(crate) fn stand_at(&self, passed: Duration) {
        *self.passed.lock() = (passed, None);
    }

    /// Returns the time since the beginning of the simulation, which never goes back.
    pub(crate) fn passed(&self) -> Duration {
        let (earlier, since) = *self.passed.lock();
        earlier + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Sets the wall clock by this many milliseconds.
    pub(crate) fn set(&self, by_ms: i64) {
        self.set_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        let passed_ms = i64::try_from(self.passed().as_millis()).unwrap_or(i64::MAX);
        BEGUN_MS + passed_ms + self.set_ms.load(Ordering::Relaxed)
    }

    fn instant(&self) -> Instant {
        self.begun + self.passed()
    }
}
