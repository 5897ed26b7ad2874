//! The names of things: tenants by a word, the rest by a uuid version 7, so that ids sort by the time they were made.
//!
//! Each kind has a type of its own, so that none can stand in another's place. Pure.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use uuid::{ContextV7, Timestamp, Uuid};

/// The tenant that exists from the first start.
pub const DEFAULT_TENANT: &str = "default";

/// A tenant's name in paths: 1 to 64 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub Arc<str>);

impl TenantId {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, String> {
        is_slug(name).then(|| TenantId(name.into())).ok_or_else(|| {
            format!("{name:?} is no tenant id: use 1 to 64 of a-z, 0-9 and -, beginning with a letter or digit")
        })
    }
}

impl DeliveryId {
    /// When it was made, in milliseconds since the epoch: it begins with that.
    pub fn made_at_ms(self) -> i64 {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        i64::try_from(seconds * 1_000 + u64::from(nanos) / 1_000_000).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is fit for a name in a path: 1 to 64 of `a-z`, `0-9` and `-`, not beginning with `-`.
pub fn is_slug(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-')
}

/// Ids made from now on come after this time, in milliseconds since the epoch, whatever the clock shows.
static NOT_BEFORE_MS: AtomicU64 = AtomicU64::new(0);

/// Lets ids of this process follow this one, which an earlier process made: also when the clock was set back meanwhile.
pub fn follow(id: Uuid) {
    let (seconds, nanos) = id.get_timestamp().map_or((0, 0), |time| time.to_unix());
    NOT_BEFORE_MS.fetch_max(seconds * 1_000 + u64::from(nanos) / 1_000_000 + 1, Ordering::Relaxed);
}

/// A new id: of now, or of the time that ids follow if that is later. In one process ids grow.
fn new_id() -> Uuid {
    let now_ms = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    let at_ms = now_ms.max(NOT_BEFORE_MS.load(Ordering::Relaxed));
    let nanos = u32::try_from(at_ms % 1_000 * 1_000_000).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(&GROWING, at_ms / 1_000, nanos))
}

/// What makes ids of the same millisecond grow, and ids after a step back of the clock.
static GROWING: Mutex<ContextV7> = Mutex::new(ContextV7::new());

/// Declares an id: a new one for now, and its text.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id for now.
            #[expect(clippy::new_without_default, reason = "a new id is never the same, which a default should be")]
            pub fn new() -> Self {
                $name(new_id())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// The id of an event.
    EventId
}

id! {
    /// The id of a delivery, sent as `webhook-id`: it has no dot, and retries keep it.
    DeliveryId
}

id! {
    /// The id of a subscription.
    SubscriptionId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_also_behind_a_clock_that_was_set_back() {
        let mut ids: Vec<Uuid> = (0..10_000).map(|_| new_id()).collect();
        let ahead = Uuid::new_v7(Timestamp::from_unix(ContextV7::new(), 4_000_000_000, 0));
        follow(ahead);
        ids.push(ahead);
        ids.extend((0..1_000).map(|_| new_id()));
        assert!(ids.is_sorted());
        NOT_BEFORE_MS.store(0, Ordering::Relaxed);
    }
}
