//! Input and judgement of a plugin: verdicts, faults and cost.
//!
//! # Guarantees
//! - A fault of a plugin is a value ([`PluginFault`]), never an error of the host.
//!
//! # Limits
//! Plain data. Verdicts of the contract are converted in [`convert`](super::convert).

use super::author_error::{AuthorError, ScriptError, ShownScriptError};
use super::config_reads::ConfigReads;
use bytes::Bytes;
use hookloom_model::delivery::{Arm, Cost, JudgedStep, Reason, Verdict};
use hookloom_model::event::Event;
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::Subscription;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;
use utoipa::ToSchema;

/// Event that plugins judge, with everything that they can read in addition to its payload.
#[derive(Clone, Debug)]
pub struct PluginInput {
    /// Event to judge.
    pub event: Arc<Event>,
    /// Previous event of the same entity. None unless a plugin of the chain reads it.
    pub previous: Option<Arc<Event>>,
    /// Events that the delivery stands for, if the subscription settled them.
    pub settled: Option<SettledEvents>,
    /// Subscription with the config, secrets and limits of the call.
    pub subscription: Arc<Subscription>,
    /// Collector of the config keys that plugins read. None: they are not collected.
    pub config_reads: Option<Arc<ConfigReads>>,
}

impl PluginInput {
    /// Creates an input without a previous event.
    pub fn new(event: Arc<Event>, subscription: Arc<Subscription>) -> Self {
        PluginInput { event, previous: None, settled: None, subscription, config_reads: None }
    }
}

/// Decision of a plugin or of a chain of plugins.
#[derive(Debug)]
pub enum Judgement {
    /// The payload is sent unchanged.
    Pass,
    /// Another request is sent.
    Replace(Outgoing),
    /// Nothing is sent, and the delivery ends.
    Drop(Reason),
    /// The plugin judges again later.
    Later {
        /// Delay, in milliseconds.
        delay_ms: u64,
        /// Reason of the plugin.
        reason: Reason,
    },
    /// Failure: the event will always be invalid for the plugin.
    InvalidEvent(Reason),
    /// Failure: the event may be judged at another time.
    Transient(Reason),
    /// Failure: the config of the plugin is invalid.
    BadConfig(Reason),
    /// The plugin trapped, exceeded a limit or returned an invalid answer.
    Fault(PluginFault),
}

impl Judgement {
    /// The verdict alone.
    pub fn verdict(&self) -> Verdict {
        match self {
            Judgement::Pass => Verdict::Pass,
            Judgement::Replace(_) => Verdict::Replace,
            Judgement::Drop(_) => Verdict::Drop,
            Judgement::Later { .. } => Verdict::Later,
            Judgement::InvalidEvent(_) | Judgement::Transient(_) | Judgement::BadConfig(_) => Verdict::Failure,
            Judgement::Fault(_) => Verdict::Fault,
        }
    }

    /// Reason of the verdict. None for pass and replace.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Judgement::Pass | Judgement::Replace(_) => None,
            Judgement::Drop(reason)
            | Judgement::Later { reason, .. }
            | Judgement::InvalidEvent(reason)
            | Judgement::Transient(reason)
            | Judgement::BadConfig(reason) => Some(reason.clone()),
            Judgement::Fault(fault) => Some(Reason::new(fault.code(), fault.to_string())),
        }
    }
}

/// Request that a plugin returned, validated.
#[derive(Debug)]
pub struct Outgoing {
    /// Request body.
    pub body: Bytes,
    /// Set when the plugin returned the body as text.
    pub is_text: bool,
    /// Value of the `content-type` header.
    pub content_type: HeaderValue,
    /// Additional headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Another URL than the Notify URL, on a host that the subscription allows.
    pub url: Option<Url>,
}

/// Fault of a call: the plugin returned no valid answer, or could not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginFault {
    /// The plugin trapped.
    #[error("the plugin trapped: {message}{}{}", shown("; its last output: ", output), shown("; in ", &backtrace.join(" < ")))]
    Trap {
        /// Message of wasmtime.
        message: String,
        /// Functions of the plugin's author, innermost first.
        backtrace: Vec<String>,
        /// End of the plugin's stdout and stderr.
        output: String,
    },
    /// The plugin reported an error in its own code.
    #[error("the plugin failed: {0}")]
    Error(AuthorError),
    /// The script failed.
    #[error("the script failed: {0}")]
    Script(ScriptError),
    /// The plugin exceeded a time limit.
    #[error("the plugin was stopped: limits.{name} is {limit_ms} ms")]
    Timeout {
        /// Name of the limit.
        name: &'static str,
        /// Value of the limit, in milliseconds.
        limit_ms: u64,
    },
    /// The plugin exceeded another limit.
    #[error("the plugin was stopped: limits.{name} is {value}")]
    Limit {
        /// Name of the limit.
        name: &'static str,
        /// Value of the limit.
        value: u64,
    },
    /// The plugin returned an answer that the host cannot send.
    #[error("the plugin's answer cannot be sent: {0}")]
    BadOutput(String),
    /// The plugin that the subscription names could not be loaded, or its version is quarantined.
    #[error(
        "the plugin {0:?} cannot be called: the list of plugins says whether its version is quarantined, the operator's log says why another could not be loaded"
    )]
    Missing(String),
    /// The host had no capacity for a call.
    #[error("the host had no room for a call")]
    Shortage,
}

