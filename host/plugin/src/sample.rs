//! Summary of a judgement for comparisons, and the difference of two summaries.
//!
//! # Guarantees
//! - The size of a summary and of a difference is bounded, whatever the plugin returns.

use super::convert::cut;
use super::judgement::Judgement;
use bytes::Bytes;
use hookloom_model::delivery::Verdict;
use hookloom_model::event::Event;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// Maximum size of a body that is shown, in bytes.
const BODY_BYTES_SHOWN: usize = 2 << 10;

/// Maximum number of lines of a difference.
const DIFF_LINES_MAX: usize = 40;

/// Judgement of one version on an event, as far as versions are compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sample {
    /// Verdict of the version.
    pub verdict: Verdict,
    /// Code of the reason; for a fault, its message.
    pub reason: Option<String>,
    /// First 2 KiB of the body that would be sent, as text. Absent: nothing would be sent, or the unchanged event.
    pub body: Option<String>,
    /// Hash of the whole request.
    #[serde(skip)]
    whole: Option<[u8; 32]>,
    /// Whole body, until the difference is computed.
    #[serde(skip)]
    bytes: Bytes,
}

impl Sample {
    /// Summarizes a judgement.
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
        Sample { verdict: judgement.verdict(), reason, body, whole, bytes }
    }

    /// Returns whether a delivery can continue with this judgement.
    pub(super) fn is_usable(&self) -> bool {
        !matches!(self.verdict, Verdict::Fault | Verdict::Failure)
    }

    /// Returns whether the judgement is a fault.
    pub(super) fn is_fault(&self) -> bool {
        self.verdict == Verdict::Fault
    }

    /// Returns the body that would be sent.
    fn sent<'a>(&'a self, event: &'a Event) -> std::borrow::Cow<'a, str> {
        if self.verdict == Verdict::Pass { event.text().into() } else { String::from_utf8_lossy(&self.bytes) }
    }
}

/// Event that two versions judge differently.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Difference {
    /// Id of the event.
    pub event: uuid::Uuid,
    /// Judgement of the active version.
    pub active: Sample,
    /// Judgement of the other version.
    pub other: Sample,
    /// Lines in which the two bodies differ, JSON pretty-printed, with the prefix `-` (active) or `+` (other).
    pub diff: Vec<String>,
}

impl Difference {
    pub(super) fn new(event: &Event, mut active: Sample, mut other: Sample) -> Self {
        let lines = hookloom_model::diff::lines(&active.sent(event), &other.sent(event));
        let changed = lines.iter().filter(|line| line.is_changed());
        let diff = changed.take(DIFF_LINES_MAX).map(|line| format!("{} {}", line.sign, cut(&line.text, 200))).collect();
        active.bytes = Bytes::new();
        other.bytes = Bytes::new();
        Difference { event: event.id.0, active, other, diff }
    }
}
