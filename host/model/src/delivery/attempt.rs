//! Record of an attempt, as it is stored and shown: its outcome, the plugin calls and the durations.
//!
//! Plain data: how an attempt is made is the affair of `deliver`.

use super::Reason;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Outcome of an attempt in records, metrics and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AttemptOutcome {
    /// The receiver answered 2xx.
    Delivered,
    /// The receiver answered otherwise, or not at all.
    Failed,
    /// The plugin decided to send nothing.
    Dropped,
    /// The plugin judges again later.
    Later,
    /// The plugin returned a failure.
    PluginFailure,
    /// The plugin did not return a valid answer.
    PluginFault,
    /// The host could not make the attempt, which does not count as one.
    HostFault,
}

impl AttemptOutcome {
    /// Name of the outcome, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptOutcome::Delivered => "delivered",
            AttemptOutcome::Failed => "failed",
            AttemptOutcome::Dropped => "dropped",
            AttemptOutcome::Later => "later",
            AttemptOutcome::PluginFailure => "plugin-failure",
            AttemptOutcome::PluginFault => "plugin-fault",
            AttemptOutcome::HostFault => "host-fault",
        }
    }
}

impl fmt::Display for AttemptOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Verdict of a plugin, or of a chain of plugins, on an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The payload is sent unchanged.
    Pass,
    /// Another request is sent.
    Replace,
    /// Nothing is sent, and the delivery ends.
    Drop,
    /// The plugin judges again later.
    Later,
    /// The plugin cannot judge the event: it is invalid, the config is, or it may work another time.
    Failure,
    /// The plugin trapped, exceeded a limit or returned an invalid answer.
    Fault,
}

impl Verdict {
    /// Name of the verdict, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Replace => "replace",
            Verdict::Drop => "drop",
            Verdict::Later => "later",
            Verdict::Failure => "failure",
            Verdict::Fault => "fault",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JudgedStep {
    /// Name of the plugin.
    pub plugin: String,
    /// The sha256 of the version that judged. Absent if none could be loaded.
    pub sha256: Option<String>,
    /// Reason for the choice of the version.
    pub arm: Arm,
    /// Its verdict.
    pub verdict: Verdict,
    /// Reason for the outcome.
    pub reason: Option<Reason>,
    /// Cost of the call.
    pub cost: Cost,
}

/// Durations of the parts of a POST, in microseconds. Absent if the request did not reach that part or did not need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// Combined verdict of the plugins. Absent without a plugin.
    pub verdict: Option<Verdict>,
    /// The sha256 of the body that was sent. Absent if none was.
    pub body_sha256: Option<String>,
    /// Status of the receiver's answer.
    pub status: Option<u16>,
    /// Its outcome.
    pub outcome: AttemptOutcome,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::DeliveryState;

    #[test]
    fn names_are_those_of_json() {
        fn check<T: Serialize>(value: T, name: &str) {
            assert_eq!(serde_json::to_value(value).expect("a value"), name);
        }
        for outcome in [
            AttemptOutcome::Delivered,
            AttemptOutcome::Failed,
            AttemptOutcome::Dropped,
            AttemptOutcome::Later,
            AttemptOutcome::PluginFailure,
            AttemptOutcome::PluginFault,
            AttemptOutcome::HostFault,
        ] {
            check(outcome, outcome.as_str());
        }
        for verdict in
            [Verdict::Pass, Verdict::Replace, Verdict::Drop, Verdict::Later, Verdict::Failure, Verdict::Fault]
        {
            check(verdict, verdict.as_str());
        }
        for state in DeliveryState::ALL {
            check(state, state.as_str());
        }
    }
}
