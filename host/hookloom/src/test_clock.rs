//! Clock of the program for tests, in builds with debug assertions: a file says by how much it is turned forward. A file beside it, with
//! the extension `noticed`, says how far it was turned.
//!
//! # Limits
//! In builds without debug assertions, such as releases, the function is empty.

#[cfg(debug_assertions)]
use crate::clock;
#[cfg(debug_assertions)]
use std::path::PathBuf;
#[cfg(debug_assertions)]
use std::time::Duration;

/// Environment variable with the path of the file. It contains a number of milliseconds, which grows.
#[cfg(debug_assertions)]
const CLOCK_FILE: &str = "TEST_HOOKLOOM_CLOCK";

/// Interval at which the file is read.
#[cfg(debug_assertions)]
const READ_INTERVAL: Duration = Duration::from_millis(5);

/// Turns the clock as the file says, now and whenever it changes.
#[cfg(debug_assertions)]
pub(crate) fn follow_file() {
    let Some(path) = std::env::var_os(CLOCK_FILE) else { return };
    let mut noticed = PathBuf::from(&path);
    noticed.set_extension("noticed");
    let mut last = None;
    let mut turn = move || {
        let turned_ms: Option<u64> = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        if let Some(ms) = turned_ms.filter(|_| turned_ms != last) {
            clock::turn(Duration::from_millis(ms));
            let _ = std::fs::write(&noticed, ms.to_string());
            last = turned_ms;
        }
    };
    turn();
    clock::expect_turns(READ_INTERVAL);
    std::thread::spawn(move || {
        loop {
            turn();
            std::thread::sleep(READ_INTERVAL);
        }
    });
}

/// Does nothing: this build has the system's clock only.
#[cfg(not(debug_assertions))]
pub(crate) fn follow_file() {}
