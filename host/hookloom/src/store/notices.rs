//! Word for those who watch a page: something happened there. Best effort: who is slow misses some, and looks anew anyway.

use super::Store;
use crate::ids::BinId;
use crate::subscription::TenantId;
use tokio::sync::broadcast;

/// Notice of something that happened, for live updates of the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An attempt of the tenant ended.
    Attempt(TenantId),
    /// A bin received something, or something in it was deleted.
    Bin(BinId),
}

/// Maximum number of notices that a slow watcher may be behind.
const BEHIND_MAX: usize = 64;

/// Broadcast channel to the watchers.
pub(super) struct Notices(broadcast::Sender<Notice>);

impl Default for Notices {
    fn default() -> Self {
        Notices(broadcast::channel(BEHIND_MAX).0)
    }
}

impl Store {
    /// Tells whoever watches.
    pub fn notify(&self, notice: impl FnOnce() -> Notice) {
        if self.notices.0.receiver_count() > 0 {
            let _ = self.notices.0.send(notice());
        }
    }

    /// Watches from now on.
    pub fn watch(&self) -> broadcast::Receiver<Notice> {
        self.notices.0.subscribe()
    }
}
