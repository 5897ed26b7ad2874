//! Chains of superseded deliveries, as operators see them.

use super::{Operations, Problem};
use crate::delivery::{DeliveryId, DeliveryState};
use crate::store::{DeliveryView, SettledChain};
use crate::subscription::{SubscriptionId, TenantId};
use serde::Serialize;
use std::collections::HashMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// Maximum number of chains in the explanation of one event.
const CHAINS_MAX: usize = 50;

/// Deliveries of a burst, each superseded by one of a later event, up to the survivor.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettledChainBody {
    /// The latest deliveries, at most 100, in the order of their events. The last one is the survivor.
    pub(crate) deliveries: Vec<ChainedDelivery>,
    /// Number of the burst's other events: earlier than the listed ones, pruned, or retried by hand.
    pub(crate) not_listed: u64,
}

/// Delivery in the chain of its burst.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChainedDelivery {
    pub(crate) delivery: Uuid,
    pub(crate) event: Uuid,
    /// Time at which the delivery was made, in milliseconds since the epoch.
    pub(crate) created_at_ms: i64,
    pub(crate) state: DeliveryState,
}

impl From<&SettledChain> for SettledChainBody {
    fn from(chain: &SettledChain) -> Self {
        let deliveries = chain.deliveries.iter().map(|one| ChainedDelivery {
            delivery: one.id.0,
            event: one.event.0,
            created_at_ms: one.created_at_ms,
            state: one.state,
        });
        SettledChainBody { deliveries: deliveries.collect(), not_listed: chain.not_listed }
    }
}

impl Operations {
    /// Returns the chain of a delivery. None: it stands for its own event only.
    pub(crate) async fn settled_chain(
        &self,
        tenant: &TenantId,
        delivery: &DeliveryView,
    ) -> Result<Option<SettledChainBody>, Problem> {
        if !is_chained(delivery) {
            return Ok(None);
        }
        let chains = self.store.settled_chains(tenant.clone(), vec![delivery.id]).await?;
        Ok(chains.get(&delivery.id).map(Into::into))
    }

    /// Returns the chains of the deliveries of an event to several subscriptions.
    pub(super) async fn settled_chains(
        &self,
        tenant: &TenantId,
        deliveries: &HashMap<SubscriptionId, &DeliveryView>,
    ) -> Result<HashMap<DeliveryId, SettledChain>, Problem> {
        let mut chained: Vec<DeliveryId> =
            deliveries.values().filter(|one| is_chained(one)).map(|one| one.id).collect();
        if chained.is_empty() {
            return Ok(HashMap::new());
        }
        chained.sort_unstable();
        chained.truncate(CHAINS_MAX);
        Ok(self.store.settled_chains(tenant.clone(), chained).await?)
    }
}

/// Returns true if a delivery may be in a chain.
fn is_chained(delivery: &DeliveryView) -> bool {
    delivery.superseded_by.is_some() || delivery.settled.is_some_and(|settled| settled.count > 1)
}
