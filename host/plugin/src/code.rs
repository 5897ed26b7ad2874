//! Compiled code in memory, by sha256 of the component: a single-flight loader with an LRU cache.
//!
//! # Guarantees
//! - There is one copy of a component's code, however many plugins and tenants use it.
//! - The total size is at most `loaded_code_bytes_max`. The least recently called code is evicted, and loaded from disk again when it is
//!   called.
//! - Concurrent loads of one component run once. Loads of different components do not block each other.
//!
//! # Limits
//! A call keeps the code that it began with. So the host may hold, in addition, the code of one call for each plugin thread and that of
//! idle instances.

use super::PluginError;
use super::cache::{Cache, Code, CompiledComponent};
use super::runtime::CodeLinker;
use super::script;
use super::version::Version;
use hookloom_telemetry as telemetry;
use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

/// Code of all versions, in memory and on disk. Methods block while they read and write files.
pub(super) struct CodeLibrary {
    linker: Arc<CodeLinker>,
    cache: Cache,
    loaded: Mutex<LruByBytes<Arc<Version>>>,
    loading: KeyedLocks<String, Mutex<()>>,
}

impl CodeLibrary {
    pub(super) fn new(linker: Arc<CodeLinker>, cache: Cache, bytes_max: u64) -> Self {
        let loaded = Mutex::new(LruByBytes::new(bytes_max));
        CodeLibrary { linker, cache, loaded, loading: KeyedLocks::default() }
    }

    /// Returns whether a component is compiled. Its file may still be damaged.
    pub(super) fn is_compiled(&self, sha256: &str) -> bool {
        self.loaded().entries.contains(sha256) || self.cache.contains(sha256)
    }

    /// Returns whether a component's code is on disk and fits into memory without evicting other code.
    pub(super) fn has_room_for(&self, sha256: &str) -> bool {
        let size = self.cache.size(sha256);
        let loaded = self.loaded();
        size > 0 && loaded.bytes + size <= loaded.bytes_max
    }

