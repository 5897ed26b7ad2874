//! Background work that is woken when there is some, and repeated after a failure.

use super::StoreError;
use std::time::Duration;
use tokio::sync::Notify;

/// After a failure the work is repeated no sooner than this.
const AGAIN: Duration = Duration::from_secs(5);

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
