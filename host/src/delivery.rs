//! The words for what goes out: a delivery, its states, an attempt and what came of it.
//!
//! Pure data and the transitions between states. Does not know how a delivery is stored, scheduled or sent.

mod attempt;

pub use crate::ids::DeliveryId;
use crate::ids::{EventId, SubscriptionId, TenantId};
use crate::limits::{REASON_BYTES_MAX, cut, shortened};
pub use attempt::{Arm, Attempt, AttemptOutcome, Cost, JudgedStep, Timings, Verdict};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use utoipa::ToSchema;

/// State of a delivery. Everything but `Pending` is final until somebody retries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Waiting for its first or next attempt.
    Pending,
    /// A receiver answered 2xx.
    Delivered,
    /// The plugin decided to send nothing.
    Dropped,
    /// Given up: attempts or age exhausted, invalid event, or the subscription was disabled.
    Dead,
    /// Stopped by hand, or its subscription was deleted.
    Cancelled,
}

impl DeliveryState {
    /// Every state, in the order of their stored numbers.
    pub const ALL: [DeliveryState; 5] = [
        DeliveryState::Pending,
        DeliveryState::Delivered,
        DeliveryState::Dropped,
        DeliveryState::Dead,
        DeliveryState::Cancelled,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dropped => "dropped",
            DeliveryState::Dead => "dead",
            DeliveryState::Cancelled => "cancelled",
        }
    }
}

/// Origin of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryKind {
    /// It was promised when its event was accepted.
    #[default]
    Usual,
    /// Somebody replayed its event.
    Replay,
    /// Somebody tests the subscription: attempted once.
    Test,
}

impl DeliveryKind {
    /// Every kind, in the order of their stored numbers.
    pub const ALL: [DeliveryKind; 3] = [DeliveryKind::Usual, DeliveryKind::Replay, DeliveryKind::Test];
}

/// A delivery that is due: what the lanes hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// Its owner.
    pub tenant: TenantId,
    /// The event it carries.
    pub event: EventId,
    /// The subscription it belongs to.
    pub subscription: SubscriptionId,
    /// Origin of the delivery.
    pub kind: DeliveryKind,
    /// Number of attempts made so far; the next attempt has this number plus one.
    pub attempts_made: u32,
    /// Number of attempts since the delivery was last made pending by an operator.
    pub attempts_in_budget: u32,
    /// Start of its age, in milliseconds since the epoch.
    pub age_from_ms: i64,
}

/// Outcome of one attempt. Data: failures of the host itself are errors instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with this status.
    Answered {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, in milliseconds from the answer, if there was one.
        retry_after_ms: Option<u64>,
        /// True if the plugin sent the request to another address than the Notify URL, about which the answer says nothing.
        elsewhere: bool,
    },
    /// No answer: connection refused or reset, TLS failure, time-out.
    NoAnswer {
        /// Kind of failure.
        kind: NoAnswer,
        /// In words.
        detail: String,
    },
    /// The plugin decided to send nothing.
    Dropped(Reason),
    /// The plugin wants to be asked again.
    Later {
        /// Delay that the plugin asks for, in milliseconds.
        delay_ms: u64,
        /// The plugin's reason.
        reason: Reason,
    },
    /// The plugin says that the event can never work.
    InvalidEvent(Reason),
    /// The plugin says that it may work another time.
    Transient(Reason),
    /// The plugin says that the subscription's config is wrong.
    BadConfig(Reason),
    /// The host could not run the plugin: our fault, which costs the delivery nothing but time.
    HostFault(Reason),
    /// The plugin did not answer as it must.
    PluginFault {
        /// A fault that would only recur with the same inputs (a trap, memory, bad output), so that waiting for a new
        /// version or config is right; a time-out is worth a retry.
        recurs: bool,
        /// The limit or rule, and the plugin's last words.
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

/// Kinds of attempts that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoAnswer {
    /// The address guard refused the address.
    AddressRefused,
    /// The name did not resolve.
    Dns,
    /// No connection, or no TLS session.
    Connect,
    /// The total deadline passed.
    Timeout,
    /// The connection broke, or what came was not HTTP.
    Broken,
}

impl NoAnswer {
    /// The word for it.
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

/// Reason for a decision: a code for programs, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// A short, stable word.
    pub code: String,
    /// A sentence.
    pub message: String,
}

impl Reason {
    /// A reason of the host's own.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Reason { code: code.to_owned(), message: message.into() }
    }
}

impl Reason {
    /// The reason in at most [`REASON_BYTES_MAX`] bytes, as it is stored with each delivery.
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
