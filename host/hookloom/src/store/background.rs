//! Background work that is woken when there is some, repeated after a failure, and done in steps between which others write.

use super::StoreError;
use std::time::Duration;
use tokio::sync::Notify;

/// After a failure the work is repeated no sooner than this.
const AGAIN: Duration = Duration::from_secs(5);

/// Pause between two steps, as a multiple of the duration of the step.
const OTHERS: u32 = 4;

/// Pauses after a step of this duration, so that other writes run before the next one.
pub(super) async fn let_others_write(took: Duration) {
    tokio::time::sleep(took * OTHERS).await;
}

/// Does what is left from before, and then the work of each wake-up, as long as there is a store. `failed` is what the log says
/// of a failure.
pub(super) async fn run_when_woken<F: Future<Output = Result<(), StoreError>>>(
    wake: &Notify,
    failed: &'static str,
    work: impl Fn() -> F,
) {
    loop {
        match work().await {
            Ok(()) => wake.notified().await,
            Err(StoreError::Stopped) => return,
            Err(error) => {
                tracing::error!(error = %crate::describe(&error), "{failed}; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
