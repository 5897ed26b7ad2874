//! Changes of a subscription's state, by an operator or by the host.

use hookloom_model::delivery::Reason;

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
