//! Host events: changes of a subscription's state by the host, for subscriptions of the module `Subscription`.
//!
//! A host event is accepted in the transaction of the change, and delivered like any other event, except to the subscription that it
//! is about, whose receiver is failing. The share of the tenant is not checked: host events are few, and are accepted even if the
//! share is used up.

use crate::backend::intake::NewEvent;
use bytes::Bytes;
use hookloom_model::event::{Module, SUBSCRIPTION_DISABLED, SUBSCRIPTION_PAUSED};
use hookloom_model::subscription::{Subscription, SubscriptionState};
use serde_json::json;

/// Returns `Subscription is Disabled` or `Subscription is Paused`. None: the subscription is active.
pub fn state_event(subscription: &Subscription) -> Option<NewEvent> {
    let name = match subscription.state {
        SubscriptionState::Disabled => SUBSCRIPTION_DISABLED,
        SubscriptionState::Paused => SUBSCRIPTION_PAUSED,
        SubscriptionState::Active => return None,
    };
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
    Some(NewEvent {
        name: name.to_owned(),
        module: Module::Subscription,
        entity_id: Some(subscription.id.to_string()),
        payload: Bytes::from(payload.to_string()),
    })
}
