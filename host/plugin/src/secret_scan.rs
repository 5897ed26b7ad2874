//! Search for values of a subscription's secrets in requests of its plugins.
//!
//! # Guarantees
//! - One pass over each text, however many secrets there are: at most twice for a JSON body, whose escaped form is searched too.
//!   The time depends on the bytes of the request, not on bytes times secrets.
//! - It is part of the call's CPU time ([`sandbox`](super::sandbox)).
//!
//! Building a search takes longer than most searches, so each plugin thread caches the latest ones. The secrets are the cache key, so a
//! changed secret takes effect at once.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use hookloom_model::subscription::{Secret, Subscription};
use lru::LruCache;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::rc::Rc;

/// Minimum length of a value that is searched for, in bytes. Shorter values would be found by chance.
const SECRET_BYTES_MIN: usize = 6;

/// Number of searches that a thread caches. Each takes about 20 bytes for each byte of its secrets, which have at most 64 KiB.
const SCANNERS_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("more than 0");

/// Secret values of a subscription: named secrets and signing keys.
#[derive(Clone, PartialEq, Eq)]
struct SecretValues {
    named: BTreeMap<String, Secret>,
    signing: Vec<String>,
}

impl SecretValues {
    fn of(subscription: &Subscription) -> Self {
        let signing = subscription.signing.iter().map(|key| key.secret.reveal()).collect();
        SecretValues { named: subscription.settings.secrets().clone(), signing }
    }

    /// Returns name and bytes of each value that is searched for.
    fn searched(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let named = self.named.iter().map(|(name, secret)| (name.as_str(), secret.expose()));
        let signing = self.signing.iter().map(|value| ("signing_secret", value.as_bytes()));
        named.chain(signing).filter(|(_, value)| value.len() >= SECRET_BYTES_MIN)
    }
}

/// Search for many values in one pass.
struct Search {
    automaton: AhoCorasick,
    /// Names of the secrets, by pattern number.
    names: Vec<String>,
}

impl Search {
    /// Builds a search. None: there are no values, or they exceed the size of an automaton, which 64 KiB of secrets do not.
    fn new(values: Vec<(&str, Vec<u8>)>) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let names = values.iter().map(|(name, _)| (*name).to_owned()).collect();
        // The size of this kind is proportional to the values. That of the fastest kind is not.
        let mut builder = AhoCorasick::builder();
        let built = builder.kind(Some(AhoCorasickKind::ContiguousNFA)).build(values.iter().map(|(_, value)| value));
        let automaton = built
            .inspect_err(|error| tracing::error!(%error, "the search for secrets in requests could not be set up"))
            .ok()?;
        Some(Search { automaton, names })
    }

    /// Returns the name of a secret whose value is in a text.
    fn find(&self, text: &[u8]) -> Option<&str> {
        let found = self.automaton.find(text)?;
        self.names.get(found.pattern().as_usize()).map(String::as_str)
    }
}

/// Searches for the secret values of one subscription.
pub(super) struct SecretScanner {
    plain: Option<Search>,
    /// Search for values whose JSON form differs.
    in_json: Option<Search>,
}

impl SecretScanner {
    fn new(values: &SecretValues) -> Self {
        let escaped = values.searched().filter_map(|(name, value)| {
            // The JSON form of the value, without the enclosing quotes.
            let escaped = serde_json::to_vec(&String::from_utf8_lossy(value)).ok()?;
            let escaped = escaped.get(1..escaped.len().checked_sub(1)?)?;
            (escaped != value).then(|| (name, escaped.to_vec()))
        });
        SecretScanner {
            in_json: Search::new(escaped.collect()),
            plain: Search::new(values.searched().map(|(name, value)| (name, value.to_vec())).collect()),
        }
    }

    /// Returns the scanner of a subscription, from the cache of this thread or newly built.
    pub(super) fn of(subscription: &Subscription) -> Rc<Self> {
        thread_local! {
            static KEPT: RefCell<LruCache<u64, (SecretValues, Rc<SecretScanner>)>> = RefCell::new(LruCache::new(SCANNERS_MAX));
        }
        let values = SecretValues::of(subscription);
        let key = values.key();
        KEPT.with_borrow_mut(|kept| {
            if let Some((cached, scanner)) = kept.get(&key)
                && *cached == values
            {
                return scanner.clone();
            }
            let scanner = Rc::new(SecretScanner::new(&values));
            kept.put(key, (values, scanner.clone()));
            scanner
        })
    }

    /// Returns the name of a secret whose value is in a text. A JSON text is searched for the escaped form as well.
    pub(super) fn find(&self, text: &[u8], is_json: bool) -> Option<&str> {
        let in_json = self.in_json.as_ref().filter(|_| is_json);
        [self.plain.as_ref(), in_json].into_iter().flatten().find_map(|search| search.find(text))
    }
}

impl SecretValues {
    /// Returns a hash of the values, as the cache key. Different values may share it.
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
    use hookloom_model::clock;
    use hookloom_model::subscription::{CallSettings, TenantId};

    fn subscription(secrets: impl IntoIterator<Item = (String, Vec<u8>)>) -> Subscription {
        let secrets = secrets.into_iter().map(|(name, value)| (name, Secret::from(value))).collect();
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
        let few = subscription((0..8).map(secret));
        let many = subscription((0..256).map(secret));
        let text = "a".repeat(4 << 20).into_bytes();
        let cost = |subscription: &Subscription| {
            let scanner = SecretScanner::of(subscription);
            let begun = clock::instant();
            assert_eq!(scanner.find(&text, true), None);
            clock::since(begun)
        };
        // The minimum of several, because of other load.
        let least = |subscription| (0..5).map(|_| cost(subscription)).min().expect("five");
        let few = least(&few);
        let many = least(&many);
        assert!(many < few * 8, "{many:?} for 256 secrets, {few:?} for 8");
    }
}
