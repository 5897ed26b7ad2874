//! Progress of long work: one line on stderr that counts the seconds, only on a terminal.

use super::terminal;
use crate::clock;
use std::io::IsTerminal as _;
use std::time::Duration;

/// Duration below which a step prints no line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits for `work`, and meanwhile shows the description and the duration.
pub(super) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let begun = clock::instant();
    let mut shown = false;
    tokio::pin!(work);
    let done = loop {
        match tokio::time::timeout(PATIENCE, &mut work).await {
            Ok(done) => break done,
            Err(_) => {
                shown = true;
                terminal::progress(&format!("{what} … {} s", clock::since(begun).as_secs()));
            }
        }
    };
    if shown {
        terminal::progress("");
    }
    done
}
