//! Log of faults of this host: each kind is logged at intervals, however many requests fail by it.

use hookloom_model::clock;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Minimum time between two log entries of one kind.
const QUIET: Duration = Duration::from_secs(300);

/// Maximum number of kinds that are remembered. [`super::failure`] has fewer.
const KINDS_MAX: usize = 64;

/// Time of the last log entry of each kind of fault.
#[derive(Debug, Default)]
pub(super) struct FaultLog(Mutex<HashMap<String, Instant>>);

impl FaultLog {
    /// Logs a fault, unless its kind was logged lately.
    pub(super) fn note(&self, detail: &str) {
        if self.is_due(detail, clock::instant()) {
            tracing::error!(
                detail,
                "this host cannot send requests; no attempt is used up, and deliveries are tried again until it can"
            );
        }
    }

    fn is_due(&self, detail: &str, now: Instant) -> bool {
        let mut logged = self.0.lock();
        if logged.get(detail).is_some_and(|at| now.duration_since(*at) < QUIET) {
            return false;
        }
        if logged.len() >= KINDS_MAX {
            logged.clear();
        }
        logged.insert(detail.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_logged_once_in_a_while() {
        let log = FaultLog::default();
        let now = clock::instant();
        assert!(log.is_due("too many open files", now));
        assert!(!log.is_due("too many open files", now + QUIET / 2));
        assert!(log.is_due("no route", now + QUIET / 2));
        assert!(log.is_due("too many open files", now + QUIET));
    }
}
