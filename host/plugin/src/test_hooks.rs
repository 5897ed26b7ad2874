//! Faults for tests, in builds with debug assertions: calls that end the process, and calls that never end.
//!
//! The hooks simulate faults that a guest can no longer cause. In builds without debug assertions, such as releases, the functions are empty.

/// Environment variable with a log line that aborts the process, in the host and in the compile child.
#[cfg(debug_assertions)]
const ABORT_AT: &str = "TEST_HOOKLOOM_ABORT_AT";

/// Environment variable with a log line that blocks the thread for ever.
#[cfg(debug_assertions)]
const HANG_AT: &str = "TEST_HOOKLOOM_HANG_AT";

/// Returns the variables that a compile child inherits.
#[cfg(debug_assertions)]
pub(super) fn inherited() -> Vec<(&'static str, String)> {
    [ABORT_AT, HANG_AT].into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect()
}

/// Injects the fault for a line that a guest writes to its log.
#[cfg(debug_assertions)]
pub(super) fn on_log(line: &str) {
    if std::env::var(ABORT_AT).is_ok_and(|at| at == line) {
        std::process::abort();
    }
    while std::env::var(HANG_AT).is_ok_and(|at| at == line) {
        std::thread::park();
    }
}

/// Returns nothing: this build has no hooks.
#[cfg(not(debug_assertions))]
pub(super) fn inherited() -> [(&'static str, String); 0] {
    []
}

/// Does nothing: this build has no hooks.
#[cfg(not(debug_assertions))]
pub(super) fn on_log(_line: &str) {}
