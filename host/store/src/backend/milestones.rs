//! Milestones of a tenant: what has happened at least once.
//!
//! # Guarantees of every backend
//! - A milestone stays reached when the rows that showed it are pruned.
//! - The cost does not grow with the number of events and deliveries.
//!
//! # Limits
//! A delivery that was delivered is found among the pruned ones and the [`DELIVERIES_SEARCHED`] oldest others. A tenant whose first
//! deliveries have all failed reaches the milestone later.

use crate::StoreError;
use async_trait::async_trait;
use hookloom_model::subscription::TenantId;

/// Number of the oldest deliveries among which one that was delivered is found.
pub(crate) const DELIVERIES_SEARCHED: usize = 10_000;

/// Milestones of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Milestones {
    /// True if an event was ever accepted.
    pub accepted: bool,
    /// True if a delivery was ever answered with 2xx.
    pub delivered: bool,
}

/// Milestones of tenants.
#[async_trait]
pub trait MilestoneBackend: Send + Sync {
    /// Returns the milestones of a tenant, in one snapshot.
    async fn milestones(&self, tenant: TenantId) -> Result<Milestones, StoreError>;
}
