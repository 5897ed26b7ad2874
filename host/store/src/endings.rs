//! End of the pending deliveries of a subscription that is disabled or deleted.
//!
//! The transaction of the change ends the first deliveries. The others follow in transactions of the same size, between which other
//! writes run. Meanwhile the subscription matches no events and attempts nothing. After an interruption, the retention task ends the
//! remaining deliveries, which it finds by their subscription.

use crate::{Store, StoreError};
use hookloom_model::delivery::{DeliveryState, Reason};
use hookloom_model::subscription::{Subscription, SubscriptionId, SubscriptionState, TenantId};

impl Store {
    /// Ends the remaining pending deliveries of a subscription that is disabled or deleted, step by step, with the given state and
    /// reason, or else those of the subscription's state. Stops if the subscription was resumed meanwhile.
    pub(crate) async fn end_rest(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        end: Option<(DeliveryState, Reason)>,
    ) -> Result<(), StoreError> {
        while self.backend.end_pending(tenant, id, end.clone()).await? > 0 {}
        Ok(())
    }

    /// Ends the pending deliveries that an interrupted change has left for disabled or deleted subscriptions of a tenant.
    pub(crate) async fn end_leftovers(&self, tenant: &TenantId) -> Result<(), StoreError> {
        for id in self.backend.pending(tenant).into_keys() {
            let subscription = self.catalog().subscription(tenant, id);
            if subscription.is_none_or(|subscription| subscription.state == SubscriptionState::Disabled) {
                self.end_rest(tenant, id, None).await?;
            }
        }
        Ok(())
    }
}

/// Returns the reason of deliveries whose subscription was deleted.
pub(crate) fn deleted() -> Reason {
    Reason::new("subscription-deleted", "its subscription was deleted")
}

/// Returns how the pending deliveries of a subscription end (None: it was deleted). None: it is not disabled.
pub(crate) fn end_of(subscription: Option<&Subscription>) -> Option<(DeliveryState, Reason)> {
    match subscription {
        None => Some((DeliveryState::Cancelled, deleted())),
        Some(subscription) if subscription.state == SubscriptionState::Disabled => {
            let message = subscription.state_reason.as_deref().unwrap_or("its subscription was disabled");
            Some((DeliveryState::Dead, Reason::new("subscription-disabled", message)))
        }
        Some(_) => None,
    }
}
