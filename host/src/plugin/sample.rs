//! What versions made of an event, as far as they are compared, and how two of them differ.
//!
//! Pure. What is kept and shown of bodies is bounded.

use super::convert::cut;
use super::judgement::Judgement;
use crate::event::Event;
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// How much of a body is shown.
const BODY_BYTES_SHOWN: usize = 2 << 10;

/// How many lines of a difference are kept.
const DIFF_LINES_MAX: usize = 40;

/// What one version made of an event, as far as versions are compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sample {
    /// `pass`, `replace`, `drop`, `later`, `failure` or `fault`.
    pub verdict: String,
    /// The reason's code or, of a fault, its words.
    pub reason: Option<String>,
    /// The body that would be sent, its first 2 KiB as text. Absent: nothing, or the event as it came.
    pub body: Option<String>,
    #[serde(skip)]
    whole: Option<[u8; 32]>,
    /// The whole body, until what differs is known.
    #[serde(skip)]
    bytes: Bytes,
}

impl Sample {
    /// What is compared of a judgement.
    pub(super) fn of(judgement: &Judgement) -> Self {
        let (body, whole, bytes) = match judgement {
            Judgement::Replace(outgoing) => {
                let shown = &outgoing.body[..outgoing.body.len().min(BODY_BYTES_SHOWN)];
                let mut hash = Sha256::new().chain_update(&outgoing.body);
                hash.update(outgoing.content_type.as_bytes());
                for (name, value) in &outgoing.headers {
                    hash.update(name.as_str());
                    hash.update(value.as_bytes());
                }
                hash.update(outgoing.url.as_ref().map_or("", url::Url::as_str));
                let body = String::from_utf8_lossy(shown).into_owned();
                (Some(body), Some(hash.finalize().into()), outgoing.body.clone())
            }
            _ => (None, None, Bytes::new()),
        };
        let reason = judgement.reason().map(|reason| match judgement {
            Judgement::Fault(_) => reason.message,
            _ => reason.code,
        });
        Sample { verdict: judgement.word().to_owned(), reason, body, whole, bytes }
    }

    /// Whether a delivery can go on with it.
    pub(super) fn is_usable(&self) -> bool {
        self.verdict != "fault" && self.verdict != "failure"
    }

    /// Whether the plugin broke the rules or its limits.
    pub(super) fn is_fault(&self) -> bool {
        self.verdict == "fault"
    }

    /// What would be sent.
    fn sent<'a>(&'a self, event: &'a Event) -> std::borrow::Cow<'a, str> {
        match self.verdict.as_str() {
            "pass" => event.text().into(),
            _ => String::from_utf8_lossy(&self.bytes),
        }
    }
}

/// One event that two versions judge differently.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Difference {
    /// The event's id.
    pub event: uuid::Uuid,
    /// What the active version made of it.
    pub active: Sample,
    /// What the other one made of it.
    pub other: Sample,
    /// The lines in which the two bodies differ, JSON pretty-printed, each with `-` (active) or `+` (other) before it.
    pub diff: Vec<String>,
}

impl Difference {
    pub(super) fn new(event: &Event, mut active: Sample, mut other: Sample) -> Self {
        let lines = crate::diff::lines(&active.sent(event), &other.sent(event));
        let changed = lines.iter().filter(|line| line.is_changed());
        let diff = changed.take(DIFF_LINES_MAX).map(|line| format!("{} {}", line.sign, cut(&line.text, 200))).collect();
        (active.bytes, other.bytes) = (Bytes::new(), Bytes::new());
        Difference { event: event.id.0, active, other, diff }
    }
}
