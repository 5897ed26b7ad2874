//! Requests that a bin received, as rows: event with its contact or deal, status, content type, and the check of the signature.
//!
//! # Guarantees
//! - The events of a page are read at once, by their keys, without their payloads.
//! - Signatures are checked and bodies are parsed when the page is rendered, because both take milliseconds.
//!
//! # Limits
//! The signature is checked with the keys of the webhooks that send to the bin now. The page of a request takes those of its delivery.

use super::{DisplayTime, size};
use crate::api::ApiState;
use crate::event::{EventId, Module, VENDOR_EVENT_NAMES, read_envelope};
use crate::ids::BinId;
use crate::inspector::BinRequest;
use crate::signature::verifies;
use crate::store::{EventSummary, StoreError};
use crate::subscription::{Subscription, TenantId};
use crate::url_path::UrlPath;
use std::sync::Arc;

/// Header with the id of the event, in deliveries of a host.
const EVENT_ID: &str = "hookloom-event-id";

/// Maximum size of a body in which a row looks for an event, in bytes.
const PARSED_BYTES_MAX: usize = 64 << 10;

/// Request that a bin received.
pub(super) struct BinRequestRow {
    request: BinRequest,
    /// Event of this tenant that the request delivers.
    event: Option<EventSummary>,
    /// Webhooks that send to the bin.
    senders: Arc<Vec<Arc<Subscription>>>,
}

/// Name of an event, and its contact or deal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RowEvent {
    /// Empty: the request has no event.
    pub(super) name: String,
    /// Module and id. Empty without one.
    pub(super) entity: String,
}

/// Result of the check of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignatureState {
    /// The request has no signature.
    Absent,
    Verified,
    /// No key of the webhooks that send to the bin made the signature.
    Refused,
    /// There is no key to check it with, or not all of the body is kept.
    Unknown,
}

/// Returns the rows of requests of a bin.
pub(super) async fn rows(
    state: &ApiState,
    tenant: &TenantId,
    bin: &BinId,
    requests: Vec<BinRequest>,
) -> Result<Vec<BinRequestRow>, StoreError> {
    let store = &state.operations.store;
    let ids = requests.iter().filter_map(event_id).collect();
    let events = store.event_summaries(tenant.clone(), ids).await?;
    let all = store.catalog().subscriptions(tenant);
    // The id of a bin cannot be guessed, so a URL with it leads to the bin, by whatever address of the host.
    let sends_to_bin = |one: &&Arc<Subscription>| one.settings.notify_url.contains(&**bin);
    let senders: Arc<Vec<Arc<Subscription>>> = Arc::new(all.iter().filter(sends_to_bin).cloned().collect());
    let row = |request: BinRequest| BinRequestRow {
        event: event_id(&request).and_then(|id| events.get(&id).cloned()),
        senders: senders.clone(),
        request,
    };
    Ok(requests.into_iter().map(row).collect())
}

fn event_id(request: &BinRequest) -> Option<EventId> {
    request.head.header(EVENT_ID)?.parse().map(EventId).ok()
}

impl BinRequestRow {
    /// Returns the row of one request.
    pub(super) async fn new(
        state: &ApiState,
        tenant: &TenantId,
        bin: &BinId,
        request: BinRequest,
    ) -> Result<Self, StoreError> {
        let rows = rows(state, tenant, bin, vec![request]).await?;
        rows.into_iter().next().ok_or(StoreError::NotFound("request"))
    }

    /// Returns the path of the event's page. None: the event is not one of this tenant.
    pub(super) fn event_path(&self, tenant: &TenantId) -> Option<String> {
        let event = self.event.as_ref()?;
        Some(UrlPath::pages_of(tenant).then("events").then(&event.id.0).to_string())
    }

    pub(super) fn id(&self) -> String {
        self.request.id.to_string()
    }

    pub(super) fn at(&self) -> DisplayTime {
        DisplayTime::at_ms(self.request.received_at_ms)
    }

    pub(super) fn method(&self) -> &str {
        &self.request.head.method
    }

    pub(super) fn path(&self) -> &str {
        &self.request.head.path
    }

    pub(super) fn remote(&self) -> &str {
        &self.request.head.remote
    }

    pub(super) fn size(&self) -> String {
        size(self.request.head.bytes as u64)
    }

    /// Returns the status that was answered, with the class of its mark.
    pub(super) fn answered(&self) -> Option<(u16, &'static str)> {
        let status = self.request.head.answered?;
        Some((status, if status < 400 { "ok" } else { "failed" }))
    }

