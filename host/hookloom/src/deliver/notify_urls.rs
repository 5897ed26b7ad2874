//! Cache of parsed Notify URLs: parsed once for each generation of a subscription, not once for each attempt.

use crate::subscription::{Subscription, SubscriptionId};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use url::Url;

/// Maximum number of cached URLs. An evicted URL is parsed again.
const URLS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("more than 0");

/// Parsed Notify URLs by subscription and generation.
pub(super) struct NotifyUrls(Mutex<LruCache<(SubscriptionId, u64), Url>>);

impl Default for NotifyUrls {
    fn default() -> Self {
        NotifyUrls(Mutex::new(LruCache::new(URLS_MAX)))
    }
}

impl NotifyUrls {
    /// Returns the Notify URL of a subscription. An unreadable URL is an error; the API stores none.
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
