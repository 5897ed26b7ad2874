//! Paths on this host, for links, redirects and the client of the command line.
//!
//! # Guarantees
//! A [`UrlPath`] consists of segments that are percent-encoded one by one, so no name can add a segment, a query or a host. A
//! segment is a literal in the source or a checked type ([`Segment`]); other texts do not compile. The values `.` and `..`, which
//! encoding does not neutralise (WHATWG URL, "double-dot URL path segment"), are not possible in these types. A whole path from
//! outside goes through [`UrlPath::local`].
//!
//! Pure; does not know which routes exist.

mod public_url;

pub use public_url::{PublicUrl, or_empty};

use crate::ids::{BinId, DeliveryId, EventId, PluginName, SubscriptionId, TenantId, VersionId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;
use url::Url;
use url::form_urlencoded::byte_serialize;
use uuid::Uuid;

/// Path of this host, with an optional query. Begins with exactly one slash, and is visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPath {
    text: String,
    has_query: bool,
}

/// Characters that RFC 3986 does not call unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Value that may be one segment of a path.
pub trait Segment {
    /// Returns the segment as text, before it is encoded.
    fn text(&self) -> String;
}

impl Segment for &'static str {
    fn text(&self) -> String {
        (*self).to_owned()
    }
}

/// Declares types whose text is valid as a segment.
macro_rules! segments {
    ($($name:ty),*) => {
        $(impl Segment for &$name {
            fn text(&self) -> String {
                self.to_string()
            }
        })*
    };
}

segments!(TenantId, PluginName, BinId, VersionId, EventId, DeliveryId, SubscriptionId, Uuid, u8);

impl UrlPath {
    /// Returns the root, `/`.
    pub fn root() -> Self {
        UrlPath { text: "/".to_owned(), has_query: false }
    }

    /// Returns the REST API of a tenant, `/v1/tenants/{t}`.
    pub fn api_of(tenant: &TenantId) -> Self {
        UrlPath::root().then("v1").then("tenants").then(tenant)
    }

    /// Returns the pages of a tenant, `/t/{t}`.
    pub fn pages_of(tenant: &TenantId) -> Self {
        UrlPath::root().then("t").then(tenant)
    }

    /// Returns the URL of a bin, `/bins/{id}/`.
    pub fn of_bin(id: &BinId) -> Self {
        UrlPath::root().then("bins").then(id).then("")
    }

    /// Returns the path of an intake token, `/in/{token}`. The token must be a text that this host generated.
    pub fn of_intake(token: &str) -> Self {
        let token = utf8_percent_encode(token, ENCODED);
        UrlPath { text: format!("/in/{token}"), has_query: false }
    }

    /// Appends a segment. Must not follow [`UrlPath::query`].
    pub fn then(mut self, segment: impl Segment) -> Self {
        debug_assert!(!self.has_query, "a segment after the query");
        if self.text != "/" {
            self.text.push('/');
        }
        self.text.extend(utf8_percent_encode(&segment.text(), ENCODED));
        self
    }

    /// Appends a parameter to the query, encoded as in forms.
    pub fn query(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.text.extend(byte_serialize(name.as_bytes()));
        self.text.push('=');
        self.text.extend(byte_serialize(value.to_string().as_bytes()));
        self.has_query = true;
        self
    }

    /// Parses a path from outside (the destination after a form, an address in an answer), as a browser would resolve it. None: it
    /// leads to another host, or might, like `//evil.example`, a backslash, or a control character.
    pub fn local(text: &str) -> Option<Self> {
        if !text.starts_with('/')
            || text.starts_with("//")
            || text.contains(|one: char| one == '\\' || one.is_control())
        {
            return None;
        }
        let here = Url::parse("http://here.invalid/").ok()?;
        let resolved = here.join(text).ok().filter(|url| url.origin() == here.origin())?;
        // Resolved dots may leave two slashes at the beginning, which would name a host in a `Location`.
        let path = Some(resolved.path()).filter(|path| !path.starts_with("//"))?;
        Some(match resolved.query() {
            Some(query) => UrlPath { text: format!("{path}?{query}"), has_query: true },
            None => UrlPath { text: path.to_owned(), has_query: false },
        })
    }

    /// Returns the text, as in a URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for UrlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_segments() {
        let tenant = TenantId::parse("acme").expect("a tenant");
        let plugin = PluginName::parse("redact").expect("a plugin");
        let path = UrlPath::api_of(&tenant).then("plugins").then(&plugin);
        assert_eq!(path.as_str(), "/v1/tenants/acme/plugins/redact");
        assert_eq!(
            path.query("gate", 5).query("a&b", "c d/?#é").as_str(),
            "/v1/tenants/acme/plugins/redact?gate=5&a%26b=c+d%2F%3F%23%C3%A9"
        );
        assert_eq!(UrlPath::root().then("a/b?c#d%").as_str(), "/a%2Fb%3Fc%23d%25");
        // A value that was created without the check stays one segment.
        let rogue = TenantId("../v?x#y".into());
        assert_eq!(UrlPath::pages_of(&rogue).then("bins").as_str(), "/t/..%2Fv%3Fx%23y/bins");
        let bin = BinId::parse("A_-9").expect("a bin");
        assert_eq!(UrlPath::of_bin(&bin).as_str(), "/bins/A_-9/");
    }

    #[test]
    fn a_way_back_leads_to_this_host() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(UrlPath::local(text).map(|path| path.to_string()).as_deref(), expected, "{text:?}");
        }
        check("/", Some("/"));
        check("/t/default?span=day", Some("/t/default?span=day"));
        check("/t/a/../b", Some("/t/b"));
        check("/in/hlt_abc", Some("/in/hlt_abc"));
        for elsewhere in [
            "",
            "x",
            "//evil.example",
            "/\t/evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/..//evil.example",
            "/.//evil.example",
            "/a/..//evil.example",
            "/%2e%2e//evil.example",
            "///evil.example",
            " //evil.example",
        ] {
            check(elsewhere, None);
        }
    }
}
