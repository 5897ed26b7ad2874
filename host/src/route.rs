//! The rule for who gets an event. Pure. Does not know why a subscription is in its state.

use crate::event::Module;
use crate::subscription::{Subscription, SubscriptionState};
use std::sync::Arc;

/// The subscriptions that an event of this module is for: every one that is not disabled and has the module's box
/// ticked. A paused one matches: its deliveries wait.
pub fn matching(subscriptions: &[Arc<Subscription>], module: Module) -> impl Iterator<Item = &Arc<Subscription>> {
    subscriptions.iter().filter(move |subscription| {
        subscription.state != SubscriptionState::Disabled && subscription.settings.modules.contains(&module)
    })
}
