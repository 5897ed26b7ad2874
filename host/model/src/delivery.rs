//! The words for what goes out: a delivery, its states, an attempt and what came of it.
//!
//! Pure data and the transitions between states. Does not know how a delivery is stored, scheduled or sent.

pub use crate::ids::DeliveryId;
use crate::ids::{EventId, SubscriptionId, TenantId};
use crate::limits::{REASON_BYTES_MAX, cut, shortened};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// State of a delivery. Everything but `Pending` is final until somebody retries it.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// Kinds of attempts that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// Cost of a plugin call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cost {
    /// Wall time, in microseconds.
    pub wall_us: u64,
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// The most linear memory it had, in bytes.
    pub memory_bytes: u64,
    /// Calls into the host.
    pub host_calls: u64,
    /// Bytes handed to the host by them.
    #[serde(default)]
    pub host_call_bytes: u64,
    /// Bytes hashed with secrets.
    #[serde(default)]
    pub hashed_bytes: u64,
    /// Bytes of log lines that were kept.
    #[serde(default)]
    pub log_bytes: u64,
    /// Elements of its tables.
    #[serde(default)]
    pub table_elements: u64,
    /// Number of events that the instance had judged before: 0 unless the subscription reuses instances.
    #[serde(default)]
    pub earlier_calls: u32,
}

/// Reason why a plugin's version judged the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// It is the active one.
    Active,
    /// The subscription is pinned to it.
    Pinned,
    /// It is tried on a part of the deliveries.
    Canary,
}

/// Result of one plugin of a chain for an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JudgedStep {
    /// The plugin.
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

/// Durations of the parts of a POST, in microseconds. Absent: the request did not reach that part, or needed none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Timings {
    /// Looking the name up.
    pub dns_us: Option<u64>,
    /// Connecting, with TLS where the URL is `https`.
    pub connect_us: Option<u64>,
    /// From the beginning until the answer's head was there.
    pub first_byte_us: Option<u64>,
    /// Reading what is kept of the body.
    pub body_us: Option<u64>,
    /// The whole.
    pub total_us: u64,
    /// True if an open connection was reused.
    pub reused: bool,
}

/// One attempt, as it is recorded and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attempt {
    /// 1 for the first; numbers go on when a delivery is retried by hand.
    pub number: u32,
    /// Time of its start, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Duration of all plugin calls together, in microseconds. Absent without a plugin.
    pub plugin_us: Option<u64>,
    /// Duration of the POST, up to the end of the answer that is read, in microseconds. Absent if none was made.
    pub post_us: Option<u64>,
    /// Its parts.
    #[serde(default)]
    pub timings: Option<Timings>,
    /// Version of the last plugin that judged it (sha256 of the component). Absent without a plugin.
    pub plugin_sha256: Option<String>,
    /// The generation of the subscription's config, which grows with every edit.
    pub config_generation: u64,
    /// Combined verdict of the plugins: `pass`, `replace`, `drop`, `later`, `failure` or `fault`. Absent without a plugin.
    pub verdict: Option<String>,
    /// The sha256 of the body that was sent. Absent if none was.
    pub body_sha256: Option<String>,
    /// The receiver's status.
    pub status: Option<u16>,
    /// `delivered`, `failed`, `dropped`, `later`, `plugin-failure`, `plugin-fault` or `host-fault`.
    pub outcome: String,
    /// Reason for the outcome, in words.
    pub reason: Option<Reason>,
    /// The request that was sent, one line each, as far as people may see it: method and URL without its query, and the headers,
    /// with values only for those that the host sets.
    #[serde(default)]
    pub request: Option<Vec<String>>,
    /// The headers of the answer, a line each, without cookies.
    #[serde(default)]
    pub response_headers: Option<Vec<String>>,
    /// The first 16 KiB of the answer's body, as text. Only here: never in a log.
    pub response: Option<String>,
    /// Each plugin call: more than one in a chain, or when a canary's fault made the active version judge.
    #[serde(default)]
    pub steps: Vec<JudgedStep>,
    /// True if the answer was JSON with the keys `eventName` and `eventData` (the vendor guide's step 4).
    pub echoed: bool,
    /// Log lines of the plugins; in a chain, each line begins with the plugin's name.
    pub log: Vec<String>,
}
