//! The names of things: tenants by a word, the rest by a uuid version 7, so that ids sort by the time they were made.
//!
//! Each kind has a type of its own, so that none can stand in another's place. Pure.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

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
                $name(Uuid::now_v7())
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
