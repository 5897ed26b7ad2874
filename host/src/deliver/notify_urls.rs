//! The Notify URLs, read once for each generation of a subscription instead of once for each attempt.

use crate::subscription::{Subscription, SubscriptionId};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use url::Url;

/// How many are kept; what is over is read again.
const URLS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("more than 0");

/// Those that were read.
pub(super) struct NotifyUrls(Mutex<LruCache<(SubscriptionId, u64), Url>>);

impl Default for NotifyUrls {
    fn default() -> Self {
        NotifyUrls(Mutex::new(LruCache::new(URLS_MAX)))
    }
}

impl NotifyUrls {
    /// The Notify URL of a subscription. An error: it cannot be read, which creation rules out.
    pub(super) fn of(&self, subscription: &Subscription) -> Result<Url, String> {
        let key = (subscription.id, subscription.generation);
        if let Some(url) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(url.clone());
        }
        let read = Url::parse(&subscription.settings.notify_url);
        let url = read.map_err(|error| format!("the Notify URL cannot be read: {error}"))?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(key, url.clone());
        Ok(url)
    }
}
