//! Results of transactions that publish: what the caller is told, and what the memory of the host shows after the commit.

use crate::backend::intake::IntakeAnswer;
use crate::backend::subscriptions::StateAnswer;
use crate::host_state::HostState;
use crate::store_event::NewDeliveries;
use hookloom_model::subscription::{Subscription, SubscriptionId, TenantId};
use std::sync::Arc;

/// Result of a transaction that makes deliveries.
pub(crate) struct IntakeCommit<A> {
    pub(crate) answer: A,
    pub(crate) new_deliveries: NewDeliveries,
}

impl<A> IntakeCommit<A> {
    /// Returns the result of a transaction that made no deliveries.
    pub(crate) fn nothing(answer: A) -> Self {
        IntakeCommit { answer, new_deliveries: NewDeliveries::default() }
    }
}

impl IntakeCommit<IntakeAnswer> {
    /// Publishes the accepted events of a tenant, if there are any.
    pub(crate) fn publish(&mut self, state: &HostState, tenant: &TenantId) {
        if let IntakeAnswer::Accepted(events) = &self.answer {
            state.publish_accepted(tenant, events.len(), std::mem::take(&mut self.new_deliveries));
        }
    }
}

/// Result of a transaction that changes the state of a subscription.
pub(crate) struct StateCommit {
    pub(crate) answer: StateAnswer,
    pub(crate) changed: Option<Arc<Subscription>>,
    pub(crate) new_deliveries: NewDeliveries,
}

impl StateCommit {
    /// Returns the result of a transaction that changed nothing.
    pub(crate) fn nothing(answer: StateAnswer) -> Self {
        StateCommit { answer, changed: None, new_deliveries: NewDeliveries::default() }
    }

    /// Shows the changed subscription, and publishes the change, unless the transaction was stale.
    pub(crate) fn publish(&mut self, state: &HostState, id: SubscriptionId) {
        if self.answer == StateAnswer::Stale {
            return;
        }
        state.catalog.put_subscriptions(self.changed.iter().cloned().collect());
        state.publish_deliveries(std::mem::take(&mut self.new_deliveries));
        state.publish_change(id);
    }
}
