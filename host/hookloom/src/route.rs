//! The rule for who gets an event. Pure. Does not know why a subscription is in its state.

use crate::event::Module;
use crate::subscription::{Subscription, SubscriptionState};

/// Returns true if a subscription gets events of this module: it is not disabled and has the module's box ticked. A paused one
/// matches: its deliveries wait.
pub fn matches(subscription: &Subscription, module: Module) -> bool {
    subscription.state != SubscriptionState::Disabled && subscription.settings.modules.contains(&module)
}
