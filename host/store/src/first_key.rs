//! First admin key: created by a start, shown once, and created again until a key has been used.
//!
//! # Guarantees
//! - If a start fails before the key was shown, the next start creates another one.
//! - A key that was shown works until another first key has been used, so that an operator who noted it and then restarted the host
//!   can still sign in. At most [`UNUSED_MAX`] unused keys exist; the oldest is deleted.
//! - Once an admin key was used, given or created by an operator, no start creates one.
//!
//! The first use of a key is durable within moments ([`Store::watch_first_use`]). Later uses are written with the retention.

use crate::audit::Actor;
use crate::{Store, StoreError};
use hookloom_model::access::ApiKey;
use std::sync::Arc;

/// Label of the keys that a start creates.
const LABEL: &str = "made at the first start";

/// Maximum number of unused first keys.
const UNUSED_MAX: usize = 8;

impl Store {
    /// Creates an admin key if none was used or given, and returns it with its text, which cannot be read again.
    pub async fn create_first_key(&self) -> Result<Option<(ApiKey, String)>, StoreError> {
        let keys = self.catalog().keys(None);
        if keys.iter().any(|key| key.label != LABEL) {
            return Ok(None);
        }
        let used = self.keys_used_at_ms(&keys).await?;
        let (used, mut unused): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| used.contains_key(&key.id));
        if !used.is_empty() {
            self.revoke_all(&unused).await?;
            return Ok(None);
        }
        if !unused.is_empty() && self.was_changed_by_a_key().await? {
            return Ok(None);
        }
        unused.truncate(unused.len().saturating_sub(UNUSED_MAX - 1));
        self.revoke_all(&unused).await?;
        self.create_key(Actor::Host, None, Vec::new(), LABEL.into()).await.map(Some)
    }

    async fn revoke_all(&self, keys: &[Arc<ApiKey>]) -> Result<(), StoreError> {
        for key in keys {
            self.revoke_key(Actor::Host, None, key.id).await?;
        }
        Ok(())
    }

    /// Returns true if the log of changes has an entry, which names a key. Earlier versions did not record the use of keys.
    async fn was_changed_by_a_key(&self) -> Result<bool, StoreError> {
        self.backend.has_changes().await
    }

    /// Records the first use of a key at once, so that no other first key is created after a crash.
    pub async fn watch_first_use(&self) {
        loop {
            self.catalog().key_use().await;
            match self.flush_used_keys().await {
                Ok(()) | Err(StoreError::Stopped) => return,
                Err(error) => {
                    tracing::warn!(error = %hookloom_model::describe(&error), "the first use of a key could not be written down");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_model::access::credential_hash;

    fn store(folder: &tempfile::TempDir) -> Arc<Store> {
        Store::open(folder.path()).expect("a store").0
    }

    async fn first_key(store: &Store) -> Option<String> {
        store.create_first_key().await.expect("a store that can write").map(|(_, text)| text)
    }

    fn opens(store: &Store, text: &str) -> bool {
        store.catalog().key(&credential_hash(text)).is_some()
    }

    #[tokio::test]
    async fn a_start_makes_a_key_until_one_was_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = first_key(&store(&folder)).await.expect("nobody has a key");
        let other = first_key(&store(&folder)).await.expect("nobody has used a key");
        let host = store(&folder);
        assert!(one != other && opens(&host, &one) && opens(&host, &other), "both were shown");
        let used = host.catalog().key(&credential_hash(&other)).expect("the key");
        host.catalog().note_used(used.id);
        tokio::time::timeout(std::time::Duration::from_secs(60), host.watch_first_use()).await.expect("written down");
        drop(host);
        let host = store(&folder);
        assert_eq!(first_key(&host).await, None);
        assert!(opens(&host, &other) && !opens(&host, &one), "the one that nobody used ends");
    }

    #[tokio::test]
    async fn unused_keys_do_not_accumulate() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = store(&folder);
        let mut made = Vec::new();
        for _ in 0..UNUSED_MAX + 3 {
            made.push(first_key(&host).await.expect("a key"));
        }
        let working: Vec<bool> = made.iter().map(|text| opens(&host, text)).collect();
        assert_eq!(working, [vec![false; 3], vec![true; UNUSED_MAX]].concat());
    }

    #[tokio::test]
    async fn a_key_that_an_operator_chose_is_enough() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = store(&folder);
        host.give_admin_key("a-key-that-an-operator-chose").await.expect("given");
        assert_eq!(first_key(&host).await, None);
    }
}
