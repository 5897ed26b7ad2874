//! Ownership: which subscriptions this host attempts deliveries of, and until when.
//!
//! # Theory of operation
//! Subscriptions are divided into [`SHARDS`] shards by the last byte of their id, which is random. A host owns shards, and only their owner
//! runs the lanes of their subscriptions. A database that one host uses has one owner: [`Ownership::default`] owns everything for ever.
//!
//! Where several hosts share a database, a host owns shards under a lease, by its own steady clock. What it owns changes in one place,
//! the task of its fleet membership.
//!
//! # Guarantees
//! - [`Ownership::may_begin`] is false after the end of the lease, also if the task that renews it stands still.

use hookloom_model::clock;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use parking_lot::RwLock;
use std::time::Duration;

/// Number of shards.
pub(crate) const SHARDS: usize = 256;

/// Set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardSet([u64; SHARDS / 64]);

impl ShardSet {
    /// All shards.
    pub(crate) const ALL: ShardSet = ShardSet([u64::MAX; SHARDS / 64]);

    /// Returns true if the set has a shard.
    pub(crate) fn has(&self, shard: u8) -> bool {
        self.0[usize::from(shard) / 64] >> (shard % 64) & 1 == 1
    }
}

#[cfg(any(test, feature = "memory", feature = "postgres"))]
impl ShardSet {
    /// Adds a shard.
    pub(crate) fn insert(&mut self, shard: u8) {
        self.0[usize::from(shard) / 64] |= 1 << (shard % 64);
    }

    /// Returns the shards that are in this set and not in another one.
    pub(crate) fn without(&self, other: &ShardSet) -> ShardSet {
        let mut left = *self;
        left.0.iter_mut().zip(other.0).for_each(|(bits, other)| *bits &= !other);
        left
    }

    /// Returns the shards that are in this set and in another one.
    pub(crate) fn both(&self, other: &ShardSet) -> ShardSet {
        self.without(&self.without(other))
    }

    /// Returns the shards that are in this set or in another one.
    pub(crate) fn with(&self, other: &ShardSet) -> ShardSet {
        let mut all = *self;
        all.0.iter_mut().zip(other.0).for_each(|(bits, other)| *bits |= other);
        all
    }

    /// Returns the number of shards.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Returns true if there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0 == [0; SHARDS / 64]
    }

    /// Returns the shards, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u8> {
        let set = *self;
        (0..=u8::MAX).filter(move |shard| set.has(*shard))
    }
}

#[cfg(any(test, feature = "memory", feature = "postgres"))]
impl FromIterator<u8> for ShardSet {
    fn from_iter<I: IntoIterator<Item = u8>>(shards: I) -> Self {
        let mut set = ShardSet::default();
        shards.into_iter().for_each(|shard| set.insert(shard));
        set
    }
}

/// Returns the shard of a subscription.
pub(crate) fn shard_of(subscription: SubscriptionId) -> u8 {
    subscription.0.as_bytes()[15]
}

/// Shards that this host owns, and until when.
#[derive(Debug)]
pub(crate) struct Ownership(RwLock<Owned>);

#[derive(Debug)]
struct Owned {
    shards: ShardSet,
    /// Time by the steady clock at which the last attempt may begin, since the boot of the machine. None: there is no lease.
    until: Option<Duration>,
    /// Times by the steady clock at which shards were taken over from a host that may still have had attempts under way.
    taken_over_at: [Option<Duration>; SHARDS],
}

impl Default for Ownership {
    /// Owns all shards, without a lease.
    fn default() -> Self {
        Ownership(RwLock::new(Owned { shards: ShardSet::ALL, until: None, taken_over_at: [None; SHARDS] }))
    }
}

impl Ownership {
    /// Returns true if the lane of a subscription runs here.
    pub(crate) fn owns(&self, subscription: SubscriptionId) -> bool {
        self.0.read().shards.has(shard_of(subscription))
    }

    /// Returns true if this host evaluates the alerts of a tenant: it owns the shard that a hash of the tenant's id names.
    pub(crate) fn owns_tenant(&self, tenant: &TenantId) -> bool {
        let hash = tenant
            .0
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let [shard, ..] = hash.to_be_bytes();
        self.0.read().shards.has(shard)
    }

