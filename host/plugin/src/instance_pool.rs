//! Pool of idle plugin instances, for subscriptions with the setting `reuse`.
//!
//! # Guarantees
//! - An instance serves one subscription, one generation of its config and one version of one plugin, and no other.
//! - An instance ends after `reuse.calls` calls, after `reuse.idle_s` without a call, after a fault, when the active version of
//!   its plugin changes, and when the pool is full: the instance that has been idle for longest is evicted.
//! - A fault of a reused instance costs no attempt: a fresh instance judges instead ([`chain`](super::chain)).
//!
//! # Limits
//! The guest's memory is kept from one event to the next, so a plugin can let one event affect later ones.

use super::sandbox::Instance;
use hookloom_model::clock;
use hookloom_model::subscription::{Reuse, Subscription, SubscriptionId, TenantId};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Weak;
use std::time::{Duration, Instant};

/// Identity of an instance: the only calls that it may serve.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct InstanceKey {
    tenant: TenantId,
    subscription: SubscriptionId,
    generation: u64,
    plugin: String,
    sha256: String,
}

impl InstanceKey {
    /// Returns the key of an instance of a plugin's version that judges for a subscription.
    pub(super) fn new(subscription: &Subscription, plugin: &str, sha256: &str) -> Self {
        InstanceKey {
            tenant: subscription.tenant.clone(),
            subscription: subscription.id,
            generation: subscription.generation,
            plugin: plugin.to_owned(),
            sha256: sha256.to_owned(),
        }
    }
}

struct IdleInstance<T> {
    key: InstanceKey,
    until: Instant,
    instance: T,
}

/// Idle instances, the longest idle first.
pub(super) struct InstancePool<T = Instance> {
    idle: Mutex<VecDeque<IdleInstance<T>>>,
    instances_max: usize,
}

impl<T> InstancePool<T> {
    /// Creates a pool of at most this many instances.
    pub(super) fn new(instances_max: usize) -> Self {
        InstancePool { idle: Mutex::default(), instances_max }
    }

    /// Takes the most recently used idle instance with this key.
    pub(super) fn take(&self, key: &InstanceKey) -> Option<T> {
        let mut idle = self.lock();
        let at = idle.iter().rposition(|one| one.key == *key && one.until > clock::instant())?;
        idle.remove(at).map(|one| one.instance)
    }

    /// Returns an instance to the pool after `calls` calls, if the subscription's rule allows another one.
    pub(super) fn put(&self, key: InstanceKey, instance: T, calls: u32, rule: Reuse) {
        if calls >= rule.calls || self.instances_max == 0 {
            return;
        }
        let until = clock::instant() + Duration::from_secs(rule.idle_s.into());
        let mut idle = self.lock();
        let evicted = if idle.len() == self.instances_max { idle.pop_front() } else { None };
        idle.push_back(IdleInstance { key, until, instance });
        drop(idle);
        // Dropping an instance takes time: the lock is released first.
        drop(evicted);
    }

    /// Drops the instances of a plugin, because its active version changed.
    pub(super) fn evict_plugin(&self, tenant: &TenantId, plugin: &str) {
        self.evict(|one| one.key.tenant == *tenant && one.key.plugin == plugin);
    }

    /// Drops the instances whose idle time is over.
    pub(super) fn evict_expired(&self, now: Instant) {
        self.evict(|one| one.until <= now);
    }

    fn evict(&self, is_over: impl Fn(&IdleInstance<T>) -> bool) {
        let mut idle = self.lock();
        let (ended, kept) = std::mem::take(&mut *idle).into_iter().partition::<VecDeque<_>, _>(is_over);
        *idle = kept;
        drop(idle);
        drop(ended);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<IdleInstance<T>>> {
        self.idle.lock()
    }
}

/// Evicts expired idle instances periodically, until the runtime ends.
pub(super) async fn evict_expired(pool: Weak<InstancePool>) {
    while let Some(pool) = pool.upgrade() {
        pool.evict_expired(clock::instant());
        drop(pool);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Reuse = Reuse { calls: 3, idle_s: 60 };

    fn key(plugin: &str, generation: u64) -> InstanceKey {
        let tenant = TenantId("t".into());
        let subscription = SubscriptionId(uuid::Uuid::nil());
        InstanceKey { tenant, subscription, generation, plugin: plugin.to_owned(), sha256: "00".to_owned() }
    }

    #[test]
    fn an_instance_serves_its_key_only() {
        let pool = InstancePool::new(4);
        pool.put(key("a", 1), "instance", 1, RULE);
        assert_eq!(pool.take(&key("a", 2)), None, "another config");
        assert_eq!(pool.take(&key("b", 1)), None, "another plugin");
        assert_eq!(pool.take(&key("a", 1)), Some("instance"));
        assert_eq!(pool.take(&key("a", 1)), None, "it is at work");
    }

    #[test]
    fn an_instance_ends() {
        let pool = InstancePool::new(2);
        pool.put(key("a", 1), "called three times", 3, RULE);
        assert_eq!(pool.take(&key("a", 1)), None);

        for name in ["first", "second", "third"] {
            pool.put(key(name, 1), name, 1, RULE);
        }
        assert_eq!(pool.take(&key("first", 1)), None, "there is room for two");
        pool.evict_plugin(&TenantId("t".into()), "second");
        assert_eq!(pool.take(&key("second", 1)), None);
        pool.evict_expired(clock::instant() + Duration::from_secs(61));
        assert_eq!(pool.take(&key("third", 1)), None);
    }

    #[test]
    fn a_pool_of_no_instances_keeps_none() {
        let pool = InstancePool::new(0);
        pool.put(key("a", 1), "instance", 1, RULE);
        assert_eq!(pool.take(&key("a", 1)), None);
    }
}
