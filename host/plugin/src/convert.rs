//! Conversion between the types of the contract and those of the host, and validation of a plugin's answer.
//!
//! # Guarantees
//! - An [`Outgoing`] of this module can be sent unchanged.
//! - An invalid answer is a [`PluginFault::BadOutput`] that names the limit or rule.
//!
//! # Limits
//! URLs are only parsed here. The address guard decides at sending whether a URL may be called.

use super::bindings::hookloom::plugin::types;
use super::secret_scan::SecretScanner;
use super::{Judgement, Outgoing, PluginFault};
use bytes::Bytes;
use hookloom_model::address::is_host;
use hookloom_model::delivery::Reason;
use hookloom_model::event::{Event, HANDED_ON_DEPTH_MAX, check_readable};
use hookloom_model::headers::{HeaderAuthor, check_header};
pub(super) use hookloom_model::limits::{REASON_BYTES_MAX, cut};
use hookloom_model::plural::counted;
use hookloom_model::settle::SettledEvents;
use hookloom_model::subscription::{LoadedSettings, Subscription};
use http::HeaderValue;
use serde::de::IgnoredAny;
use url::Url;

pub(super) const REASON_CODE_BYTES_MAX: usize = 64;

/// Converts an event for the plugin of a subscription.
pub(super) fn event(
    event: &Event,
    payload: &str,
    subscription: &Subscription,
    settled: Option<SettledEvents>,
) -> types::Event {
    types::Event {
        id: event.id.to_string(),
        tenant: subscription.tenant.to_string(),
        subscription: subscription.id.to_string(),
        name: event.name.clone(),
        module: Some(event.module.as_str().to_owned()),
        entity_id: event.entity_id.clone(),
        received_at: event.received_at_ms.unsigned_abs(),
        payload: payload.to_owned(),
        attributes: settled.map(settled_attributes).unwrap_or_default(),
    }
}

/// Returns the attributes of a delivery that stands for several events: their number, and the time at which the first was accepted, in
/// milliseconds since the epoch.
fn settled_attributes(settled: SettledEvents) -> Vec<types::Attribute> {
    let pairs = [("settled-events", settled.count.to_string()), ("settled-since", settled.since_ms().to_string())];
    pairs.map(|(name, value)| types::Attribute { name: name.to_owned(), value }).into()
}

/// Validates and converts the answer of a plugin.
pub(super) fn judgement(
    answer: Result<Result<types::Verdict, types::Failure>, PluginFault>,
    subscription: &Subscription,
) -> Judgement {
    match answer {
        Err(fault) => Judgement::Fault(fault),
        Ok(Err(types::Failure::InvalidEvent(why))) => Judgement::InvalidEvent(reason(why)),
        Ok(Err(types::Failure::Transient(why))) => Judgement::Transient(reason(why)),
        Ok(Err(types::Failure::BadConfig(why))) => Judgement::BadConfig(reason(why)),
        Ok(Ok(types::Verdict::Pass)) => Judgement::Pass,
        Ok(Ok(types::Verdict::Drop(why))) => Judgement::Drop(reason(why)),
        Ok(Ok(types::Verdict::Later(later))) => {
            Judgement::Later { delay_ms: later.delay_ms, reason: reason(later.reason) }
        }
        Ok(Ok(types::Verdict::Replace(list))) => {
            match outgoing(list, &subscription.settings).and_then(|outgoing| no_secret_in(outgoing, subscription)) {
                Ok(outgoing) => Judgement::Replace(outgoing),
                Err(what) => Judgement::Fault(PluginFault::BadOutput(cut(&what, REASON_BYTES_MAX).to_owned())),
            }
        }
    }
}

fn outgoing(list: Vec<types::Outgoing>, settings: &LoadedSettings) -> Result<Outgoing, String> {
    let count = list.len();
    let [one] = <[types::Outgoing; 1]>::try_from(list)
        .map_err(|_| format!("`replace` holds {count} requests, and this host sends exactly one"))?;
    if let Some(attribute) = one.attributes.first() {
        return Err(format!(
            "`outgoing.attributes` holds {:?}, which this host does not know",
            cut(&attribute.name, 64)
        ));
    }
    let (body, is_text) = match one.body {
        types::Body::Text(text) => (Bytes::from(text), true),
        types::Body::Binary(bytes) => (Bytes::from(bytes), false),
    };
    if body.len() as u64 > settings.limits.output_bytes {
        return Err(format!(
            "the body has {} bytes, and limits.output_bytes is {}",
            body.len(),
            settings.limits.output_bytes
        ));
    }
    let content_type = content_type(one.content_type, is_text)?;
    if is_json(&content_type) {
        check_json(&body)?;
    }
    Ok(Outgoing { body, is_text, content_type, headers: headers(one.headers, settings)?, url: url(one.url, settings)? })
}