    /// Returns true if an attempt of a subscription that is owned may begin now.
    pub(crate) fn may_begin(&self) -> bool {
        self.0.read().until.is_none_or(|until| clock::since_boot() < until)
    }

    /// Returns the time until attempts of a former owner of the subscription's shard have ended, if an attempt takes at most `time_max`.
    pub(crate) fn rests_for(&self, subscription: SubscriptionId, time_max: Duration) -> Option<Duration> {
        let taken_over_at = self.0.read().taken_over_at[usize::from(shard_of(subscription))]?;
        let left = (taken_over_at + time_max).saturating_sub(clock::since_boot());
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(any(test, feature = "memory", feature = "postgres"))]
impl Ownership {
    /// Returns what is owned.
    pub(crate) fn shards(&self) -> ShardSet {
        self.0.read().shards
    }

    /// Owns nothing from now on.
    pub(crate) fn clear(&self) {
        let mut owned = self.0.write();
        owned.shards = ShardSet::default();
        owned.until = Some(Duration::ZERO);
    }

    /// Sets the end of the lease.
    pub(crate) fn set_until(&self, until: Duration) {
        self.0.write().until = Some(until);
    }

    /// Owns more shards, of which some were taken over.
    pub(crate) fn add(&self, shards: ShardSet, taken_over: ShardSet) {
        let mut owned = self.0.write();
        owned.shards = owned.shards.with(&shards);
        for shard in shards.iter() {
            owned.taken_over_at[usize::from(shard)] = taken_over.has(shard).then(clock::since_boot);
        }
    }

    /// Owns these shards no longer.
    pub(crate) fn remove(&self, shards: ShardSet) {
        let mut owned = self.0.write();
        owned.shards = owned.shards.without(&shards);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn subscription(shard: u8) -> SubscriptionId {
        SubscriptionId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(shard)))
    }

    #[test]
    fn sets_add_and_take_out_shards() {
        let some: ShardSet = [0, 63, 64, 255].into_iter().collect();
        assert_eq!((some.len(), some.iter().collect::<Vec<_>>()), (4, vec![0, 63, 64, 255]));
        let left = some.without(&[63, 255, 7].into_iter().collect());
        assert_eq!(left.iter().collect::<Vec<_>>(), [0, 64]);
        assert_eq!(left.with(&[1].into_iter().collect()).iter().collect::<Vec<_>>(), [0, 1, 64]);
        assert!(left.without(&ShardSet::ALL).is_empty());
        assert_eq!(some.both(&[63, 7, 255].into_iter().collect()).iter().collect::<Vec<_>>(), [63, 255]);
    }

    #[test]
    fn without_a_fleet_everything_is_owned_for_ever() {
        let ownership = Ownership::default();
        assert!((0..=u8::MAX).all(|shard| ownership.owns(subscription(shard))));
        assert!(ownership.may_begin());
        assert_eq!(ownership.rests_for(subscription(3), Duration::from_secs(30)), None);
    }

    #[test]
    fn attempts_begin_until_the_end_of_the_lease_only() {
        let ownership = Ownership::default();
        ownership.clear();
        assert!(!ownership.owns(subscription(3)) && !ownership.may_begin());
        ownership.add([3, 4].into_iter().collect(), [4].into_iter().collect());
        assert!(ownership.owns(subscription(3)) && !ownership.owns(subscription(5)) && !ownership.may_begin());
        ownership.set_until(clock::since_boot() + Duration::from_secs(60));
        assert!(ownership.may_begin());
        ownership.remove([3].into_iter().collect());
        assert!(!ownership.owns(subscription(3)) && ownership.owns(subscription(4)));
        assert_eq!(ownership.rests_for(subscription(3), Duration::from_secs(30)), None);
        let rests = ownership.rests_for(subscription(4), Duration::from_secs(30)).expect("it was taken over");
        assert!(rests > Duration::from_secs(29) && rests <= Duration::from_secs(30), "{rests:?}");
        assert_eq!(ownership.rests_for(subscription(4), Duration::ZERO), None);
    }
}
