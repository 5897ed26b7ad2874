//! Numbers of pending deliveries by subscription, in memory.
//!
//! # Guarantees
//! - The numbers are those of the last commit: a backend counts when it opens, and applies the changes of each commit.

use hookloom_model::subscription::{SubscriptionId, TenantId};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;

/// Change of the number of a subscription's pending deliveries by one write.
#[derive(Clone, Debug)]
pub(crate) struct PendingChange {
    pub(crate) tenant: TenantId,
    pub(crate) subscription: SubscriptionId,
    pub(crate) by: i64,
}

/// Numbers of pending deliveries.
#[derive(Default)]
pub(crate) struct PendingCounts(Mutex<Counts>);

/// Numbers by tenant and subscription.
pub(crate) type Counts = HashMap<TenantId, HashMap<SubscriptionId, u64>>;

impl PendingCounts {
    /// Returns the numbers of a count.
    pub(crate) fn of_counts(counts: Counts) -> Self {
        PendingCounts(Mutex::new(counts))
    }

    /// Replaces the numbers by those of another count.
    pub(crate) fn replace(&self, other: PendingCounts) {
        *self.lock() = other.0.into_inner();
    }

    /// Applies the changes of a commit.
    pub(crate) fn apply(&self, changes: Vec<PendingChange>) {
        let mut counts = self.lock();
        for PendingChange { tenant, subscription, by } in changes {
            let of_tenant = match counts.get_mut(&tenant) {
                Some(known) => known,
                None => counts.entry(tenant).or_default(),
            };
            let count = of_tenant.entry(subscription).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                of_tenant.remove(&subscription);
            }
        }
    }

    /// Removes a tenant that is deleted.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.lock().remove(tenant);
    }

    /// Returns the numbers of a tenant's pending deliveries, without zeros.
    pub(crate) fn of(&self, tenant: &TenantId) -> HashMap<SubscriptionId, u64> {
        self.lock().get(tenant).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_commit_moves_the_numbers_and_what_was_never_counted_stays_at_none() {
        let counts = PendingCounts::default();
        let tenant = TenantId("t".into());
        let [one, other] = [1, 2].map(|id| SubscriptionId(Uuid::from_u128(id)));
        let change = |subscription, by| PendingChange { tenant: tenant.clone(), subscription, by };
        counts.apply(vec![change(one, 2), change(other, 1), change(one, -1), change(other, -1)]);
        assert_eq!(counts.of(&tenant), HashMap::from([(one, 1)]));
        counts.apply(vec![change(one, -5)]);
        assert_eq!(counts.of(&tenant), HashMap::new());
        counts.apply(vec![change(one, 3)]);
        counts.forget(&tenant);
        assert_eq!(counts.of(&tenant), HashMap::new());
    }
}
