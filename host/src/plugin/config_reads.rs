//! Config keys that a plugin asks for, noted where somebody wants to know: a key that nobody reads is often a misspelt one.
//!
//! Deliveries note nothing. What a guest can make the host keep is bounded.

use super::{PluginError, Plugins};
use crate::chain::Chain;
use crate::subscription::TenantId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many keys are noted, and how long one may be.
const KEYS_MAX: usize = 512;
const KEY_BYTES_MAX: usize = 256;

/// Keys that plugins asked for, over some calls.
#[derive(Debug, Default)]
pub struct ConfigReads(Mutex<ReadKeys>);

#[derive(Debug, Default)]
struct ReadKeys {
    keys: BTreeSet<String>,
    /// Whether a plugin took the whole config: then it read every key.
    whole: bool,
}

impl ConfigReads {
    fn noted(&self) -> MutexGuard<'_, ReadKeys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, key: &str) {
        let mut noted = self.noted();
        if noted.keys.len() < KEYS_MAX && key.len() <= KEY_BYTES_MAX {
            noted.keys.insert(key.to_owned());
        }
    }

    pub(super) fn note_whole(&self) {
        self.noted().whole = true;
    }

    /// The keys of a config that no plugin read, in order.
    pub fn unread(&self, config: &BTreeMap<String, String>) -> Vec<String> {
        let noted = self.noted();
        if noted.whole {
            return Vec::new();
        }
        config.keys().filter(|key| !noted.keys.contains(*key)).cloned().collect()
    }

    /// The keys that plugins asked for and a config does not have.
    pub fn missing(&self, config: &BTreeMap<String, String>) -> Vec<String> {
        self.noted().keys.iter().filter(|key| !config.contains_key(*key)).cloned().collect()
    }
}

impl Plugins {
    /// Leaves of some words those that stand in no component of a chain. A plugin that reads a key only for some events has it among
    /// its constants.
    pub async fn not_mentioned(
        &self,
        tenant: &TenantId,
        chain: &Chain,
        mut words: Vec<String>,
    ) -> Result<Vec<String>, PluginError> {
        for step in &chain.0 {
            if words.is_empty() {
                break;
            }
            let pin = step.pin.as_ref().map(ToString::to_string);
            let active = || self.current(tenant, &step.plugin).map(|version| version.sha256.to_string());
            let Some(sha256) = pin.or_else(active) else { continue };
            let component = self.store.component(sha256).await?;
            words.retain(|word| memchr::memmem::find(&component, word.as_bytes()).is_none());
        }
        Ok(words)
    }
}

/// Returns the one of some keys that was probably meant by a misspelt one.
pub fn meant<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    /// How alike two keys must be: `leest` and `least` are 0.8, `key` and `keep` are 0.57.
    const ALIKE: f32 = 0.7;
    let plain = |key: &str| key.to_lowercase().replace(['-', ' ', '.'], "_");
    let wanted = plain(key);
    let alike = |other: &String| similar::TextDiff::from_chars(wanted.as_str(), plain(other).as_str()).ratio();
    let best = known.iter().map(|other| (alike(other), other)).max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= ALIKE).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_read_is_told() {
        let config: BTreeMap<_, _> = ["least", "most"].map(|key| (key.to_owned(), "1".to_owned())).into();
        let reads = ConfigReads::default();
        assert_eq!(reads.unread(&config), ["least", "most"]);
        reads.note("most");
        reads.note("currency");
        reads.note(&"x".repeat(KEY_BYTES_MAX + 1));
        assert_eq!(
            (reads.unread(&config), reads.missing(&config)),
            (vec!["least".to_owned()], vec!["currency".to_owned()])
        );
        reads.note_whole();
        assert!(reads.unread(&config).is_empty());
        (0..10 * KEYS_MAX).for_each(|number| reads.note(&number.to_string()));
        assert_eq!(reads.noted().keys.len(), KEYS_MAX);
    }

    #[test]
    fn a_misspelt_key_is_alike() {
        #[track_caller]
        fn check(key: &str, expected: Option<&str>) {
            let known = ["least", "milestones", "min_probability", "key", "properties"].map(str::to_owned);
            assert_eq!(meant(key, &known), expected, "{key}");
        }
        check("leest", Some("least"));
        check("Least", Some("least"));
        check("milestone", Some("milestones"));
        check("minProbability", Some("min_probability"));
        check("min-probability", Some("min_probability"));
        check("propeties", Some("properties"));
        check("keep", None);
        check("colour", None);
    }
}
