//! Bins: request inspectors that receive any request, show it, and answer as their settings say.
//!
//! Pure data and rules. Does not know how they are stored or shown.

use crate::ids::BinId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Settings of a bin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BinSettings {
    /// Name for people.
    pub name: String,
    /// Colour by which bins are told apart, 0 to 7.
    pub colour: u8,
    /// Retention of requests, in seconds: 60 to 2,592,000 (30 days); 172,800 (48 h) if absent.
    pub ttl_s: u64,
    /// Maximum number of stored requests: 1 to 1,000; 100 if absent. The oldest are deleted first.
    pub requests_max: usize,
    /// Maximum size of the stored part of each body, in bytes: up to 4 MiB; 1 MiB if absent.
    pub body_bytes_max: usize,
    /// Answer to requests.
    pub reply: Reply,
}

impl Default for BinSettings {
    fn default() -> Self {
        BinSettings {
            name: String::new(),
            colour: 0,
            ttl_s: 48 * 3_600,
            requests_max: 100,
            body_bytes_max: 1 << 20,
            reply: Reply::default(),
        }
    }
}

/// Answer of a bin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Reply {
    /// Statuses, used in turn and then from the first again: `[500, 500, 200]` is a way to try retries. `[200]` if absent.
    pub statuses: Vec<u16>,
    /// Headers that describe the answer: `content-type`, `retry-after`, …, and any whose name begins with `x-bin-`.
    pub headers: BTreeMap<String, String>,
    /// Body of the answer, up to 64 KiB. `ok` if absent.
    pub body: String,
    /// Delay before the answer, in milliseconds: up to 30,000.
    pub delay_ms: u64,
}

impl Default for Reply {
    fn default() -> Self {
        Reply { statuses: vec![200], headers: BTreeMap::new(), body: "ok".to_owned(), delay_ms: 0 }
    }
}

impl Reply {
    /// Returns the faults of the headers.
    fn header_faults(&self) -> Vec<String> {
        fn fault((name, value): (&String, &String)) -> Option<String> {
            if !may_answer(name) || http::HeaderName::try_from(name).is_err() {
                let allowed = ALLOWED.join(", ");
                return Some(format!(
                    "a bin may not answer with {name:?}, only with {allowed}, and names that begin with {FREE_PREFIX}"
                ));
            }
            http::HeaderValue::try_from(value).err().map(|_| format!("the value of {name:?} holds a control character"))
        }
        self.headers.iter().filter_map(fault).collect()
    }
}

/// Headers that a bin may answer with.
///
/// An allow-list, because a deny-list would grow with every browser and proxy. A bin has the same origin as the pages, so its
/// answer must not speak for that origin (`Set-Cookie`, `Clear-Site-Data`, `WWW-Authenticate`, `Accept-CH`,
/// `Strict-Transport-Security`, `Service-Worker-Allowed`, `Access-Control-Allow-Origin`, …), load or lead to anything (`Link`,
/// `Refresh`, `Location`), or control the proxy (`X-Accel-Redirect`, `X-Sendfile`, …). Listed headers only describe the answer, or
/// are read by senders of webhooks.
const ALLOWED: [&str; 19] = [
    "allow",
    "content-language",
    "content-type",
    "etag",
    "last-modified",
    "ratelimit",
    "ratelimit-limit",
    "ratelimit-policy",
    "ratelimit-remaining",
    "ratelimit-reset",
    "request-id",
    "retry-after",
    "webhook-allowed-origin",
    "webhook-allowed-rate",
    "x-correlation-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
];

/// Prefix of names that a bin's owner may choose freely, because they have no other meaning.
const FREE_PREFIX: &str = "x-bin-";

/// Returns true if a bin may answer with this header.
pub fn may_answer(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ALLOWED.contains(&name.as_str()) || name.starts_with(FREE_PREFIX)
}

/// Maximum length of a reply's headers, names and values together, in bytes.
const REPLY_HEADER_BYTES_MAX: usize = 8 << 10;

/// Number of colours.
pub const COLOURS: u8 = 8;

impl BinSettings {
    /// Returns the faults of the settings, each with its JSON pointer.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut unless = |fits: bool, pointer: &'static str, detail: &str| {
            if !fits {
                faults.push((pointer, detail.to_owned()));
            }
        };
        unless(self.name.len() <= 200, "/name", "at most 200 bytes");
        unless(self.colour < COLOURS, "/colour", "0 to 7");
        unless((60..=30 * 86_400).contains(&self.ttl_s), "/ttl_s", "60 to 2592000 s");
        unless((1..=1_000).contains(&self.requests_max), "/requests_max", "1 to 1000");
        unless(self.body_bytes_max <= 4 << 20, "/body_bytes_max", "at most 4194304 bytes");
        let reply = &self.reply;
        let statuses = (1..=100).contains(&reply.statuses.len())
            && reply.statuses.iter().all(|status| (200..=599).contains(status));
        unless(statuses, "/reply/statuses", "1 to 100 statuses from 200 to 599");
        unless(reply.body.len() <= 64 << 10, "/reply/body", "at most 64 KiB");
        unless(reply.delay_ms <= 30_000, "/reply/delay_ms", "at most 30000 ms");
        let header_bytes: usize = reply.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        unless(
            reply.headers.len() <= 32 && header_bytes <= REPLY_HEADER_BYTES_MAX,
            "/reply/headers",
            "at most 32 headers of 8192 bytes together",
        );
        faults.extend(reply.header_faults().into_iter().map(|fault| ("/reply/headers", fault)));
        faults
    }

    /// Returns the status of the answer to the bin's nth request, from 0.
    pub fn status(&self, nth: u64) -> u16 {
        let length = self.reply.statuses.len().max(1) as u64;
        let index = usize::try_from(nth % length).unwrap_or(0);
        self.reply.statuses.get(index).copied().unwrap_or(200)
    }
}

