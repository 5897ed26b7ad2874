//! Deliveries: states, attempts, and their outcomes.
//!
//! Pure data and the transitions between states. Does not know how a delivery is stored, scheduled or sent.

mod attempt;

pub use crate::ids::DeliveryId;
use crate::ids::{EventId, SubscriptionId, TenantId};
use crate::limits::{REASON_BYTES_MAX, cut, shortened};
use crate::settle::SettledEvents;
pub use attempt::{Arm, Attempt, AttemptOutcome, Cost, JudgedStep, Timings, Verdict};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// State of a delivery. All states but `Pending` are final, until an operator retries the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Waiting for its first or next attempt.
    Pending,
    /// A receiver answered 2xx.
    Delivered,
    /// The plugin decided to send nothing.
    Dropped,
    /// Attempts or age exhausted, invalid event, or the subscription was disabled.
    Dead,
    /// Cancelled by an operator, or the subscription was deleted.
    Cancelled,
    /// Never attempted: a later event of the same contact or deal followed within the quiet time, and its delivery stands for this one.
    Superseded,
}

impl DeliveryState {
    /// All states, in the order of their stored numbers.
    pub const ALL: [DeliveryState; 6] = [
        DeliveryState::Pending,
        DeliveryState::Delivered,
        DeliveryState::Dropped,
        DeliveryState::Dead,
        DeliveryState::Cancelled,
        DeliveryState::Superseded,
    ];

    /// Returns the name of the state.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dropped => "dropped",
            DeliveryState::Dead => "dead",
            DeliveryState::Cancelled => "cancelled",
            DeliveryState::Superseded => "superseded",
        }
    }
}

/// Origin of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeliveryKind {
    /// The delivery was made when its event was accepted.
    #[default]
    Usual,
    /// The delivery was made by a replay.
    Replay,
    /// The delivery is a test of the subscription, which is attempted once.
    Test,
}

impl DeliveryKind {
    /// All kinds, in the order of their stored numbers.
    pub const ALL: [DeliveryKind; 3] = [DeliveryKind::Usual, DeliveryKind::Replay, DeliveryKind::Test];
}

/// Due delivery, as lanes hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDelivery {
    /// Id of the delivery.
    pub id: DeliveryId,
    /// Tenant of the delivery.
    pub tenant: TenantId,
    /// Event that the delivery carries.
    pub event: EventId,
    /// Subscription of the delivery.
    pub subscription: SubscriptionId,
    /// Origin of the delivery.
    pub kind: DeliveryKind,
    /// Number of attempts made so far; the next attempt has this number plus one.
    pub attempts_made: u32,
    /// Number of attempts since the delivery was last made pending by an operator.
    pub attempts_in_budget: u32,
    /// Beginning of the delivery's age, in milliseconds since the epoch.
    pub age_from_ms: i64,
    /// Events that the delivery stands for, if its subscription settled them.
    pub settled: Option<SettledEvents>,
    /// True if a later event may still supersede the delivery. Nothing is attempted before that has ended.
    pub is_settling: bool,
}

/// Outcome of an attempt. Failures of the host itself are errors instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with this status.
    Answered {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, in milliseconds from the answer, if there was one.
        retry_after_ms: Option<u64>,
        /// True if the plugin chose another address than the Notify URL, about which the answer says nothing.
        elsewhere: bool,
    },
    /// There was no answer: connection refused or reset, TLS failure, timeout.
    NoAnswer {
        /// Kind of failure.
        kind: NoAnswer,
        /// Description of the failure.
        detail: String,
    },
    /// The plugin decided to send nothing.
    Dropped(Reason),
    /// The plugin asks for another attempt after a delay.
    Later {
        /// Delay that the plugin asks for, in milliseconds.
        delay_ms: u64,
        /// The plugin's reason.
        reason: Reason,
    },
    /// The plugin reports that the event can never be processed.
    InvalidEvent(Reason),
    /// The plugin reports a temporary failure.
    Transient(Reason),
    /// The plugin reports an invalid config of the subscription.
    BadConfig(Reason),
    /// The host could not run the plugin. The delivery is delayed, and the attempt does not count.
    HostFault(Reason),
    /// The plugin trapped, exceeded a limit, or returned an invalid answer.
    PluginFault {
        /// True for a fault that would recur with the same inputs (a trap, memory, invalid output), so that the delivery waits for
        /// a new version or config. A timeout is retried.
        recurs: bool,
        /// Limit or rule, and the plugin's last output.
        reason: Reason,
    },
}

impl Outcome {
    /// The outcome without its details.
    pub fn recorded(&self) -> AttemptOutcome {
        match self {
            Outcome::Answered { status: 200..=299, .. } => AttemptOutcome::Delivered,
            Outcome::Answered { .. } | Outcome::NoAnswer { .. } => AttemptOutcome::Failed,
            Outcome::Dropped(_) => AttemptOutcome::Dropped,
            Outcome::Later { .. } => AttemptOutcome::Later,
            Outcome::InvalidEvent(_) | Outcome::Transient(_) | Outcome::BadConfig(_) => AttemptOutcome::PluginFailure,
            Outcome::PluginFault { .. } => AttemptOutcome::PluginFault,
            Outcome::HostFault(_) => AttemptOutcome::HostFault,
        }
    }

    /// Reason of the outcome. None: the receiver took the request.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Outcome::Answered { status: 200..=299, .. } => None,
            Outcome::Answered { status, .. } => Some(Reason::new("status", format!("the receiver answered {status}"))),
            Outcome::NoAnswer { kind, detail } => Some(Reason::new(kind.as_str(), detail.clone())),
            Outcome::Dropped(reason)
            | Outcome::Later { reason, .. }
            | Outcome::InvalidEvent(reason)
            | Outcome::Transient(reason)
            | Outcome::BadConfig(reason)
            | Outcome::PluginFault { reason, .. }
            | Outcome::HostFault(reason) => Some(reason.clone()),
        }
    }
}

/// Kind of an attempt without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NoAnswer {
    /// The address guard refused the address.
    AddressRefused,
    /// The name could not be resolved.
    Dns,
    /// The connection or the TLS session failed.
    Connect,
    /// The deadline of the attempt passed.
    Timeout,
    /// The connection broke, or the answer was not HTTP.
    Broken,
}

impl NoAnswer {
    /// Returns the name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            NoAnswer::AddressRefused => "address-refused",
            NoAnswer::Dns => "dns",
            NoAnswer::Connect => "connect",
            NoAnswer::Timeout => "timeout",
            NoAnswer::Broken => "broken",
        }
    }
}

/// Reason for a decision: a code for programs, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reason {
    /// Short, constant code.
    pub code: String,
    /// Sentence for people.
    pub message: String,
}

impl Reason {
    /// Creates a reason of the host.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Reason { code: code.to_owned(), message: message.into() }
    }
}

impl Reason {
    /// Returns the reason in at most [`REASON_BYTES_MAX`] bytes, as it is stored with each delivery.
    pub fn bounded(&self) -> Cow<'_, Reason> {
        if self.code.len() <= CODE_BYTES_MAX && self.message.len() <= REASON_BYTES_MAX {
            return Cow::Borrowed(self);
        }
        let code = cut(&self.code, CODE_BYTES_MAX).to_owned();
        let message = shortened(&self.message, REASON_BYTES_MAX);
        Cow::Owned(Reason { code, message })
    }

    /// Returns the bounded reason as JSON, as it is stored.
    pub fn to_bounded_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&*self.bounded())
    }
}

/// Maximum length of a reason's code, in bytes.
const CODE_BYTES_MAX: usize = 64;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