    /// Loads the code of a component from memory or disk. None: the component must be compiled.
    pub(super) fn load(&self, sha256: &str) -> Result<Option<Arc<Version>>, PluginError> {
        if let Some(version) = self.loaded().get(sha256) {
            return Ok(Some(version));
        }
        let lock = self.loading.of(&sha256.to_owned());
        let _one_at_a_time = lock.lock();
        if let Some(version) = self.loaded().get(sha256) {
            return Ok(Some(version));
        }
        let Some(compiled) = self.cache.get(sha256) else { return Ok(None) };
        if matches!(compiled.code, Code::Script(_)) && self.load(script::engine_sha256())?.is_none() {
            return Ok(None);
        }
        match self.link(sha256, &compiled) {
            Ok(version) => Ok(Some(version)),
            Err(PluginError::Runtime(error)) => {
                tracing::warn!(%sha256, %error, "compiled code on disk does not load; it is compiled again");
                self.cache.remove(sha256);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Stores a newly compiled component in memory and on disk.
    pub(super) fn keep(&self, sha256: &str, compiled: &CompiledComponent) -> Result<Arc<Version>, PluginError> {
        let version = self.link(sha256, compiled)?;
        if let Err(error) = self.cache.put(sha256, compiled) {
            tracing::warn!(%error, "compiled code could not be kept; it will be compiled again at the next start");
        }
        Ok(version)
    }

    fn link(&self, sha256: &str, compiled: &CompiledComponent) -> Result<Arc<Version>, PluginError> {
        let version = Arc::new(self.version(sha256, compiled)?);
        let (evicted, bytes) = {
            let mut loaded = self.loaded();
            (loaded.insert(sha256, version.clone(), version.bytes), loaded.bytes)
        };
        telemetry::code_loaded(bytes);
        // Dropping code takes time: the lock is released first.
        drop(evicted);
        Ok(version)
    }

    fn version(&self, sha256: &str, compiled: &CompiledComponent) -> Result<Version, PluginError> {
        match &compiled.code {
            Code::Component(code) => self.linker.link(sha256, &compiled.report, code),
            Code::Script(source) => {
                let engine = self.load(script::engine_sha256())?;
                let Some(engine) = engine else {
                    return Err(std::io::Error::other("the code of the engine for scripts is missing").into());
                };
                Ok(engine.with_script(sha256, compiled.report.clone(), source.clone()))
            }
        }
    }

    fn loaded(&self) -> MutexGuard<'_, LruByBytes<Arc<Version>>> {
        self.loaded.lock()
    }
}

/// LRU cache bounded by the total size of its values.
struct LruByBytes<V> {
    entries: LruCache<String, (V, u64)>,
    bytes: u64,
    bytes_max: u64,
}

impl<V: Clone> LruByBytes<V> {
    fn new(bytes_max: u64) -> Self {
        LruByBytes { entries: LruCache::unbounded(), bytes: 0, bytes_max }
    }

    fn get(&mut self, key: &str) -> Option<V> {
        self.entries.get(key).map(|(value, _)| value.clone())
    }

    /// Adds a value, and returns the evicted ones. The new value stays even if it exceeds the maximum alone.
    fn insert(&mut self, key: &str, value: V, bytes: u64) -> Vec<V> {
        let mut gone = Vec::new();
        if let Some((replaced, size)) = self.entries.put(key.to_owned(), (value, bytes)) {
            self.bytes -= size;
            gone.push(replaced);
        }
        self.bytes += bytes;
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            let Some((_, (evicted, size))) = self.entries.pop_lru() else { break };
            self.bytes -= size;
            gone.push(evicted);
        }
        gone
    }
}

/// One lock per key, dropped when it is no longer used.
pub(super) struct KeyedLocks<K, L>(Mutex<HashMap<K, Weak<L>>>);

impl<K, L> Default for KeyedLocks<K, L> {
    fn default() -> Self {
        KeyedLocks(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, L: Default> KeyedLocks<K, L> {
    /// Returns the lock of a key.
    pub(super) fn of(&self, key: &K) -> Arc<L> {
        let mut all = self.0.lock();
        if let Some(lock) = all.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        all.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(L::default());
        all.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_when_there_is_no_room() {
        #[track_caller]
        fn check(steps: &[(&str, u64)], expected: &[&str]) {
            let mut lru = LruByBytes::new(10);
            for (key, bytes) in steps {
                // A size of 0 stands for a use of the entry.
                if *bytes == 0 {
                    assert_eq!(lru.get(key), Some((*key).to_owned()));
                } else {
                    lru.insert(key, (*key).to_owned(), *bytes);
                }
            }
            let mut kept: Vec<_> = lru.entries.iter().map(|(key, _)| key.as_str()).collect();
            kept.sort_unstable();
            assert_eq!(kept, expected, "{steps:?}");
            assert_eq!(lru.bytes, lru.entries.iter().map(|(_, (_, bytes))| bytes).sum::<u64>());
        }
        check(&[("a", 5), ("b", 5)], &["a", "b"]);
        check(&[("a", 5), ("b", 5), ("c", 1)], &["b", "c"]);
        check(&[("a", 5), ("b", 5), ("a", 0), ("c", 1)], &["a", "c"]);
        check(&[("a", 2), ("b", 2), ("c", 2), ("d", 9)], &["d"]);
        check(&[("a", 5), ("b", 11)], &["b"]);
        check(&[("a", 5), ("b", 5), ("a", 5)], &["a", "b"]);
        check(&[("a", 11), ("a", 3), ("b", 7)], &["a", "b"]);
    }

    #[test]
    fn a_key_has_one_lock_while_it_is_used() {
        let locks = KeyedLocks::<_, Mutex<()>>::default();
        let one = locks.of(&"a");
        let same = locks.of(&"a");
        let other = locks.of(&"b");
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        drop((one, same, other));
        drop(locks.of(&"c"));
        assert_eq!(locks.0.lock().len(), 1);
    }
}
