//! Ids and names: tenants and plugins by a name, most others by a uuid version 7, so that ids sort by the time of creation.
//!
//! Each kind is a separate type, so that they cannot be confused. A name from outside (of a tenant, a plugin, a bin, a version) is
//! checked when its type is created, so that a value of the type can be used in a path and in a file name. Pure.

use crate::{chance, clock};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use uuid::{ContextV7, Timestamp, Uuid};

/// Name of the tenant that the first start creates.
pub const DEFAULT_TENANT: &str = "default";

/// Name of a tenant in paths: 1 to 64 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct TenantId(pub Arc<str>);

impl TenantId {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, String> {
        is_slug(name).then(|| TenantId(name.into())).ok_or_else(|| {
            format!("{name:?} is not a tenant id: use 1 to 64 of a-z, 0-9 and -, beginning with a letter or digit")
        })
    }
}

impl Default for TenantId {
    /// Returns the tenant that the first start creates.
    fn default() -> Self {
        TenantId(DEFAULT_TENANT.into())
    }
}

impl FromStr for TenantId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        TenantId::parse(text)
    }
}

impl TryFrom<String> for TenantId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        TenantId::parse(&text)
    }
}

/// Declares a name type: a text that was checked against a rule, and cannot be created without the check.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $fits:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text.
            ///
            /// # Errors
            /// A sentence with the text and the broken rule.
            pub fn parse(text: &str) -> Result<Self, String> {
                let fits: fn(&str) -> bool = $fits;
                fits(text).then(|| $name(text.into())).ok_or_else(|| format!(concat!("{:?} is not a ", $rule), text))
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        /// Formats the quoted text, as messages show it.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $name::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                $name::parse(&text)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                *self.0 == *other
            }
        }
    };
}

name! {
    /// Name of a plugin in paths and files: 1 to 64 of `a-z`, `0-9` and `-`.
    PluginName, is_slug, "plugin name, which has 1 to 64 of a-z, 0-9 and -, beginning with a letter or digit"
}

name! {
    /// Id of a bin, as in its URL: base64url.
    BinId, is_base64url, "bin id, which has 1 to 64 of A-Z, a-z, 0-9, - and _"
}

name! {
    /// SHA-256 of a component in hexadecimal, which identifies a version of a plugin.
    VersionId, is_sha256, "sha256, which has 64 of 0-9 and a-f"
}

