//! Deliveries: states, attempts, and their outcomes.
//!
//! Pure data and the transitions between states. Does not know how a delivery is stored, scheduled or sent.

pub use crate::ids::DeliveryId;
use crate::ids::{EventId, SubscriptionId, TenantId};
use crate::limits::{REASON_BYTES_MAX, cut, shortened};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use utoipa::ToSchema;

/// State of a delivery. All states but `Pending` are final, until an operator retries the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
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
}

impl DeliveryState {
    /// All states, in the order of their stored numbers.
    pub const ALL: [DeliveryState; 5] = [
        DeliveryState::Pending,
        DeliveryState::Delivered,
        DeliveryState::Dropped,
        DeliveryState::Dead,
        DeliveryState::Cancelled,
    ];

    /// Returns the name of the state.
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

/// Kind of an attempt without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// Cost of a plugin call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// Wall time, in microseconds.
    pub wall_us: u64,
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// Maximum linear memory during the call, in bytes.
    pub memory_bytes: u64,
    /// Number of calls into the host.
    pub host_calls: u64,
    /// Bytes that these calls passed to the host.
    #[serde(default)]
    pub host_call_bytes: u64,
    /// Bytes that were hashed with secrets.
    #[serde(default)]
    pub hashed_bytes: u64,
    /// Size of the stored log lines, in bytes.
    #[serde(default)]
    pub log_bytes: u64,
    /// Number of elements of the tables.
    #[serde(default)]
    pub table_elements: u64,
    /// Number of events that the instance had judged before: 0 unless the subscription reuses instances.
    #[serde(default)]
    pub earlier_calls: u32,
}

/// Reason why a version of a plugin judged the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// The version is active.
    Active,
    /// The subscription is pinned to the version.
    Pinned,
    /// The version is a canary, which judges a part of the events.
    Canary,
}

/// Result of one plugin of a chain for an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JudgedStep {
    /// Name of the plugin.
    pub plugin: String,
    /// The sha256 of the version that judged. Absent if none could be loaded.
    pub sha256: Option<String>,
    /// Reason for the choice of the version.
    pub arm: Arm,
    /// `pass`, `replace`, `drop`, `later`, `failure` or `fault`.
    pub verdict: String,
    /// The plugin's reason for its verdict, unless it passed or replaced the event.
    pub reason: Option<Reason>,
    /// Cost of the call.
    pub cost: Cost,
}

/// Durations of the parts of a POST, in microseconds. Absent if the request did not reach that part or did not need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// Resolution of the name.
    pub dns_us: Option<u64>,
    /// Connection, with TLS if the URL is `https`.
    pub connect_us: Option<u64>,
    /// Time from the beginning to the head of the answer.
    pub first_byte_us: Option<u64>,
    /// Reading the stored part of the body.
    pub body_us: Option<u64>,
    /// Total duration.
    pub total_us: u64,
    /// True if an open connection was reused.
    pub reused: bool,
}

/// Attempt, as it is recorded and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Number of the attempt, from 1. A retry by an operator continues the numbers.
    pub number: u32,
    /// Start of the attempt, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Duration of all plugin calls together, in microseconds. Absent without a plugin.
    pub plugin_us: Option<u64>,
    /// Duration of the POST, up to the end of the read part of the answer, in microseconds. Absent if there was none.
    pub post_us: Option<u64>,
    /// Parts of the POST.
    #[serde(default)]
    pub timings: Option<Timings>,
    /// Version of the last plugin that judged (sha256 of the component). Absent without a plugin.
    pub plugin_sha256: Option<String>,
    /// Generation of the subscription's config, which grows with every edit.
    pub config_generation: u64,
    /// Combined verdict of the plugins: `pass`, `replace`, `drop`, `later`, `failure` or `fault`. Absent without a plugin.
    pub verdict: Option<String>,
    /// The sha256 of the body that was sent. Absent if none was.
    pub body_sha256: Option<String>,
    /// Status of the receiver's answer.
    pub status: Option<u16>,
    /// `delivered`, `failed`, `dropped`, `later`, `plugin-failure`, `plugin-fault` or `host-fault`.
    pub outcome: String,
    /// Reason for the outcome.
    pub reason: Option<Reason>,
    /// Request as far as people may see it, one line each: method and URL without its query, and the headers, with values only for
    /// those that the host sets.
    #[serde(default)]
    pub request: Option<Vec<String>>,
    /// Headers of the answer, a line each, without cookies.
    #[serde(default)]
    pub response_headers: Option<Vec<String>>,
    /// First 16 KiB of the answer's body, as text. Never logged.
    pub response: Option<String>,
    /// Plugin calls: more than one in a chain, or if a canary failed and the active version judged.
    #[serde(default)]
    pub steps: Vec<JudgedStep>,
    /// True if the answer was JSON with the keys `eventName` and `eventData` (the vendor guide's step 4).
    pub echoed: bool,
    /// Log lines of the plugins; in a chain, each line begins with the plugin's name.
    pub log: Vec<String>,
}
