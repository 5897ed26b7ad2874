//! Faults that tests put into a build with debug assertions: calls that end the process, and calls that never end.
//!
//! They stand for what the defence around guests is there for and a guest can no longer do. A build without debug assertions,
//! such as a release, has none of this: the functions are empty.

/// A line that, written to a guest's log, aborts the process, in the host and in the child that tries a component.
#[cfg(debug_assertions)]
const ABORT_AT: &str = "TEST_HOOKLOOM_ABORT_AT";

/// A line that holds the thread for good.
#[cfg(debug_assertions)]
const HANG_AT: &str = "TEST_HOOKLOOM_HANG_AT";

/// The variables that a compile child must have too.
#[cfg(debug_assertions)]
pub(super) fn inherited() -> Vec<(&'static str, String)> {
    [ABORT_AT, HANG_AT].into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect()
}

/// Does what the environment asks for when a guest writes a line to its log.
#[cfg(debug_assertions)]
pub(super) fn on_log(line: &str) {
    if std::env::var(ABORT_AT).is_ok_and(|at| at == line) {
        std::process::abort();
    }
    while std::env::var(HANG_AT).is_ok_and(|at| at == line) {
        std::thread::park();
    }
}

/// Nothing: this build has no hooks.
#[cfg(not(debug_assertions))]
pub(super) fn inherited() -> [(&'static str, String); 0] {
    []
}

/// Nothing: this build has no hooks.
#[cfg(not(debug_assertions))]
pub(super) fn on_log(_line: &str) {}
