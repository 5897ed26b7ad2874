//! Instances that rest between two events, for subscriptions that ask for it.
//!
//! # Rules
//! - An instance serves one subscription, one generation of its config and one version of one plugin; never another.
//! - It ends after so many calls, after so long without one, after a fault, when its plugin's active version changes, and
//!   when instances of others need the room: the one that rested longest goes.
//! - A fault in an instance that had judged before costs the delivery nothing: a fresh one judges (see
//!   [`chain`](super::chain)).
//!
//! What a guest keeps in memory is the only thing that crosses from one event to the next. Pure but for the instances it
//! holds.

use super::sandbox::Instance;
use crate::subscription::{Reuse, Subscription, SubscriptionId, TenantId};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whose an instance is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Owner {
    tenant: TenantId,
    subscription: SubscriptionId,
    generation: u64,
    plugin: String,
    sha256: String,
}

impl Owner {
    /// The owner of an instance of a plugin's version that judges for a subscription.
    pub(super) fn new(subscription: &Subscription, plugin: &str, sha256: &str) -> Self {
        Owner {
            tenant: subscription.tenant.clone(),
            subscription: subscription.id,
            generation: subscription.generation,
            plugin: plugin.to_owned(),
            sha256: sha256.to_owned(),
        }
    }
}

struct Resting<T> {
    owner: Owner,
    until: Instant,
    instance: T,
}

/// Where instances rest, the one that began to rest first in front.
pub(super) struct Rest<T = Instance> {
    resting: Mutex<VecDeque<Resting<T>>>,
    most: usize,
}

impl<T> Rest<T> {
    /// Room for this many instances.
    pub(super) fn new(most: usize) -> Self {
        Rest { resting: Mutex::default(), most }
    }

    /// The owner's instance that was used last, if one rests.
    pub(super) fn take(&self, owner: &Owner) -> Option<T> {
        let mut resting = self.lock();
        let at = resting.iter().rposition(|one| one.owner == *owner && one.until > Instant::now())?;
        resting.remove(at).map(|one| one.instance)
    }

    /// Lays an instance to rest that was called so often, if the subscription's rule lets it be called again.
    pub(super) fn put(&self, owner: Owner, instance: T, calls: u32, rule: Reuse) {
        if calls >= rule.calls || self.most == 0 {
            return;
        }
        let until = Instant::now() + Duration::from_secs(rule.idle_s.into());
        let mut resting = self.lock();
        let over = if resting.len() == self.most { resting.pop_front() } else { None };
        resting.push_back(Resting { owner, until, instance });
        drop(resting);
        // Taking an instance down takes a moment, which nobody else shall wait for.
        drop(over);
    }

    /// Ends the instances of a plugin: its active version changed.
    pub(super) fn forget_plugin(&self, tenant: &TenantId, plugin: &str) {
        self.end(|one| one.owner.tenant == *tenant && one.owner.plugin == plugin);
    }

    /// Ends the instances that rested for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.end(|one| one.until <= now);
    }

    fn end(&self, over: impl Fn(&Resting<T>) -> bool) {
        let mut resting = self.lock();
        let (ended, kept) = std::mem::take(&mut *resting).into_iter().partition::<VecDeque<_>, _>(over);
        *resting = kept;
        drop(resting);
        drop(ended);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Resting<T>>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Reuse = Reuse { calls: 3, idle_s: 60 };

    fn owner(plugin: &str, generation: u64) -> Owner {
        let (tenant, subscription) = (TenantId("t".into()), SubscriptionId(uuid::Uuid::nil()));
        Owner { tenant, subscription, generation, plugin: plugin.to_owned(), sha256: "00".to_owned() }
    }

    #[test]
    fn an_instance_serves_its_owner_only() {
        let rest = Rest::new(4);
        rest.put(owner("a", 1), "instance", 1, RULE);
        assert_eq!(rest.take(&owner("a", 2)), None, "another config");
        assert_eq!(rest.take(&owner("b", 1)), None, "another plugin");
        assert_eq!(rest.take(&owner("a", 1)), Some("instance"));
        assert_eq!(rest.take(&owner("a", 1)), None, "it is at work");
    }

    #[test]
    fn an_instance_ends() {
        let rest = Rest::new(2);
        rest.put(owner("a", 1), "called three times", 3, RULE);
        assert_eq!(rest.take(&owner("a", 1)), None);

        for name in ["first", "second", "third"] {
            rest.put(owner(name, 1), name, 1, RULE);
        }
        assert_eq!(rest.take(&owner("first", 1)), None, "there is room for two");
        rest.forget_plugin(&TenantId("t".into()), "second");
        assert_eq!(rest.take(&owner("second", 1)), None);
        rest.sweep(Instant::now() + Duration::from_secs(61));
        assert_eq!(rest.take(&owner("third", 1)), None);
    }

    #[test]
    fn without_room_nothing_rests() {
        let rest = Rest::new(0);
        rest.put(owner("a", 1), "instance", 1, RULE);
        assert_eq!(rest.take(&owner("a", 1)), None);
    }
}