    /// Returns the content type without its parameters. Empty without one.
    pub(super) fn media_type(&self) -> String {
        let kind = self.request.head.header("content-type").unwrap_or_default();
        kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Returns the event that the request delivers, or that its body is.
    pub(super) fn event(&self) -> RowEvent {
        match &self.event {
            Some(event) => RowEvent::new(event.name.clone(), Some(event.module), event.entity_id.as_deref()),
            None => self.event_of_body(),
        }
    }

    fn event_of_body(&self) -> RowEvent {
        if self.request.head.truncated || self.request.body.len() > PARSED_BYTES_MAX {
            return RowEvent::default();
        }
        let Ok(envelope) = read_envelope(&self.request.body) else { return RowEvent::default() };
        let known = VENDOR_EVENT_NAMES.iter().find(|(name, _)| *name == envelope.name);
        RowEvent::new(envelope.name, known.map(|(_, module)| *module), envelope.entity_id.as_deref())
    }

    /// Checks the signature.
    pub(super) fn signature(&self) -> SignatureState {
        let head = &self.request.head;
        let (Some(header), Some(id)) = (head.header("webhook-signature"), head.header("webhook-id")) else {
            return SignatureState::Absent;
        };
        if head.truncated || head.header(EVENT_ID).is_none() || self.senders.is_empty() {
            return SignatureState::Unknown;
        }
        let Some(at_s) = head.header("webhook-timestamp").and_then(|text| text.parse().ok()) else {
            return SignatureState::Refused;
        };
        let is_verified = self.senders.iter().any(|one| verifies(&one.signing, id, at_s, &self.request.body, header));
        if is_verified { SignatureState::Verified } else { SignatureState::Refused }
    }
}

impl RowEvent {
    fn new(name: String, module: Option<Module>, entity_id: Option<&str>) -> Self {
        let entity = entity_id.map(|id| match module {
            Some(module) => format!("{} {id}", module.as_str()),
            None => id.to_owned(),
        });
        RowEvent { name, entity: entity.unwrap_or_default() }
    }
}

impl SignatureState {
    /// Returns the state in words. Empty without a signature.
    pub(super) fn word(self) -> &'static str {
        match self {
            SignatureState::Absent => "",
            SignatureState::Verified => "verified",
            SignatureState::Refused => "not verified",
            SignatureState::Unknown => "unknown key",
        }
    }

    /// Returns the class of the state's mark.
    pub(super) fn class(self) -> &'static str {
        match self {
            SignatureState::Absent => "",
            SignatureState::Verified => "ok",
            SignatureState::Refused => "failed",
            SignatureState::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspector::RequestHead;
    use crate::signature::{SigningKey, SigningSecret, signature_header};
    use crate::subscription::CallSettings;
    use bytes::Bytes;

    /// Row of a request with these headers and this body, in a bin of one webhook.
    fn row(headers: &[(&str, &str)], body: &'static str, senders: Vec<Arc<Subscription>>) -> BinRequestRow {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let head = RequestHead { headers, answered: Some(202), ..RequestHead::default() };
        let body = Bytes::from_static(body.as_bytes());
        let request = BinRequest { id: uuid::Uuid::nil(), received_at_ms: 0, head, body };
        BinRequestRow { request, event: None, senders: Arc::new(senders) }
    }

    #[track_caller]
    fn check_event(body: &'static str, name: &str, entity: &str) {
        let found = row(&[], body, Vec::new()).event();
        assert_eq!((found.name.as_str(), found.entity.as_str()), (name, entity), "{body}");
    }

    #[test]
    fn a_body_may_be_an_event() {
        let deal = r#"{"eventName": "Opportunity is Updated", "eventData": {"id": 57}}"#;
        check_event(deal, "Opportunity is Updated", "Deal 57");
        check_event(r#"{"eventName": "Order is Paid", "eventData": {"id": "a-1"}}"#, "Order is Paid", "a-1");
        check_event(r#"{"eventName": "Order is Paid", "eventData": {}}"#, "Order is Paid", "");
        check_event(r#"{"type": "contact.created"}"#, "", "");
        check_event("a=b", "", "");
    }

    #[test]
    fn a_media_type_has_no_parameters() {
        #[track_caller]
        fn check(kind: &str, expected: &str) {
            assert_eq!(row(&[("Content-Type", kind)], "", Vec::new()).media_type(), expected);
        }
        check("Application/JSON; charset=utf-8", "application/json");
        check("text/plain", "text/plain");
        check("", "");
    }

    #[test]
    fn a_signature_is_checked_with_the_keys_of_the_bins_webhooks() {
        fn sender(key: &SigningKey) -> Arc<Subscription> {
            let passing = Subscription::passing(TenantId::default(), CallSettings::default());
            Arc::new(Subscription { signing: vec![key.clone()], ..passing })
        }
        let [ours, other] = [SigningSecret::generate(), SigningSecret::generate()].map(SigningKey::current);
        let header = signature_header(std::slice::from_ref(&ours), "id", 5_000, b"{}");
        let all =
            [("webhook-id", "id"), ("webhook-timestamp", "5"), ("webhook-signature", header.as_str()), (EVENT_ID, "e")];
        assert_eq!(row(&all, "{}", vec![sender(&other), sender(&ours)]).signature(), SignatureState::Verified);
        assert_eq!(row(&all, "{} ", vec![sender(&ours)]).signature(), SignatureState::Refused);
        assert_eq!(row(&all, "{}", vec![sender(&other)]).signature(), SignatureState::Refused);
        assert_eq!(row(&all, "{}", Vec::new()).signature(), SignatureState::Unknown);
        assert_eq!(row(&all[..3], "{}", vec![sender(&ours)]).signature(), SignatureState::Unknown, "of another host");
        assert_eq!(row(&all[..2], "{}", vec![sender(&ours)]).signature(), SignatureState::Absent);
    }
}
