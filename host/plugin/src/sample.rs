//! Summary of a judgement for comparisons.
//!
//! # Guarantees
//! - The size of a shown summary is bounded, whatever the plugin returns.

use super::judgement::{Judgement, Outgoing};
use bytes::Bytes;
use hookloom_model::delivery::Verdict;
use hookloom_model::event::Event;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// Maximum size of a body that is shown, in bytes.
const BODY_BYTES_SHOWN: usize = 2 << 10;

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
    /// Content type, headers and URL as lines, until the difference is computed.
    #[serde(skip)]
    head: Vec<String>,
}

impl Sample {
    /// Summarizes a judgement.
    pub(super) fn of(judgement: &Judgement) -> Self {
        let mut sample = Sample {
            verdict: judgement.verdict(),
            reason: None,
            body: None,
            whole: None,
            bytes: Bytes::new(),
            head: Vec::new(),
        };
        if let Judgement::Replace(outgoing) = judgement {
            let shown = &outgoing.body[..outgoing.body.len().min(BODY_BYTES_SHOWN)];
            sample.body = Some(String::from_utf8_lossy(shown).into_owned());
            sample.whole = Some(hash_of(outgoing));
            sample.bytes = outgoing.body.clone();
            sample.head = head_lines(outgoing);
        }
        sample.reason = judgement.reason().map(|reason| match judgement {
            Judgement::Fault(_) => reason.message,
            _ => reason.code,
        });
        sample
    }

    /// Returns whether a delivery can continue with this judgement.
    pub(super) fn is_usable(&self) -> bool {
        !matches!(self.verdict, Verdict::Fault | Verdict::Failure)
    }

    /// Returns whether the judgement is a fault.
    pub(super) fn is_fault(&self) -> bool {
        self.verdict == Verdict::Fault
    }

    /// Returns whether both have the same body.
    pub(super) fn has_body_of(&self, other: &Sample) -> bool {
        self.bytes == other.bytes
    }

    /// Returns content type, headers and URL as lines. Empty unless the request is replaced.
    pub(super) fn head(&self) -> &[String] {
        &self.head
    }

    /// Returns the summary without the parts that only a difference is computed from.
    pub(super) fn shown(self) -> Self {
        Sample { bytes: Bytes::new(), head: Vec::new(), ..self }
    }

    /// Returns the body that would be sent.
    pub(super) fn sent<'a>(&'a self, event: &'a Event) -> std::borrow::Cow<'a, str> {
        if self.verdict == Verdict::Pass { event.text().into() } else { String::from_utf8_lossy(&self.bytes) }
    }
}

/// Returns the hash of a whole request.
fn hash_of(outgoing: &Outgoing) -> [u8; 32] {
    let mut hash = Sha256::new().chain_update(&outgoing.body);
    hash.update(outgoing.content_type.as_bytes());
    for (name, value) in &outgoing.headers {
        hash.update(name.as_str());
        hash.update(value.as_bytes());
    }
    hash.update(outgoing.url.as_ref().map_or("", url::Url::as_str));
    hash.finalize().into()
}

/// Returns content type, headers and URL of a request as lines.
fn head_lines(outgoing: &Outgoing) -> Vec<String> {
    let content_type = format!("content-type: {}", String::from_utf8_lossy(outgoing.content_type.as_bytes()));
    let headers =
        outgoing.headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    let url = outgoing.url.iter().map(|url| format!("URL: {url}"));
    std::iter::once(content_type).chain(headers).chain(url).collect()
}