/// Refuses a request that contains the value of a secret. A plugin cannot read secrets, but its config or the event may contain a
/// copy, which must not be sent.
fn no_secret_in(outgoing: Outgoing, subscription: &Subscription) -> Result<Outgoing, String> {
    let scanner = SecretScanner::of(subscription);
    match secret_in(&outgoing, &scanner) {
        Some(name) => Err(format!("the request holds the value of the secret {name:?}, which is never sent")),
        None => Ok(outgoing),
    }
}

/// Returns the name of a secret whose value is in a part of a request.
fn secret_in<'s>(outgoing: &Outgoing, scanner: &'s SecretScanner) -> Option<&'s str> {
    let in_body = scanner.find(&outgoing.body, is_json(&outgoing.content_type));
    let url = outgoing.url.as_ref().map(|url| url.as_str().as_bytes());
    let headers = outgoing.headers.iter().map(|(_, value)| value.as_bytes());
    let mut others = headers.chain(url).chain([outgoing.content_type.as_bytes()]);
    in_body.or_else(|| others.find_map(|part| scanner.find(part, false)))
}

const CONTENT_TYPE_BYTES_MAX: usize = 200;

fn content_type(wanted: Option<String>, is_text: bool) -> Result<HeaderValue, String> {
    match wanted {
        None if is_text => Ok(HeaderValue::from_static("application/json")),
        None => Err("a binary body needs a content type".into()),
        Some(wanted) => HeaderValue::from_str(&wanted)
            .ok()
            .filter(|value| value.to_str().is_ok() && wanted.contains('/') && wanted.len() <= CONTENT_TYPE_BYTES_MAX)
            .ok_or_else(|| format!("{:?} is not a content type", cut(&wanted, 100))),
    }
}

/// Returns whether a content type is `application/json` or ends in `+json` (RFC 6839), with any parameters.
fn is_json(content_type: &HeaderValue) -> bool {
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// Checks that the next plugin of a chain can read a request's body, if it is JSON.
pub(super) fn check_handed_on(outgoing: &Outgoing) -> Result<(), String> {
    if !is_json(&outgoing.content_type) {
        return Ok(());
    }
    check_readable(&outgoing.body, HANDED_ON_DEPTH_MAX).map_err(|fault| fault.to_string())
}

fn check_json(body: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<IgnoredAny>(body).map(drop).map_err(|error| format!("the body is not JSON: {error}"))
}

fn headers(
    wanted: Vec<types::Header>,
    settings: &LoadedSettings,
) -> Result<Vec<(http::HeaderName, HeaderValue)>, String> {
    let limits = &settings.limits;
    if wanted.len() as u64 > limits.headers {
        return Err(format!(
            "{}, and limits.headers is {}",
            counted(wanted.len() as u64, "header", "headers"),
            limits.headers
        ));
    }
    let bytes: usize = wanted.iter().map(|header| header.name.len() + header.value.len()).sum();
    if bytes as u64 > limits.header_bytes {
        return Err(format!("headers of {bytes} bytes, and limits.header_bytes is {}", limits.header_bytes));
    }
    wanted.iter().map(|header| check_header(&header.name, &header.value, HeaderAuthor::Untrusted)).collect()
}

fn url(wanted: Option<String>, settings: &LoadedSettings) -> Result<Option<Url>, String> {
    let Some(wanted) = wanted else { return Ok(None) };
    let url = Url::parse(&wanted).map_err(|error| format!("the URL cannot be read: {error}"))?;
    let notify_url = settings.url();
    let host = url.host_str().unwrap_or_default().to_owned();
    if url.host_str() != notify_url.host_str() && !settings.url_hosts.iter().any(|allowed| is_host(allowed, &host)) {
        return Err(format!("the URL's host {host:?} is not in the subscription's url_hosts"));
    }
    // Otherwise a plugin could send data over the network in the clear that the subscription sends with TLS.
    if notify_url.scheme() == "https" && url.scheme() != "https" && !settings.url_allow_http {
        return Err(format!(
            "the URL's scheme is {:?}, the Notify URL's is \"https\", and url_allow_http of the subscription is false",
            url.scheme()
        ));
    }
    // The client would turn them into an `Authorization` header that `check_header` has not seen.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL holds credentials; put them into a header".to_owned());
    }
    Ok(Some(url))
}

