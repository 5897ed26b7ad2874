//! The search for values of a subscription's secrets in what its plugin wants to send.
//!
//! # Guarantees
//! - One pass over each text, however many secrets there are: at most twice for a JSON body, whose escaped form is searched too.
//!   The time depends on the bytes of the request, not on bytes times secrets.
//! - It is part of the call's CPU time ([`sandbox`](super::sandbox)).
//!
//! Making the search ready takes longer than most searches, so each plugin thread keeps the last few. They are found by the
//! secrets themselves, so a changed secret is never searched for in its old form.

use crate::subscription::{Secret, Subscription};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use lru::LruCache;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::rc::Rc;

/// Values shorter than this are found everywhere, and are no secret worth the name.
const SECRET_BYTES_MIN: usize = 6;

/// Number of searches that a thread keeps. Each takes some 20 bytes for each byte of its secrets, which are at most 64 KiB.
const SCANNERS_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("more than 0");

/// The values of a subscription: its named secrets and its signing keys.
#[derive(Clone, PartialEq, Eq)]
struct SecretValues {
    named: BTreeMap<String, Secret>,
    signing: Vec<String>,
}

impl SecretValues {
    fn of(subscription: &Subscription) -> Self {
        let signing = subscription.signing.iter().map(|key| key.secret.reveal()).collect();
        SecretValues { named: subscription.secrets.clone(), signing }
    }

    /// Name and bytes of each value that is long enough to be searched for.
    fn searched(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let named = self.named.iter().map(|(name, secret)| (name.as_str(), secret.0.as_slice()));
        let signing = self.signing.iter().map(|value| ("signing_secret", value.as_bytes()));
        named.chain(signing).filter(|(_, value)| value.len() >= SECRET_BYTES_MIN)
    }
}

/// Many values, searched for at once.
struct Search {
    automaton: AhoCorasick,
    /// The secret's name, by number of the value.
    names: Vec<String>,
}

impl Search {
    /// None: there is nothing to search for, or so much that no search can be made, which 64 KiB are far from.
    fn new(values: Vec<(&str, Vec<u8>)>) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let names = values.iter().map(|(name, _)| (*name).to_owned()).collect();
        // Its size grows with the values alone, which that of the fastest kind does not.
        let mut builder = AhoCorasick::builder();
        let built = builder.kind(Some(AhoCorasickKind::ContiguousNFA)).build(values.iter().map(|(_, value)| value));
        let automaton = built
            .inspect_err(|error| tracing::error!(%error, "the search for secrets in requests could not be set up"))
            .ok()?;
        Some(Search { automaton, names })
    }

    /// The name of a secret whose value is in a text.
    fn find(&self, text: &[u8]) -> Option<&str> {
        let found = self.automaton.find(text)?;
        self.names.get(found.pattern().as_usize()).map(String::as_str)
    }
}

/// The search for the values of one subscription.
pub(super) struct SecretScanner {
    plain: Option<Search>,
    /// Values that look different in a JSON text.
    in_json: Option<Search>,
}

impl SecretScanner {
    fn new(values: &SecretValues) -> Self {
        let escaped = values.searched().filter_map(|(name, value)| {
            // In a JSON text its quotes and backslashes have a backslash before them.
            let escaped = serde_json::to_vec(&String::from_utf8_lossy(value)).ok()?;
            let escaped = escaped.get(1..escaped.len().checked_sub(1)?)?;
            (escaped != value).then(|| (name, escaped.to_vec()))
        });
        SecretScanner {
            in_json: Search::new(escaped.collect()),
            plain: Search::new(values.searched().map(|(name, value)| (name, value.to_vec())).collect()),
        }
    }

    /// The search for a subscription's secrets, made anew unless this thread has it still.
    pub(super) fn of(subscription: &Subscription) -> Rc<Self> {
        thread_local! {
            static KEPT: RefCell<LruCache<u64, (SecretValues, Rc<SecretScanner>)>> = RefCell::new(LruCache::new(SCANNERS_MAX));
        }
        let values = SecretValues::of(subscription);
        let key = values.key();
        KEPT.with_borrow_mut(|kept| {
            if let Some((same, scanner)) = kept.get(&key)
                && *same == values
            {
                return scanner.clone();
            }
            let scanner = Rc::new(SecretScanner::new(&values));
            kept.put(key, (values, scanner.clone()));
            scanner
        })
    }

    /// The name of a secret whose value is in a text.
    pub(super) fn find(&self, text: &[u8], is_json: bool) -> Option<&str> {
        let in_json = self.in_json.as_ref().filter(|_| is_json);
        [self.plain.as_ref(), in_json].into_iter().flatten().find_map(|search| search.find(text))
    }
}

impl SecretValues {
    /// A number by which equal values are found. Different ones may share it.
    fn key(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        self.searched().for_each(|value| value.hash(&mut hasher));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::{CallSettings, TenantId};
    use std::time::Instant;

    fn subscription(secrets: impl IntoIterator<Item = (String, Vec<u8>)>) -> Subscription {
        let secrets = secrets.into_iter().map(|(name, value)| (name, Secret(value))).collect();
        Subscription::passing(TenantId("t".into()), CallSettings { secrets, ..CallSettings::default() })
    }

    #[test]
    fn a_changed_secret_is_searched_for_at_once() {
        let with = |value: &str| SecretScanner::of(&subscription([("key".to_owned(), value.into())]));
        assert_eq!(with("secret-1").find(b"a secret-1", false), Some("key"));
        assert_eq!(with("secret-2").find(b"a secret-1", false), None);
        assert_eq!(with("secret-2").find(b"a secret-2", false), Some("key"));
        assert_eq!(with("short").find(b"short", false), None);
        assert_eq!(with("a\"b\"cd").find(b"a\\\"b\\\"cd", true), Some("key"));
        assert_eq!(with("a\"b\"cd").find(b"a\\\"b\\\"cd", false), None);
    }

    /// 256 secrets of 250 bytes that differ at their ends only, over a text that is nearly each of them everywhere.
    #[test]
    fn the_time_does_not_depend_on_the_number_of_secrets() {
        let secret = |number: usize| (format!("s{number}"), format!("{}{number:04}", "a".repeat(246)).into_bytes());
        let (few, many) = (subscription((0..8).map(secret)), subscription((0..256).map(secret)));
        let text = "a".repeat(4 << 20).into_bytes();
        let cost = |subscription: &Subscription| {
            let scanner = SecretScanner::of(subscription);
            let begun = Instant::now();
            assert_eq!(scanner.find(&text, true), None);
            begun.elapsed()
        };
        // The least of several: somebody else may have the core.
        let least = |subscription| (0..5).map(|_| cost(subscription)).min().expect("five");
        let (few, many) = (least(&few), least(&many));
        assert!(many < few * 8, "{many:?} for 256 secrets, {few:?} for 8");
    }
}
