//! Public address of this host: an origin and, if a proxy serves the host below it, a path prefix.
//!
//! # Guarantees
//! The prefix has only characters that need no escapes in a URL, in a header or in a page, and does not end with a slash.
//!
//! Pure.

use super::UrlPath;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use url::{Host, Url};

/// Address of this host, such as `https://hooks.example.com/hookloom`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicUrl {
    /// Scheme, host and, unless it is the default of the scheme, port, as browsers write them in `Origin`.
    origin: String,
    /// Path prefix, which begins with a slash and does not end with one. Empty: the host is at the root.
    prefix: String,
}

impl PublicUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// A sentence with the broken rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let no_url = |why: &dyn std::fmt::Display| format!("{text:?} is not the URL of a host: {why}");
        let url = Url::parse(text).map_err(|error| no_url(&error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(no_url(&"it begins with https:// or http://"));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(no_url(&"it has no user name, password, query or fragment"));
        }
        let prefix = url.path().trim_end_matches('/');
        if prefix.contains("//") || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte))
        {
            return Err(no_url(&"its path is made of letters, digits, -, ., _ and ~ between single slashes"));
        }
        Ok(PublicUrl { origin: url.origin().ascii_serialization(), prefix: prefix.to_owned() })
    }

    /// Returns the address of a listening socket, as a client on the same machine reaches it: a wildcard is replaced by loopback.
    pub fn of_listener(mut address: SocketAddr) -> Self {
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip([127, 0, 0, 1].into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip([0, 0, 0, 0, 0, 0, 0, 1].into()),
            _ => {}
        }
        PublicUrl { origin: format!("http://{address}"), prefix: String::new() }
    }

    /// Returns the path prefix. Empty: the host is at the root.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the first segment of the path prefix.
    pub fn first_segment(&self) -> Option<&str> {
        self.prefix.split('/').nth(1)
    }

    /// Returns the URL of a path of this host.
    pub fn link(&self, path: &UrlPath) -> String {
        format!("{self}{path}")
    }

    /// Returns true if an `Origin` header (RFC 6454) names the origin of this address.
    pub fn is_origin(&self, header: &str) -> bool {
        Url::parse(header).is_ok_and(|url| url.origin().ascii_serialization() == self.origin)
    }

    /// Returns true if clients reach the host by TLS.
    pub fn is_https(&self) -> bool {
        self.origin.starts_with("https:")
    }

    /// Returns true if no client can open the address, because its host is a wildcard such as `0.0.0.0`.
    pub fn is_wildcard(&self) -> bool {
        let host = Url::parse(&self.origin).ok().and_then(|url| url.host().map(|host| host.to_owned()));
        match host {
            Some(Host::Ipv4(ip)) => ip.is_unspecified(),
            Some(Host::Ipv6(ip)) => ip.is_unspecified(),
            Some(Host::Domain(_)) | None => false,
        }
    }
}

impl std::fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        PublicUrl::parse(&text)
    }
}

impl From<PublicUrl> for String {
    fn from(url: PublicUrl) -> Self {
        url.to_string()
    }
}

/// Serialization of an optional address as a setting that may be empty.
pub mod or_empty {
    use super::PublicUrl;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Serializes an address, or an empty text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(url: &Option<PublicUrl>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&url.as_ref().map(ToString::to_string).unwrap_or_default())
    }

    /// Parses an address, or an empty text.
    ///
    /// # Errors
    /// A sentence with the rule that the address breaks.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PublicUrl>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Ok(None) } else { PublicUrl::parse(&text).map(Some).map_err(D::Error::custom) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str, prefix: &str) {
        let url = PublicUrl::parse(text).expect(text);
        assert_eq!((url.to_string().as_str(), url.prefix()), (shown, prefix), "{text}");
    }

    #[test]
    fn addresses_are_read_as_browsers_write_them() {
        check("https://hooks.example.com", "https://hooks.example.com", "");
        check("https://Hooks.Example.com:443/", "https://hooks.example.com", "");
        check("http://127.0.0.1:8420/", "http://127.0.0.1:8420", "");
        check("https://example.com/hookloom/", "https://example.com/hookloom", "/hookloom");
        check("https://example.com/a/../crm/hooks", "https://example.com/crm/hooks", "/crm/hooks");
        check("https://bücher.example", "https://xn--bcher-kva.example", "");
        check("http://[::1]:8420", "http://[::1]:8420", "");
        for wrong in [
            "",
            "hooks.example.com",
            "ftp://example.com",
            "https://user@example.com",
            "https://example.com/?x=1",
            "https://example.com/#x",
            "https://example.com/a//b",
            "https://example.com/a b",
            "https://example.com/a&b",
            "https://example.com/a'b",
        ] {
            assert!(PublicUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn links_keep_the_prefix() {
        fn link(base: &str) -> String {
            PublicUrl::parse(base).expect(base).link(&UrlPath::root().then("docs"))
        }
        assert_eq!(link("https://example.com/hookloom/"), "https://example.com/hookloom/docs");
        assert_eq!(link("https://example.com"), "https://example.com/docs");
    }

    #[test]
    fn an_origin_is_compared_whole() {
        let url = PublicUrl::parse("https://hooks.example.com/hookloom").expect("an address");
        assert!(url.is_origin("https://hooks.example.com") && url.is_origin("https://hooks.example.com:443"));
        for other in [
            "null",
            "",
            "http://hooks.example.com",
            "https://hooks.example.com:8443",
            "https://hooks.example.com.evil.example",
        ] {
            assert!(!url.is_origin(other), "{other}");
        }
    }

    #[test]
    fn a_wildcard_is_no_address_to_open() {
        fn listener(text: &str) -> String {
            PublicUrl::of_listener(text.parse().expect(text)).to_string()
        }
        assert_eq!(listener("0.0.0.0:8420"), "http://127.0.0.1:8420");
        assert_eq!(listener("[::]:8420"), "http://[::1]:8420");
        assert_eq!(listener("192.0.2.1:80"), "http://192.0.2.1:80");
        fn is_wildcard(text: &str) -> bool {
            PublicUrl::parse(text).expect(text).is_wildcard()
        }
        assert!(is_wildcard("http://0.0.0.0:8420") && is_wildcard("http://[::]/"));
        assert!(!is_wildcard("http://127.0.0.1") && !is_wildcard("https://example.com"));
    }
}
