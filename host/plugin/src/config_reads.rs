//! Config keys that plugins read, collected during dry runs: an unread key is often misspelt.
//!
//! # Guarantees
//! - The number and size of collected keys is bounded, whatever a guest reads.
//!
//! # Limits
//! Deliveries collect nothing.

use super::{PluginError, Plugins};
use hookloom_model::chain::Chain;
use hookloom_model::subscription::TenantId;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of collected keys, and maximum length of a key in bytes.
const KEYS_MAX: usize = 512;
const KEY_BYTES_MAX: usize = 256;

/// Keys that plugins read during some calls.
#[derive(Debug, Default)]
pub struct ConfigReads(Mutex<ReadKeys>);

#[derive(Debug, Default)]
struct ReadKeys {
    keys: BTreeSet<String>,
    /// Set when a plugin read the whole config, and so every key.
    whole: bool,
}

impl ConfigReads {
    fn noted(&self) -> MutexGuard<'_, ReadKeys> {
        self.0.lock()
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

    /// Returns the keys of a config that no plugin read, in order.
    pub fn unread(&self, config: &BTreeMap<String, String>) -> Vec<String> {
        let noted = self.noted();
        if noted.whole {
            return Vec::new();
        }
        config.keys().filter(|key| !noted.keys.contains(*key)).cloned().collect()
    }

    /// Returns the keys that plugins read and a config does not have.
    pub fn missing(&self, config: &BTreeMap<String, String>) -> Vec<String> {
        self.noted().keys.iter().filter(|key| !config.contains_key(*key)).cloned().collect()
    }
}

impl Plugins {
    /// Returns the words that no component of a chain contains. A plugin that reads a key only for some events contains the key as a
    /// constant.
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

/// Returns the known key that a misspelt key probably stands for.
pub fn meant<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    /// Minimum similarity of two keys: `leest` and `least` have 0.8, `key` and `keep` have 0.57.
    const ALIKE: f32 = 0.7;
    let wanted = plain(key);
    let alike = |other: &String| similar::TextDiff::from_chars(wanted.as_str(), plain(other).as_str()).ratio();
    let best = known.iter().map(|other| (alike(other), other)).max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= ALIKE).then_some(best.1)
}

fn plain(key: &str) -> String {
    key.to_lowercase().replace(['-', ' ', '.'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_config_keys_are_reported() {
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
