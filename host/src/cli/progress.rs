//! A sign of life on long work: one line on stderr that counts the seconds, on a terminal only.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// What takes less is not worth a line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits for `work`, and says meanwhile what is waited for and since when.
pub(super) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let (begun, mut shown) = (Instant::now(), false);
    tokio::pin!(work);
    let done = loop {
        match tokio::time::timeout(PATIENCE, &mut work).await {
            Ok(done) => break done,
            Err(_) => {
                shown = true;
                anstream::eprint!("\r{what} … {} s", begun.elapsed().as_secs());
                let _ = std::io::stderr().flush();
            }
        }
    };
    if shown {
        // Leave nothing of the line behind.
        anstream::eprint!("\r\x1b[2K");
    }
    done
}