/// A bin.
#[derive(Clone, Debug)]
pub struct Bin {
    /// Id in the bin's URL: 128 random bits, so that nobody can guess it.
    pub id: BinId,
    /// Settings as the owner wrote them.
    pub settings: BinSettings,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Number of requests received so far.
    pub received: u64,
}

/// Head of a request, as received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RequestHead {
    /// Method of the request.
    pub method: String,
    /// Path after that of the bin.
    pub path: String,
    /// Query as received, without the `?`.
    pub query: String,
    /// Names and values in their order.
    pub headers: Vec<(String, String)>,
    /// Address of the sender.
    pub remote: String,
    /// Size of the body that arrived, in bytes.
    pub bytes: usize,
    /// True if only the beginning of the body is stored.
    pub truncated: bool,
    /// Status that was answered. Absent if an earlier version of the host received the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<u16>,
}

impl RequestHead {
    /// Returns the head with the status of a bin's answer to its nth request, from 0, unless it has another one.
    pub fn answered_by(self, settings: &BinSettings, nth: u64) -> Self {
        let answered = self.answered.unwrap_or_else(|| settings.status(nth));
        RequestHead { answered: Some(answered), ..self }
    }

    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A request that a bin received.
#[derive(Clone, Debug)]
pub struct BinRequest {
    /// Id of the request.
    pub id: Uuid,
    /// Time of arrival, in milliseconds since the epoch.
    pub received_at_ms: i64,
    /// Head of the request.
    pub head: RequestHead,
    /// Stored part of the body.
    pub body: bytes::Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_of_statuses_goes_round() {
        let reply = Reply { statuses: vec![500, 500, 200], ..Reply::default() };
        let bin = BinSettings { reply, ..BinSettings::default() };
        assert_eq!([0, 1, 2, 3, 5].map(|nth| bin.status(nth)), [500, 500, 200, 500, 200]);
    }

    #[test]
    fn a_head_keeps_the_status_that_it_has() {
        let reply = Reply { statuses: vec![500, 201], ..Reply::default() };
        let settings = BinSettings { reply, ..BinSettings::default() };
        let answered = |head: RequestHead| head.answered_by(&settings, 1).answered;
        assert_eq!(answered(RequestHead::default()), Some(201));
        assert_eq!(answered(RequestHead { answered: Some(413), ..RequestHead::default() }), Some(413));
    }

    #[test]
    fn a_head_of_an_earlier_version_has_no_status() {
        let stored = r#"{"method":"POST","path":"/","query":"","headers":[],"remote":"","bytes":0,"truncated":false}"#;
        let head: RequestHead = serde_json::from_str(stored).expect("a head");
        assert_eq!(head.answered, None);
        assert_eq!(serde_json::to_string(&head).expect("JSON"), stored);
    }

    /// Names that concern the origin, the connection, a browser's features or a proxy.
    const REFUSED: &str = "\
        Accept-CH Access-Control-Allow-Credentials Access-Control-Allow-Origin Alt-Svc Cache-Control Clear-Site-Data \
        Connection Content-Disposition Content-Encoding Content-Length Content-Location Content-Security-Policy \
        Content-Security-Policy-Report-Only Critical-CH Cross-Origin-Embedder-Policy Cross-Origin-Opener-Policy Cross- \
        Origin-Resource-Policy Date Expect-CT Keep-Alive Link Location NEL No-Vary-Search Observe-Browsing-Topics \
        Origin-Agent-Cluster Origin-Trial Permissions-Policy Proxy-Authenticate Public-Key-Pins Referrer-Policy \
        Refresh Report-To Reporting-Endpoints Server Service-Worker-Allowed Set-Cookie Set-Cookie2 Set-Login SourceMap \
        Speculation-Rules Strict-Transport-Security Timing-Allow-Origin Trailer Transfer-Encoding Upgrade Vary Via \
        WWW-Authenticate X-Accel-Redirect X-Content-Type-Options X-Frame-Options X-Sendfile X-SourceMap hookloom- \
        event-id \
    ";

    #[test]
    fn a_bin_speaks_for_itself_only() {
        for name in REFUSED.split_whitespace().chain([""]) {
            for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                assert!(!may_answer(&name), "{name}");
                let headers = BTreeMap::from([(name.clone(), "1".to_owned())]);
                let reply = Reply { headers, ..Reply::default() };
                let faults = BinSettings { reply, ..BinSettings::default() }.check();
                assert!(faults.len() == 1 && faults[0].1.contains(&format!("{name:?}")), "{faults:?}");
            }
        }
        assert!(["Content-Type", "retry-after", "X-Request-Id", "X-Bin-Anything"].into_iter().all(may_answer));
        let headers = BTreeMap::from([("X-Bin-A".to_owned(), "a\r\nset-cookie: b".to_owned())]);
        let reply = Reply { headers, ..Reply::default() };
        assert_eq!(BinSettings { reply, ..BinSettings::default() }.check().len(), 1);
    }

    #[test]
    fn faults_are_reported_by_position() {
        assert!(BinSettings::default().check().is_empty());
        let reply = Reply { statuses: vec![99], delay_ms: 40_000, ..Reply::default() };
        let bin = BinSettings { colour: 8, ttl_s: 1, requests_max: 0, reply, ..BinSettings::default() };
        let places: Vec<_> = bin.check().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["/colour", "/ttl_s", "/requests_max", "/reply/statuses", "/reply/delay_ms"]);
    }
}
