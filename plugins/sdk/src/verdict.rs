//! Answers of a plugin: verdicts, failures, and the request to send instead.

use serde::Serialize;

/// Reason for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Short, constant code for programs. The host keeps 64 bytes.
    pub code: String,
    /// Sentence for people. The host keeps 1,024 bytes.
    pub message: String,
}

impl Reason {
    /// Creates a reason.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Reason { code: code.into(), message: message.into() }
    }
}

/// Decision about an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Send the original payload.
    Pass,
    /// Send another request.
    Replace(Outgoing),
    /// Send nothing, which is not a failure.
    Drop(Reason),
    /// Decide later, at the latest when the delivery reaches its age limit.
    Later {
        /// Delay in milliseconds; the host waits for at least one second.
        delay_ms: u64,
        /// Reason for the delay.
        reason: Reason,
    },
}

impl Verdict {
    /// Returns the verdict to send nothing, for this reason.
    pub fn drop(code: impl Into<String>, message: impl Into<String>) -> Self {
        Verdict::Drop(Reason::new(code, message))
    }

    /// Returns the verdict to send this JSON: a [`serde_json::Value`], or anything that serde can serialize as JSON.
    ///
    /// # Panics
    /// As [`Outgoing::json`].
    pub fn json(value: &impl Serialize) -> Self {
        Verdict::Replace(Outgoing::json(value))
    }
}

/// Reason why a plugin could not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The event can never be processed: the delivery ends as dead.
    InvalidEvent(Reason),
    /// Another attempt may succeed: the delivery is retried.
    Transient(Reason),
    /// The config is invalid: after three events in a row, the subscription is paused.
    BadConfig(Reason),
}

impl Failure {
    /// Returns the failure that the event can never be processed.
    pub fn invalid_event(code: impl Into<String>, message: impl Into<String>) -> Self {
        Failure::InvalidEvent(Reason::new(code, message))
    }

    /// Returns the failure that another attempt may succeed.
    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Failure::Transient(Reason::new(code, message))
    }

    /// Returns the failure that the config is invalid.
    pub fn bad_config(code: impl Into<String>, message: impl Into<String>) -> Self {
        Failure::BadConfig(Reason::new(code, message))
    }
}

/// Body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Text. The host checks that it is JSON if the content type says so.
    Text(String),
    /// Bytes of any kind.
    Binary(Vec<u8>),
}

/// Request to send instead of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Body of the request.
    pub body: Body,
    /// Header `content-type`. None: `application/json`.
    pub content_type: Option<String>,
    /// Headers to add.
    pub headers: Vec<(String, String)>,
    /// Another address, on a host that the subscription allows.
    pub url: Option<String>,
}

impl Outgoing {
    /// Returns a request with a JSON body.
    ///
    /// # Panics
    /// If the value cannot be serialized as JSON, such as a map whose keys are lists. A [`serde_json::Value`] never panics.
    pub fn json(value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("JSON can say it");
        Outgoing { body: Body::Text(text), content_type: None, headers: Vec::new(), url: None }
    }

    /// Returns a request with a text of another content type.
    pub fn text(content_type: impl Into<String>, text: impl Into<String>) -> Self {
        Outgoing {
            body: Body::Text(text.into()),
            content_type: Some(content_type.into()),
            headers: Vec::new(),
            url: None,
        }
    }

    /// Returns a request with bytes of another content type.
    pub fn binary(content_type: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Outgoing {
            body: Body::Binary(bytes.into()),
            content_type: Some(content_type.into()),
            headers: Vec::new(),
            url: None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends the request to another address.
    #[must_use]
    pub fn to(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }
}