fn is_base64url(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl EventId {
    /// Returns the time of acceptance, in milliseconds since the epoch, with which the id begins.
    pub fn made_at_ms(self) -> i64 {
        i64::try_from(time_in(self.0)).unwrap_or(i64::MAX)
    }
}

impl DeliveryId {
    /// Returns the time of creation, in milliseconds since the epoch, with which the id begins.
    pub fn made_at_ms(self) -> i64 {
        i64::try_from(time_in(self.0)).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns true if a text can be a name in a path: 1 to 64 of `a-z`, `0-9` and `-`, not beginning with `-`.
pub fn is_slug(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
}

/// Minimum time of new ids, in milliseconds since the epoch.
static NOT_BEFORE_MS: AtomicU64 = AtomicU64::new(0);

/// Makes new ids follow this one of an earlier process, even if the clock was set back meanwhile.
pub fn follow(id: Uuid) {
    NOT_BEFORE_MS.fetch_max(time_in(id) + 1, Ordering::Relaxed);
}

/// Makes new ids begin with this time at the earliest, in milliseconds since the epoch.
pub fn not_before(at_ms: u64) {
    NOT_BEFORE_MS.fetch_max(at_ms, Ordering::Relaxed);
}

/// Returns the time with which an id begins, in milliseconds since the epoch.
fn time_in(id: Uuid) -> u64 {
    let (seconds, nanos) = id.get_timestamp().map_or((0, 0), |time| time.to_unix());
    seconds * 1_000 + u64::from(nanos) / 1_000_000
}

fn clock_ms() -> u64 {
    u64::try_from(clock::now_ms()).unwrap_or(0)
}

/// Returns a new uuid version 7 for a thing that has no id type. It grows as all ids do.
pub fn new_uuid() -> Uuid {
    new_id(clock_ms())
}

/// Difference between an id and the clock from which the clock was set back, in milliseconds. Smaller differences come from ids that
/// other threads make at the same time.
const CLOCK_STEP_MS: u64 = 1_000;

/// Returns the time of an id that was made at a time of the clock: that of the id, unless the clock was set back.
fn time_of(id: Uuid, now_ms: u64) -> i64 {
    let at_ms = time_in(id);
    let at_ms = if at_ms.abs_diff(now_ms) < CLOCK_STEP_MS { at_ms } else { now_ms };
    i64::try_from(at_ms).unwrap_or(i64::MAX)
}

/// Returns a new id for a time, or for the minimum time if that is later. Ids of a process grow.
fn new_id(now_ms: u64) -> Uuid {
    if let Some((at_ms, part)) = chance::id_parts(now_ms) {
        return uuid::Builder::from_unix_timestamp_millis(at_ms, &part).into_uuid();
    }
    let at_ms = now_ms.max(NOT_BEFORE_MS.load(Ordering::Relaxed));
    let nanos = u32::try_from(at_ms % 1_000 * 1_000_000).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(&GROWING, at_ms / 1_000, nanos))
}

/// Counter by which ids of the same millisecond grow, and ids after a step back of the clock.
static GROWING: Mutex<ContextV7> = Mutex::new(ContextV7::new());

/// Declares an id type.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Creates an id for now.
            #[expect(clippy::new_without_default, reason = "a new id is never the same, which a default should be")]
            pub fn new() -> Self {
                $name(new_id(clock_ms()))
            }

            /// Creates an id for now, and returns it with its time, in milliseconds since the epoch. A span of time then has
            /// exactly the ids of its things, unless the clock was set back: ids still grow, and the time is the clock's.
            pub fn with_time() -> (Self, i64) {
                let now_ms = clock_ms();
                let id = new_id(now_ms);
                ($name(id), time_of(id, now_ms))
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
    /// Id of an event.
    EventId
}

id! {
    /// Id of a delivery, sent as `webhook-id`: it has no dot, and retries keep it.
    DeliveryId
}

id! {
    /// Id of a subscription.
    SubscriptionId
}

id! {
    /// Id of an incident.
    IncidentId
}

id! {
    /// Id of an e-mail about an incident, part of its `Message-ID`.
    AlertEmailId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leaves_no_path() {
        #[track_caller]
        fn check(text: &str, expected: [bool; 4]) {
            let found = [
                TenantId::parse(text).is_ok(),
                PluginName::parse(text).is_ok(),
                BinId::parse(text).is_ok(),
                VersionId::parse(text).is_ok(),
            ];
            assert_eq!(found, expected, "{text:?}");
        }
        check("flatten-2", [true, true, true, false]);
        check("A_b-9", [false, false, true, false]);
        check(&"0af".repeat(22)[..64], [true, true, true, true]);
        check(&"0".repeat(65), [false; 4]);
        check("-rf", [false, false, true, false]);
        for bad in [
            "",
            ".",
            "..",
            "../../victim/plugins/redact",
            "a/b",
            "a\\b",
            "C:a",
            "a\0",
            "a\n",
            "a b",
            "%2e%2e",
            "a%2fb",
            "a?b",
            "a#b",
            "a.wasm",
            "é",
            "\u{202e}a",
            "a;b",
            "~",
        ] {
            check(bad, [false; 4]);
            assert!(serde_json::from_value::<PluginName>(bad.into()).is_err(), "{bad:?} by serde");
            assert!(serde_json::from_value::<TenantId>(bad.into()).is_err(), "{bad:?} by serde");
        }
    }

    #[test]
    fn ids_grow_also_behind_a_clock_that_was_set_back() {
        let mut ids: Vec<Uuid> = (0..10_000).map(|_| new_id(clock_ms())).collect();
        let ahead = Uuid::new_v7(Timestamp::from_unix(ContextV7::new(), 4_000_000_000, 0));
        follow(ahead);
        ids.push(ahead);
        ids.extend((0..1_000).map(|_| new_id(clock_ms())));
        assert!(ids.is_sorted());
        NOT_BEFORE_MS.store(0, Ordering::Relaxed);
    }

    #[test]
    fn the_time_of_an_id_is_that_of_its_thing() {
        #[track_caller]
        fn check(id_ms: u64, now_ms: u64, expected: i64) {
            let nanos = u32::try_from(id_ms % 1_000 * 1_000_000).expect("below a second");
            let id = Uuid::new_v7(Timestamp::from_unix(ContextV7::new(), id_ms / 1_000, nanos));
            assert_eq!(time_of(id, now_ms), expected, "an id of {id_ms} at {now_ms}");
        }
        check(1_700_000_000_123, 1_700_000_000_123, 1_700_000_000_123);
        // Another thread has made an id of the next millisecond.
        check(1_700_000_000_124, 1_700_000_000_123, 1_700_000_000_124);
        // The clock was set back by an hour.
        check(1_700_000_000_124, 1_699_996_400_123, 1_699_996_400_123);
        let (id, at_ms) = DeliveryId::with_time();
        assert!(id.made_at_ms() >= at_ms);
    }
}
