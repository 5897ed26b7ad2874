//! Answers of a plugin: verdicts, failures, and the request to send instead.

use serde::Serialize;

/// Reason for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A short, stable word for programs. The host keeps 64 bytes.
    pub code: String,
    /// A sentence for people. The host keeps 1,024 bytes.
    pub message: String,
}

impl Reason {
    /// A reason.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Reason { code: code.into(), message: message.into() }
    }
}

/// Decision about an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Send the payload exactly as it came.
    Pass,
    /// Send this instead.
    Replace(Outgoing),
    /// Send nothing; that is not a failure.
    Drop(Reason),
    /// Decide later, at the latest when the delivery's age limit is reached.
    Later {
        /// Delay in milliseconds; the host waits for at least one second.
        delay_ms: u64,
        /// Reason for the delay.
        reason: Reason,
    },
}

impl Verdict {
    /// Send nothing, for this reason.
    pub fn drop(code: impl Into<String>, message: impl Into<String>) -> Self {
        Verdict::Drop(Reason::new(code, message))
    }

    /// Send this JSON instead: a [`serde_json::Value`], or anything that serde can write as JSON.
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
    /// The event can never work: the delivery ends as dead.
    InvalidEvent(Reason),
    /// It may work another time: the delivery is retried.
    Transient(Reason),
    /// The config is wrong: after three events in a row the subscription is paused.
    BadConfig(Reason),
}

impl Failure {
    /// The event can never work.
    pub fn invalid_event(code: impl Into<String>, message: impl Into<String>) -> Self {
        Failure::InvalidEvent(Reason::new(code, message))
    }

    /// It may work another time.
    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Failure::Transient(Reason::new(code, message))
    }

    /// The config is wrong.
    pub fn bad_config(code: impl Into<String>, message: impl Into<String>) -> Self {
        Failure::BadConfig(Reason::new(code, message))
    }
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Text. The host checks that it is JSON when the content type says so.
    Text(String),
    /// Any bytes.
    Binary(Vec<u8>),
}

/// The request to send instead of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The body.
    pub body: Body,
    /// The `content-type` header. None: `application/json`.
    pub content_type: Option<String>,
    /// Headers to add.
    pub headers: Vec<(String, String)>,
    /// Another address, on a host that the subscription allows.
    pub url: Option<String>,
}

impl Outgoing {
    /// A JSON body.
    ///
    /// # Panics
    /// If it is nothing that JSON can say, such as a map whose keys are lists. No [`serde_json::Value`] is.
    pub fn json(value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("JSON can say it");
        Outgoing { body: Body::Text(text), content_type: None, headers: Vec::new(), url: None }
    }

    /// A text of another content type.
    pub fn text(content_type: impl Into<String>, text: impl Into<String>) -> Self {
        Outgoing {
            body: Body::Text(text.into()),
            content_type: Some(content_type.into()),
            headers: Vec::new(),
            url: None,
        }
    }

    /// Bytes of some content type.
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

    /// Sends it to another address.
    #[must_use]
    pub fn to(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }
}
