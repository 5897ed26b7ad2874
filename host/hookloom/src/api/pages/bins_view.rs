//! Views of bins and of received requests: as text, form, bytes or command, with the check of the signature and the plugin's
//! result.

use super::bin_rows::BinRequestRow;
use super::curl::of_received;
use super::deliveries::sent_body::made_now;
use super::diff::Diff;
use super::forms::{Form, pairs};
use super::{DisplayTime, Frame, filters, short, size};
use crate::api::ApiState;
use crate::delivery::DeliveryId;
use crate::ids::BinId;
use crate::inspector::{Bin, BinRequest, BinSettings, Reply};
use crate::operations::Problem;
use crate::plural::counted;
use crate::signature::verifies;
use crate::store::StoreError;
use crate::subscription::TenantId;
use askama::Template;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::str::FromStr;

pub(super) fn name(bin: &Bin) -> String {
    match bin.settings.name.as_str() {
        "" => format!("Bin {}", &bin.id[..bin.id.len().min(6)]),
        name => name.to_owned(),
    }
}

const COLOURS: [&str; 8] = ["grey", "red", "orange", "yellow", "green", "teal", "blue", "violet"];

pub(super) fn colours(selected: u8) -> Vec<(u8, &'static str, bool)> {
    COLOURS.iter().zip(0..).map(|(name, number)| (number, *name, number == selected)).collect()
}

/// Returns the settings of the form. Settings that it does not show stay.
pub(super) fn settings(form: &Form, old: &BinSettings) -> Result<BinSettings, Problem> {
    let parts = form.get("statuses").split([',', ' ']).filter(|part| !part.is_empty());
    let statuses: Result<Vec<u16>, _> = parts.map(str::parse).collect();
    let statuses = statuses.map_err(|_| Problem::field("/reply/statuses", "numbers with commas between them"))?;
    let headers = pairs(form.get("reply_headers")).map_err(|detail| Problem::field("/reply/headers", detail))?;
    Ok(BinSettings {
        name: form.get("name").to_owned(),
        colour: number(form, "colour")?,
        ttl_s: number::<u64>(form, "ttl_h")?.saturating_mul(3_600),
        requests_max: number(form, "requests_max")?,
        body_bytes_max: old.body_bytes_max,
        reply: Reply {
            statuses,
            headers,
            body: form.get("reply_body").to_owned(),
            delay_ms: number(form, "delay_ms")?,
        },
    })
}

fn number<N: FromStr>(form: &Form, name: &str) -> Result<N, Problem> {
    let text = form.get(name);
    text.parse().map_err(|_| Problem::field(&format!("/{name}"), format!("{text:?} is not a number")))
}

/// Request for display.
#[derive(Template)]
#[template(path = "bin_request.html")]
pub(super) struct RequestView {
    frame: Frame,
    bin: BinId,
    bin_name: String,
    id: String,
    method: String,
    path: String,
    query: String,
    at: DisplayTime,
    remote: String,
    size: String,
    /// Event, status and content type, as in the list.
    row: BinRequestRow,
    signature: String,
    /// Delivery, version that judged, and its result for the event.
    delivery: Option<(String, String, Diff)>,
    pretty: String,
    form: Vec<(String, String)>,
    raw: String,
    hex: String,
    headers: Vec<(String, String)>,
    previous: Option<Diff>,
    curl: String,
    replayed: Option<String>,
}