fn shown(before: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{before}{text}") }
}

impl PluginFault {
    /// Returns whether the same event, version and config will cause the same fault again.
    pub fn recurs(&self) -> bool {
        !self.is_ours() && !matches!(self, PluginFault::Timeout { .. })
    }

    /// Returns whether the fault is one of the host and not of the plugin.
    pub fn is_ours(&self) -> bool {
        matches!(self, PluginFault::Missing(_) | PluginFault::Shortage)
    }

    /// Stable code of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            PluginFault::Trap { .. } => "plugin-trap",
            PluginFault::Error(_) => "plugin-error",
            PluginFault::Script(_) => "plugin-script",
            PluginFault::Timeout { .. } => "plugin-timeout",
            PluginFault::Limit { .. } => "plugin-limit",
            PluginFault::BadOutput(_) => "plugin-bad-output",
            PluginFault::Missing(_) => "plugin-missing",
            PluginFault::Shortage => "plugin-shortage",
        }
    }
}

/// Judgement with the record of the calls that led to it.
#[derive(Debug)]
pub struct Judged {
    /// Decision of the chain.
    pub judgement: Judgement,
    /// Plugin calls, in order.
    pub steps: Vec<JudgedStep>,
    /// Log lines of the plugins.
    pub log: Vec<String>,
}

impl Judged {
    /// Creates the judgement of a fault that occurred before any plugin was called.
    pub(super) fn fault(plugin: &str, sha256: Option<String>, fault: PluginFault) -> Self {
        let judgement = Judgement::Fault(fault);
        let step = JudgedStep {
            plugin: plugin.to_owned(),
            sha256,
            arm: Arm::Active,
            verdict: judgement.verdict(),
            reason: judgement.reason(),
            cost: Cost::default(),
        };
        Judged { judgement, steps: vec![step], log: Vec::new() }
    }

    /// Returns the total cost of all calls; for memory and tables, the maximum of one call.
    pub fn cost(&self) -> Cost {
        self.steps.iter().fold(Cost::default(), |sum, step| Cost {
            wall_us: sum.wall_us + step.cost.wall_us,
            cpu_us: sum.cpu_us + step.cost.cpu_us,
            memory_bytes: sum.memory_bytes.max(step.cost.memory_bytes),
            host_calls: sum.host_calls + step.cost.host_calls,
            host_call_bytes: sum.host_call_bytes + step.cost.host_call_bytes,
            hashed_bytes: sum.hashed_bytes + step.cost.hashed_bytes,
            log_bytes: sum.log_bytes + step.cost.log_bytes,
            table_elements: sum.table_elements.max(step.cost.table_elements),
            earlier_calls: sum.earlier_calls.max(step.cost.earlier_calls),
        })
    }

    /// sha256 of the version that judged last.
    pub fn sha256(&self) -> Option<String> {
        self.steps.last().and_then(|step| step.sha256.clone())
    }
}

/// Judgement in the form of API answers and pages. Nothing was sent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Shown {
    /// Verdict of the chain.
    pub verdict: Verdict,
    /// Reason of the verdict. Absent for `pass` and `replace`.
    pub reason: Option<Reason>,
    /// Error of the script, if a script failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script_error: Option<ShownScriptError>,
    /// Body that would be sent, as text. Absent: nothing would be sent.
    pub body: Option<String>,
    /// Content type of the body.
    pub content_type: Option<String>,
    /// Headers that the plugins add.
    pub headers: BTreeMap<String, String>,
    /// Another URL that a plugin chose.
    pub url: Option<String>,
    /// Log lines of the plugins.
    pub log: Vec<String>,
    /// Cost of the calls.
    pub cost: Cost,
    /// sha256 of the version that judged last.
    pub plugin_sha256: Option<String>,
    /// Keys of the config that the plugins did not read for this event: they may be misspelt.
    pub unread_config: Vec<String>,
}

impl Shown {
    /// Creates the readable form of a judgement.
    pub fn new(judged: Judged, event: &Event) -> Self {
        let mut shown = Shown {
            verdict: judged.judgement.verdict(),
            reason: judged.judgement.reason(),
            script_error: None,
            body: None,
            content_type: None,
            headers: BTreeMap::new(),
            url: None,
            cost: judged.cost(),
            plugin_sha256: judged.sha256(),
            unread_config: Vec::new(),
            log: judged.log,
        };
        match judged.judgement {
            Judgement::Pass => {
                shown.body = Some(event.text().to_owned());
                shown.content_type = Some("application/json".to_owned());
            }
            Judgement::Replace(Outgoing { body, content_type, headers, url, is_text: _ }) => {
                shown.body = Some(text(&body));
                shown.content_type = Some(text(content_type.as_bytes()));
                shown.headers =
                    headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
                shown.url = url.map(String::from);
            }
            Judgement::Fault(PluginFault::Script(error)) => shown.script_error = Some(error.into()),
            _ => {}
        }
        shown
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
