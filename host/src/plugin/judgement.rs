//! The words for what a plugin decides, what it does instead of deciding, and what a call costs.
//!
//! Pure data. A fault is data too: never an error of the host.

use crate::delivery::Reason;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

/// What the judge decided.
#[derive(Debug)]
pub enum Judgement {
    /// Send the payload as it came.
    Pass,
    /// Send this instead.
    Replace(Outgoing),
    /// Send nothing.
    Drop(Reason),
    /// Ask again.
    Later {
        /// After so long.
        delay_ms: u64,
        /// Why.
        reason: Reason,
    },
    /// The event can never work.
    InvalidEvent(Reason),
    /// It may work another time.
    Transient(Reason),
    /// The config is wrong.
    BadConfig(Reason),
    /// The plugin did not answer as it must.
    Fault(PluginFault),
}

/// A request as a plugin wants it, checked.
#[derive(Debug)]
pub struct Outgoing {
    /// The body.
    pub body: Bytes,
    /// The `content-type` header.
    pub content_type: HeaderValue,
    /// Headers to add.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Another address, on a host that the subscription allows.
    pub url: Option<Url>,
}

/// What a plugin did instead of answering. Its own type: never an error of the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginFault {
    /// It trapped.
    #[error("the plugin trapped: {message}{}{}", shown("; its last output: ", output), shown("; in ", &backtrace.join(" < ")))]
    Trap {
        /// wasmtime's word for it.
        message: String,
        /// Its functions, innermost first.
        backtrace: Vec<String>,
        /// The tail of its stdout and stderr.
        output: String,
    },
    /// It ran for too long.
    #[error("the plugin was stopped: limits.{name} is {limit_ms} ms")]
    Timeout {
        /// Which clock.
        name: &'static str,
        /// The limit.
        limit_ms: u64,
    },
    /// It went over a limit.
    #[error("the plugin was stopped: limits.{name} is {value}")]
    Limit {
        /// Which.
        name: &'static str,
        /// The limit.
        value: u64,
    },
    /// It answered, but not as it may.
    #[error("the plugin's answer cannot be sent: {0}")]
    BadOutput(String),
    /// The plugin that the subscription names could not be loaded.
    #[error("the plugin {0:?} could not be loaded; the operator finds the cause in the log")]
    Missing(String),
    /// The host had no room for a call.
    #[error("the host had no room for a call")]
    Shortage,
}

fn shown(before: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{before}{text}") }
}

impl PluginFault {
    /// Whether the same event, version and config would only bring it again.
    pub fn recurs(&self) -> bool {
        !self.is_ours() && !matches!(self, PluginFault::Timeout { .. })
    }

    /// Whether it is the host's fault and not the plugin's.
    pub fn is_ours(&self) -> bool {
        matches!(self, PluginFault::Missing(_) | PluginFault::Shortage)
    }

    /// A short, stable word.
    pub fn code(&self) -> &'static str {
        match self {
            PluginFault::Trap { .. } => "plugin-trap",
            PluginFault::Timeout { .. } => "plugin-timeout",
            PluginFault::Limit { .. } => "plugin-limit",
            PluginFault::BadOutput(_) => "plugin-bad-output",
            PluginFault::Missing(_) => "plugin-missing",
            PluginFault::Shortage => "plugin-shortage",
        }
    }
}

/// What a call cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// Wall time, in microseconds.
    pub wall_us: u64,
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// The most linear memory it had, in bytes.
    pub memory_bytes: u64,
    /// Calls into the host.
    pub host_calls: u64,
}

/// A judgement with everything that is recorded about it.
#[derive(Debug)]
pub struct Judged {
    /// What was decided.
    pub judgement: Judgement,
    /// By which version; none if the plugin is missing.
    pub sha256: Option<String>,
    /// What the plugin wrote to its log.
    pub log: Vec<String>,
    /// What it cost.
    pub cost: Cost,
}

impl Judged {
    pub(super) fn fault(sha256: Option<String>, fault: PluginFault) -> Self {
        Judged { judgement: Judgement::Fault(fault), sha256, log: Vec::new(), cost: Cost::default() }
    }
}
