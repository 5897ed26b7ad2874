//! The words for what a plugin decides, what it does instead of deciding, and what a call costs.
//!
//! Pure data. A fault is data too: never an error of the host.

use super::config_reads::ConfigReads;
use crate::delivery::{Arm, Cost, JudgedStep, Reason};
use crate::event::Event;
use crate::subscription::Subscription;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;
use utoipa::ToSchema;

/// What plugins are asked about.
#[derive(Clone, Debug)]
pub struct PluginInput {
    /// The event.
    pub event: Arc<Event>,
    /// What was accepted before it of the same entity, as far as a plugin asks for it.
    pub previous: Option<Arc<Event>>,
    /// For whom it is judged.
    pub subscription: Arc<Subscription>,
    /// Where config keys are noted that plugins ask for, if somebody wants to know.
    pub config_reads: Option<Arc<ConfigReads>>,
}

impl PluginInput {
    /// An event for a subscription, without anything before it.
    pub fn new(event: Arc<Event>, subscription: Arc<Subscription>) -> Self {
        PluginInput { event, previous: None, subscription, config_reads: None }
    }
}

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

impl Judgement {
    /// The word for it, in records and on screens.
    pub fn word(&self) -> &'static str {
        match self {
            Judgement::Pass => "pass",
            Judgement::Replace(_) => "replace",
            Judgement::Drop(_) => "drop",
            Judgement::Later { .. } => "later",
            Judgement::InvalidEvent(_) | Judgement::Transient(_) | Judgement::BadConfig(_) => "failure",
            Judgement::Fault(_) => "fault",
        }
    }

    /// Why, unless it is pass or replace.
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

/// A request as a plugin wants it, checked.
#[derive(Debug)]
pub struct Outgoing {
    /// The body.
    pub body: Bytes,
    /// Whether the plugin gave it as text.
    pub is_text: bool,
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
    /// The plugin that the subscription names could not be loaded, or its version is quarantined.
    #[error(
        "the plugin {0:?} cannot be called: the list of plugins says whether its version is quarantined, the operator's log says why another could not be loaded"
    )]
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

/// A judgement with everything that is recorded about it.
#[derive(Debug)]
pub struct Judged {
    /// What was decided.
    pub judgement: Judgement,
    /// Each plugin call that led there.
    pub steps: Vec<JudgedStep>,
    /// What the plugins wrote to their logs.
    pub log: Vec<String>,
}

impl Judged {
    /// A fault before any plugin was called.
    pub(super) fn fault(plugin: &str, sha256: Option<String>, fault: PluginFault) -> Self {
        let judgement = Judgement::Fault(fault);
        let (verdict, reason) = (judgement.word().to_owned(), judgement.reason());
        let step =
            JudgedStep { plugin: plugin.to_owned(), sha256, arm: Arm::Active, verdict, reason, cost: Cost::default() };
        Judged { judgement, steps: vec![step], log: Vec::new() }
    }

    /// What all calls cost together; of memory, the most that one had.
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

    /// The version that judged last.
    pub fn sha256(&self) -> Option<String> {
        self.steps.last().and_then(|step| step.sha256.clone())
    }
}

/// A judgement as people and programs read it, before anything is sent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Shown {
    /// `pass`, `replace`, `drop`, `later`, `failure` or `fault`.
    pub verdict: &'static str,
    /// Why, unless it passed or replaced.
    pub reason: Option<Reason>,
    /// What would be sent, as text. Absent: nothing.
    pub body: Option<String>,
    /// Its content type.
    pub content_type: Option<String>,
    /// Headers that the plugin adds.
    pub headers: BTreeMap<String, String>,
    /// Another address that the plugin names.
    pub url: Option<String>,
    /// What the plugin wrote to its log.
    pub log: Vec<String>,
    /// What the call cost.
    pub cost: Cost,
    /// The version that judged.
    pub plugin_sha256: Option<String>,
    /// Keys of the config that the plugin did not read for this event: perhaps it does not know them.
    pub unread_config: Vec<String>,
}

impl Shown {
    /// What is shown of a judgement of an event.
    pub fn new(judged: Judged, event: &Event) -> Self {
        let mut shown = Shown {
            verdict: judged.judgement.word(),
            reason: judged.judgement.reason(),
            body: None,
            content_type: None,
            headers: BTreeMap::new(),
            url: None,
            cost: judged.cost(),
            plugin_sha256: judged.sha256(),
            unread_config: Vec::new(),
            log: judged.log,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
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
            _ => {}
        }
        shown
    }
}
