//! Changes of a subscription's state, by an operator or by the host.

use crate::StoreError;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::Reason;
use hookloom_model::limits::{REASON_BYTES_MAX, shortened};
use hookloom_model::subscription::{Subscription, SubscriptionState};

/// Change of a subscription's state.
#[derive(Debug, Clone)]
pub enum StateChange {
    /// Sends again. The time of the pause does not count as age of deliveries.
    Resume,
    /// Stops sending. Deliveries wait.
    Pause {
        /// Reason of the pause.
        reason: String,
        /// True if the host has decided it; a host event is accepted then.
        by_host: bool,
    },
    /// Matches no more events, and ends pending deliveries for this reason.
    Disable {
        /// Reason for the subscription and its deliveries.
        reason: Reason,
        /// Applies only if the config has this generation.
        generation: Option<u64>,
    },
}

/// Effect of a change on a subscription.
#[derive(Debug)]
pub(crate) struct StateEffect {
    /// The subscription after the change.
    pub(crate) changed: Subscription,
    /// Beginning of the present pause, in milliseconds since the epoch. None: there is no pause.
    pub(crate) paused_at_ms: Option<i64>,
    /// Reason with which its pending deliveries end, if they do.
    pub(crate) ends: Option<Reason>,
    /// True if the host has changed the state, so that a host event is accepted.
    pub(crate) is_host_event: bool,
}

impl StateChange {
    /// Returns the effect on a subscription whose present pause began at `paused_at_ms`. None: the change does not apply, because the
    /// config has another generation.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: the state does not allow the change.
    pub(crate) fn apply(
        &self,
        current: &Subscription,
        paused_at_ms: Option<i64>,
    ) -> Result<Option<StateEffect>, StoreError> {
        let mut changed = current.clone();
        let now_ms = now_ms();
        let mut effect_pause = None;
        let mut ends = None;
        match self {
            StateChange::Resume => {
                if let Some(paused_at_ms) = paused_at_ms {
                    changed.pauses.add(paused_at_ms, now_ms);
                }
                changed.state = SubscriptionState::Active;
                changed.state_reason = None;
                changed.failing_since_ms = None;
            }
            StateChange::Pause { .. } if current.state == SubscriptionState::Disabled => {
                return Err(StoreError::Conflict("a disabled subscription cannot be paused; resume it first".into()));
            }
            StateChange::Pause { reason, .. } => {
                effect_pause = match current.state {
                    SubscriptionState::Active => Some(now_ms),
                    SubscriptionState::Paused | SubscriptionState::Disabled => paused_at_ms,
                };
                changed.state_reason = Some(shortened(reason, REASON_BYTES_MAX));
                changed.state = SubscriptionState::Paused;
            }
            StateChange::Disable { generation, .. } if generation.is_some_and(|seen| seen != current.generation) => {
                return Ok(None);
            }
            StateChange::Disable { reason, .. } => {
                changed.state = SubscriptionState::Disabled;
                changed.state_reason = Some(reason.bounded().message.clone());
                ends = Some(reason.clone());
            }
        }
        let by_host = matches!(self, StateChange::Disable { .. } | StateChange::Pause { by_host: true, .. });
        let is_host_event = by_host && current.state != changed.state;
        Ok(Some(StateEffect { changed, paused_at_ms: effect_pause, ends, is_host_event }))
    }
}
