//! Broadcast of live updates to open pages.
//!
//! Best effort: a subscriber that falls behind misses updates, and its page loads its content again in any case.

use crate::Store;
use hookloom_model::ids::BinId;
use hookloom_model::subscription::TenantId;
use tokio::sync::broadcast;

/// Change that open pages show without a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveUpdate {
    /// An attempt of the tenant ended.
    Attempt(TenantId),
    /// A bin received a request, or a request of it was deleted.
    Bin(BinId),
    /// An incident of the tenant has changed, or an e-mail about one was sent.
    Incident(TenantId),
}

/// Maximum number of updates that a slow subscriber can be behind.
const BEHIND_MAX: usize = 64;

/// Broadcast channel of the live updates.
pub(crate) struct LiveUpdates(broadcast::Sender<LiveUpdate>);

impl Default for LiveUpdates {
    fn default() -> Self {
        LiveUpdates(broadcast::channel(BEHIND_MAX).0)
    }
}

impl Store {
    /// Sends an update to all subscribers. Does not build the update if there are none.
    pub fn publish_live_update(&self, update: impl FnOnce() -> LiveUpdate) {
        if self.live_updates.0.receiver_count() > 0 {
            let _ = self.live_updates.0.send(update());
        }
    }

    /// Subscribes to the updates from now on.
    pub fn watch_live_updates(&self) -> broadcast::Receiver<LiveUpdate> {
        self.live_updates.0.subscribe()
    }
}