impl RequestView {
    pub(super) async fn new(
        frame: Frame,
        state: &ApiState,
        tenant: &TenantId,
        bin: &Bin,
        request: BinRequest,
        previous: Option<BinRequest>,
        replayed: Option<String>,
    ) -> Result<Self, StoreError> {
        let row = BinRequestRow::new(state, tenant, &bin.id, request.clone()).await?;
        let details = host_delivery(state, tenant, &request).await;
        let (signature, delivery) = details.unwrap_or_default();
        let BinRequest { id, received_at_ms, head, body } = request;
        let raw = String::from_utf8_lossy(&body).into_owned();
        let kind = head.header("content-type").unwrap_or_default();
        let is_form = kind.starts_with("application/x-www-form-urlencoded");
        let form = if is_form { url::form_urlencoded::parse(&body).into_owned().collect() } else { Vec::new() };
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        let truncated = if head.truncated { format!(" ({} kept)", size(body.len() as u64)) } else { String::new() };
        Ok(RequestView {
            frame,
            row,
            bin: bin.id.clone(),
            bin_name: name(bin),
            id: id.to_string(),
            at: DisplayTime::at_ms(received_at_ms),
            size: format!("{}{truncated}", size(head.bytes as u64)),
            pretty: if is_json { crate::diff::pretty(&raw) } else { String::new() },
            hex: hex_dump(&body),
            curl: of_received(&head, &raw, &super::bin_urls::internal_url(&bin.id, state)),
            previous: previous.map(|before| Diff::new(String::from_utf8_lossy(&before.body), raw.as_str())),
            method: head.method,
            path: head.path,
            query: head.query,
            remote: head.remote,
            headers: head.headers,
            signature,
            delivery,
            form,
            raw,
            replayed,
        })
    }
}

type DeliveryDetails = (String, Option<(String, String, Diff)>);

/// Returns details about a request that is a delivery of this host: the check of its signature, and the plugin's result for the
/// event.
async fn host_delivery(state: &ApiState, tenant: &TenantId, request: &BinRequest) -> Option<DeliveryDetails> {
    let id = request.head.header("webhook-id")?;
    let Ok(delivery) = id.parse().map(DeliveryId) else { return Some((FOREIGN.into(), None)) };
    let Ok((view, attempts)) = state.operations.store.delivery(tenant.clone(), delivery).await else {
        return Some((FOREIGN.into(), None));
    };
    let subscription = state.operations.store.catalog().subscription(tenant, view.subscription);
    let signature = match &subscription {
        None => "the webhook was deleted, so its keys are gone".to_owned(),
        Some(_) if request.head.truncated => "not all of the body is kept, so it cannot be verified".to_owned(),
        Some(subscription) => {
            let timestamp = request.head.header("webhook-timestamp").and_then(|text| text.parse().ok());
            let header = request.head.header("webhook-signature").unwrap_or_default();
            if timestamp.is_some_and(|at| verifies(&subscription.signing, id, at, &request.body, header)) {
                "verified with the webhook's signing secret".to_owned()
            } else {
                "NOT verified with the webhook's signing secret".to_owned()
            }
        }
    };
    let event = state.operations.store.event(tenant.clone(), view.event).await.ok()?.event;
    let sha256 = hex::encode(Sha256::digest(&request.body));
    let attempt = attempts.iter().rev().find(|one| one.body_sha256.as_deref() == Some(&sha256)).or(attempts.last());
    let judge = match attempt {
        None => "no plugin yet".to_owned(),
        Some(attempt) => match &attempt.plugin_sha256 {
            Some(sha256) => format!("version {} at attempt {}", short(sha256), attempt.number),
            None => format!("no plugin at attempt {}", attempt.number),
        },
    };
    let diff = if attempt.is_some_and(|attempt| attempt.body_sha256.as_deref() == Some(&sha256)) {
        // The received body is the one that was sent, even if the plugin has changed since.
        Diff::new(event.text(), String::from_utf8_lossy(&request.body))
    } else {
        made_now(state, event, subscription).await.diff
    };
    Some((signature, Some((view.id.to_string(), judge, diff))))
}

const FOREIGN: &str = "signed with another key: it is not a delivery of this tenant";

/// Maximum number of bytes of a body in the hex view.
const HEX_BYTES_MAX: usize = 4_096;

fn hex_dump(body: &[u8]) -> String {
    let mut dump = String::new();
    for (line, bytes) in body[..body.len().min(HEX_BYTES_MAX)].chunks(16).enumerate() {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = bytes
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect();
        let _ = writeln!(dump, "{:08x}  {:<47}  {text}", line * 16, hex.join(" "));
    }
    if body.len() > HEX_BYTES_MAX {
        let left = counted((body.len() - HEX_BYTES_MAX) as u64, "byte", "bytes");
        let _ = writeln!(dump, "… and {left} more");
    }
    dump
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_with_their_letters() {
        assert_eq!(hex_dump(b"A\x00z"), format!("00000000  {:<47}  A.z\n", "41 00 7a"));
        assert!(hex_dump(&[0; 5_000]).ends_with("… and 904 bytes more\n"));
    }
}