/// Converts a reason, cut to the maximum lengths.
fn reason(reason: types::Reason) -> Reason {
    Reason {
        code: cut(&reason.code, REASON_CODE_BYTES_MAX).to_owned(),
        message: cut(&reason.message, REASON_BYTES_MAX).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_model::event::EventId;
    use hookloom_model::subscription::{CallSettings, Secret, TenantId};
    use std::collections::BTreeMap;

    const SECRET: &str = "s3\"cr\\et";

    /// Checks whether a request with these parts is sent, for a subscription with a secret that has quotes and backslashes.
    #[track_caller]
    fn check(body: &str, content_type: &str, header: &str, url: &str, sent: bool) {
        let secrets = [("token".to_owned(), Secret::from(SECRET.to_owned()))].into();
        let settings = CallSettings { secrets, ..CallSettings::default() };
        let subscription = Subscription::passing(TenantId("t".into()), settings);
        let outgoing = Outgoing {
            body: Bytes::from(body.to_owned()),
            is_text: true,
            content_type: HeaderValue::from_str(content_type).expect("a content type"),
            headers: vec![check_header("x-own", header, HeaderAuthor::Untrusted).expect("a header")],
            url: Some(Url::parse(url).expect("a URL")),
        };
        let result = no_secret_in(outgoing, &subscription).map(drop);
        assert_eq!(result.is_ok(), sent, "{result:?}");
        assert!(result.err().unwrap_or_default().find(SECRET).is_none(), "the refusal tells it");
    }

    #[test]
    fn a_plugin_sees_how_many_events_a_delivery_stands_for() {
        let first: EventId = "01900000-0400-7000-8000-000000000000".parse().map(EventId).expect("an id");
        let attributes = settled_attributes(SettledEvents { count: 3, first });
        let pairs: Vec<_> = attributes.iter().map(|one| (&*one.name, &*one.value)).collect();
        assert_eq!(pairs, [("settled-events", "3"), ("settled-since", &*first.made_at_ms().to_string())]);
        assert_eq!(first.made_at_ms(), 0x0190_0000_0400);
    }

    #[test]
    fn a_url_is_no_weaker_than_the_notify_url() {
        #[track_caller]
        fn check(notify_url: &str, allow_http: bool, wanted: &str, refusal: Option<&str>) {
            let json = serde_json::json!({
                "notify_url": notify_url, "modules": [], "url_hosts": ["B.example"], "url_allow_http": allow_http,
            });
            let settings = serde_json::from_value(json).expect("settings");
            let settings = LoadedSettings::new(settings, BTreeMap::new()).expect("a URL");
            let result = url(Some(wanted.to_owned()), &settings);
            let fits = match refusal {
                None => result.as_ref().is_ok_and(Option::is_some),
                Some(part) => result.as_ref().is_err_and(|result| result.contains(part)),
            };
            assert!(fits, "{notify_url} to {wanted}: {result:?}");
        }
        let downgrade = Some("url_allow_http of the subscription is false");
        check("https://a.example/in", false, "https://a.example/other", None);
        check("https://a.example/in", false, "https://a.example:8443/", None);
        check("https://a.example/in", false, "https://b.example/", None);
        check("https://a.example/in", false, "http://a.example/in", downgrade);
        check("https://a.example/in", false, "HTTP://A.example:443/in", downgrade);
        check("https://a.example/in", false, "http://b.example/", downgrade);
        check("https://a.example/in", false, "ws://a.example/", downgrade);
        check("https://a.example/in", true, "http://a.example/in", None);
        check("https://a.example/in", true, "http://c.example/in", Some("not in the subscription's url_hosts"));
        check("http://a.example/in", false, "http://a.example/other", None);
        check("http://a.example/in", false, "https://a.example/", None);
        check("https://a.example/in", false, "https://user:pw@a.example/", Some("holds credentials"));
        check("https://a.example/in", false, "https://user@a.example/", Some("holds credentials"));
    }

    #[test]
    fn a_secret_leaves_by_no_part_of_a_request() {
        let json = "application/json";
        let url = "https://a.example/";
        check("{}", json, "1", url, true);
        check(SECRET, "text/plain", "1", url, false);
        check(r#"{"a":"s3\"cr\\et"}"#, json, "1", url, false);
        check(r#"{"a":"s3\"cr\\et"}"#, "application/x+json", "1", url, false);
        check("{}", &format!("text/plain;x={SECRET}"), "1", url, false);
        check("{}", json, &format!("Bearer {SECRET}"), url, false);
        check("{}", json, "1", "https://a.example/s3cret", true);
    }
}
