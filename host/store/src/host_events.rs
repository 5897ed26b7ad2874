//! Host events: changes of a subscription's state by the host, for subscriptions of the module `Subscription`.
//!
//! A host event is accepted in the transaction of the change, and delivered like any other event, except to the subscription that it
//! is about, whose receiver is failing.

use super::accept::accept_one;
use super::batch::AdminTx;
use super::claims::Claims;
use super::{Catalog, NewDeliveries, NewEvent, StoreError};
use bytes::Bytes;
use hookloom_model::event::Module;
use hookloom_model::subscription::{Subscription, SubscriptionState};
use serde_json::json;

/// Accepts `Subscription is Disabled` or `Subscription is Paused`, and returns its deliveries. Does nothing for an active subscription.
pub(super) fn accept_state_change(
    tx: &AdminTx<'_, '_>,
    catalogs: (&Catalog, &Claims),
    subscription: &Subscription,
) -> Result<NewDeliveries, StoreError> {
    let state = match subscription.state {
        SubscriptionState::Disabled => "Disabled",
        SubscriptionState::Paused => "Paused",
        SubscriptionState::Active => return Ok(NewDeliveries::default()),
    };
    let name = format!("Subscription is {state}");
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
    // The share of the tenant is not checked: host events are few, and are accepted even if the share is used up.
    let mut new_deliveries = NewDeliveries::default();
    accept_one(&tx.intake(), catalogs, &subscription.tenant, event, Some(subscription.id), &mut new_deliveries);
    Ok(new_deliveries)
}
