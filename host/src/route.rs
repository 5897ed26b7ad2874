//! Matching of events and subscriptions. Pure.

use crate::event::Module;
use crate::subscription::{Subscription, SubscriptionState};

/// Returns true if a subscription gets events of this module: it is not disabled and lists the module. A paused subscription
/// matches, and its deliveries wait.
pub fn matches(subscription: &Subscription, module: Module) -> bool {
    subscription.state != SubscriptionState::Disabled && subscription.settings.modules.contains(&module)
}
