//! Events of the host's own: what it decided about a subscription, for whoever listens to the module `Subscription`.
//!
//! An event like any other, accepted in the transaction of the decision. The subscription that it is about does not get
//! it: it would only fail again.

use super::accept::accept_one;
use super::batch::Batch;
use super::{Catalog, NewDeliveries, NewEvent, StoreError};
use crate::event::Module;
use crate::subscription::{Subscription, SubscriptionState};
use bytes::Bytes;
use serde_json::json;

/// Accepts `Subscription is Disabled` or `Subscription is Paused`, and returns the deliveries of it.
pub(super) fn tell(
    batch: &Batch<'_>,
    catalog: &Catalog,
    subscription: &Subscription,
) -> Result<NewDeliveries, StoreError> {
    let word = match subscription.state {
        SubscriptionState::Disabled => "Disabled",
        SubscriptionState::Paused => "Paused",
        SubscriptionState::Active => return Ok(NewDeliveries::default()),
    };
    let name = format!("Subscription is {word}");
    let payload = json!({
        "eventName": name,
        "eventData": {
            "id": subscription.id.to_string(),
            "description": subscription.settings.description,
            "state": subscription.state,
            "reason": subscription.state_reason,
            "failing_since_ms": subscription.failing_since_ms,
            "config_generation": subscription.generation,
        }
    });
    let event = NewEvent {
        name,
        module: Module::Subscription,
        entity_id: Some(subscription.id.to_string()),
        payload: Bytes::from(payload.to_string()),
    };
    // The host's own events are few, and are kept also of a tenant whose share is used up: nothing checks it here.
    let mut new = NewDeliveries::default();
    accept_one(batch, catalog, &subscription.tenant, event, Some(subscription.id), &mut new);
    Ok(new)
}
