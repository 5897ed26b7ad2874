//! Background work in steps: woken when there is work, repeated after a failure, with pauses in which other writes run.

use crate::StoreError;
use hookloom_model::clock;
use std::time::Duration;
use tokio::sync::Notify;

/// Pause before a repetition after a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Maximum time from a change whose client disconnected before it woke the work, to the work.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Pause between two steps, as a multiple of the duration of the step.
const PAUSE_FACTOR: u32 = 4;

/// Pauses after a step of this duration, so that other writes run before the next one.
pub(crate) async fn let_others_write(took: Duration) {
    tokio::time::sleep(took * PAUSE_FACTOR).await;
}

/// Waits until this time has passed by the clock, which a test may turn.
pub(crate) async fn wait(time: Duration) {
    let end = clock::instant() + time;
    loop {
        let left = end.saturating_duration_since(clock::instant());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(clock::wait_max())).await;
    }
}

/// Does the work that is left from an earlier run, and then the work of each wake-up, until the store stops. A wake-up may be lost
/// with a client that disconnects, so the work also looks every [`LOOK_EVERY`]. `failed` is the log message of a failure.
pub(crate) async fn run_when_woken<F: Future<Output = Result<(), StoreError>>>(
    wake: &Notify,
    failed: &'static str,
    work: impl Fn() -> F,
) {
    loop {
        match work().await {
            Ok(()) => drop(tokio::time::timeout(LOOK_EVERY, wake.notified()).await),
            Err(StoreError::Stopped) => return,
            Err(error) => {
                if !error.is_outage() {
                    tracing::error!(error = %hookloom_model::describe(&error), "{failed}; trying again");
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}
