//! Portal: links and sessions of a platform's customers, each for one tenant, and the origins of the platform's own pages.
//!
//! # Guarantees
//! - A session acts as a key of its tenant only ([`PortalSession::key`]): with the scope `read`, or with `manage`.
//! - A link leads back to an allowed origin only ([`return_url`]).
//!
//! Pure; does not know HTTP or storage.

use crate::access::{ApiKey, Scope};
use crate::ids::TenantId;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use url::{Host, Url};
use uuid::Uuid;

/// Prefix of the token of a portal link.
pub const PORTAL_LINK_PREFIX: &str = "hlp_";

/// Prefix of the cookie of a portal session.
pub const PORTAL_SESSION_PREFIX: &str = "hlps_";

/// Lifetime of a link that is not used, in seconds: default and range.
pub const LINK_S: u32 = 600;
/// Range of [`LINK_S`].
pub const LINK_S_RANGE: RangeInclusive<u32> = 10..=86_400;

/// Lifetime of a session, in seconds: default and range.
pub const SESSION_S: u32 = 3_600;
/// Range of [`SESSION_S`].
pub const SESSION_S_RANGE: RangeInclusive<u32> = 60..=86_400;

/// Maximum length of the address that a session leads back to, in bytes.
const RETURN_URL_BYTES_MAX: usize = 2_000;

/// Link that signs its first user in to the portal of a tenant, without its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalLink {
    /// Id of the link and of its session.
    pub id: Uuid,
    /// Tenant of the portal.
    pub tenant: TenantId,
    /// Lifetime of the session, in seconds.
    pub session_s: u32,
    /// True if the session may change nothing.
    pub is_read_only: bool,
    /// Page of the platform that the portal leads back to.
    pub return_url: Option<String>,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Time from which the link does not work, in milliseconds since the epoch.
    pub expires_at_ms: i64,
}

impl PortalLink {
    /// Returns the session that begins with the use of this link.
    pub fn opened(&self, csrf: String, now_ms: i64) -> PortalSession {
        PortalSession {
            id: self.id,
            tenant: self.tenant.clone(),
            csrf,
            is_read_only: self.is_read_only,
            return_url: self.return_url.clone(),
            began_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(i64::from(self.session_s) * 1_000),
        }
    }

    /// Returns the name by which people recognise the link and its session in the log of changes.
    pub fn shown(&self) -> String {
        key_of(self.id, &self.tenant, Scope::Read).shown()
    }
}

/// Session of a customer in the portal of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalSession {
    /// Id of the link that the session began with.
    pub id: Uuid,
    /// Tenant of the portal.
    pub tenant: TenantId,
    /// CSRF token of every form.
    pub csrf: String,
    /// True if the session may change nothing.
    pub is_read_only: bool,
    /// Page of the platform that the portal leads back to.
    pub return_url: Option<String>,
    /// Time of the sign-in, in milliseconds since the epoch.
    pub began_at_ms: i64,
    /// Time of expiry, in milliseconds since the epoch.
    pub expires_at_ms: i64,
}

impl PortalSession {
    /// Returns what the session may do, as a key that is stored nowhere.
    pub fn key(&self) -> ApiKey {
        let scope = if self.is_read_only { Scope::Read } else { Scope::Manage };
        ApiKey { created_at_ms: self.began_at_ms, ..key_of(self.id, &self.tenant, scope) }
    }
}

fn key_of(id: Uuid, tenant: &TenantId, scope: Scope) -> ApiKey {
    let text = id.simple().to_string();
    ApiKey {
        id,
        tenant: Some(tenant.clone()),
        scopes: vec![scope],
        // The random end of the id, because its beginning is the time.
        hint: text[text.len() - 8..].to_owned(),
        label: "portal session".to_owned(),
        created_at_ms: 0,
    }
}

/// Numbers of links and sessions that were ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedPortal {
    /// Links that were not used.
    pub links: u64,
    /// Sessions that had not expired.
    pub sessions: u64,
}

/// Origin of a platform's pages, such as `https://app.example.com`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortalOrigin(String);

impl PortalOrigin {
    /// Parses an origin: https, or http on the browser's own machine, without a path.
    ///
    /// # Errors
    /// A sentence with the broken rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let no_origin = |why: &dyn std::fmt::Display| format!("{text:?} is not the origin of pages: {why}");
        let url = Url::parse(text).map_err(|error| no_origin(&error))?;
        let is_bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !is_bare {
            return Err(no_origin(&"it has no path, user name, query or fragment"));
        }
        let is_local = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            // The grammar of Content-Security-Policy has no IPv6 addresses (CSP 3, host-source).
            Some(Host::Ipv6(_)) | None => return Err(no_origin(&"it has a host name or an IPv4 address")),
        };
        match url.scheme() {
            "https" => {}
            "http" if is_local => {}
            _ => return Err(no_origin(&"it begins with https://, or with http:// on 127.0.0.1 or localhost")),
        }
        if url.host_str().is_some_and(|host| host.contains('*')) {
            return Err(no_origin(&"it names one host, without *"));
        }
        Ok(PortalOrigin(url.origin().ascii_serialization()))
    }

    /// Returns the origin as browsers write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PortalOrigin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        PortalOrigin::parse(&text)
    }
}

impl From<PortalOrigin> for String {
    fn from(origin: PortalOrigin) -> Self {
        origin.0
    }
}

/// Checks an address that the portal leads back to, and returns it as browsers write it.
///
/// # Errors
/// A sentence with the broken rule.
pub fn return_url(text: &str, allowed: &[PortalOrigin]) -> Result<String, String> {
    if text.len() > RETURN_URL_BYTES_MAX {
        return Err(format!("at most {RETURN_URL_BYTES_MAX} bytes"));
    }
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or a password, which would be shown".to_owned());
    }
    let origin = url.origin().ascii_serialization();
    if allowed.iter().any(|one| one.as_str() == origin) {
        return Ok(url.into());
    }
    Err(format!("leads to {origin}, which the setting portal_origins does not name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_one_host_by_tls() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            let found = PortalOrigin::parse(text);
            match expected {
                Ok(origin) => assert_eq!(found.as_ref().map(PortalOrigin::as_str), Ok(origin)),
                Err(part) => assert!(found.as_ref().is_err_and(|error| error.contains(part)), "{text}: {found:?}"),
            }
        }
        check("https://app.example.com", Ok("https://app.example.com"));
        check("https://App.Example.com:443/", Ok("https://app.example.com"));
        check("https://app.example.com:8443", Ok("https://app.example.com:8443"));
        check("http://127.0.0.1:3000", Ok("http://127.0.0.1:3000"));
        check("http://localhost:3000", Ok("http://localhost:3000"));
        check("http://app.example.com", Err("it begins with https://"));
        check("https://app.example.com/portal", Err("it has no path"));
        check("https://app.example.com?x", Err("it has no path"));
        check("https://user@app.example.com", Err("user name"));
        check("https://[::1]", Err("IPv4"));
        check("https://*.example.com", Err(""));
        check("*", Err("is not the origin of pages"));
        check("javascript:alert(1)", Err(""));
        check("https://a.example; script-src *", Err(""));
    }

    #[test]
    fn a_link_leads_back_to_an_allowed_origin_only() {
        let allowed = [PortalOrigin::parse("https://app.example.com").expect("an origin")];
        #[track_caller]
        fn check(text: &str, allowed: &[PortalOrigin], expected: Option<&str>) {
            assert_eq!(return_url(text, allowed).ok().as_deref(), expected, "{text}");
        }
        check("https://app.example.com/settings?tab=1", &allowed, Some("https://app.example.com/settings?tab=1"));
        check("https://app.example.com", &allowed, Some("https://app.example.com/"));
        check("https://app.example.com:444/", &allowed, None);
        check("http://app.example.com/", &allowed, None);
        check("https://app.example.com.evil.example/", &allowed, None);
        check("https://app.example.com@evil.example/", &allowed, None);
        check("https://me@app.example.com/", &allowed, None);
        check("javascript:alert(1)", &allowed, None);
        check("/settings", &allowed, None);
        check("https://app.example.com/", &[], None);
        check(&format!("https://app.example.com/{}", "x".repeat(2_000)), &allowed, None);
    }

    #[test]
    fn a_session_is_a_key_of_its_tenant() {
        let link = PortalLink {
            id: Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            tenant: TenantId::parse("acme").expect("a tenant"),
            session_s: 60,
            is_read_only: true,
            return_url: None,
            created_at_ms: 1,
            expires_at_ms: 2,
        };
        let session = link.opened("csrf".to_owned(), 5);
        assert_eq!(session.expires_at_ms, 60_005);
        let key = session.key();
        assert_eq!((key.shown(), link.shown()), ("portal session (89abcdef…)".to_owned(), key.shown()));
        assert!(!key.is_admin());
        let other = TenantId::parse("other").expect("a tenant");
        fn may(key: &ApiKey, tenant: &TenantId) -> [bool; 3] {
            Scope::ALL.map(|scope| key.allows(tenant, scope))
        }
        assert_eq!(may(&key, &link.tenant), [false, true, false]);
        assert_eq!(may(&key, &other), [false; 3]);
        let changing = PortalSession { is_read_only: false, ..session };
        assert_eq!(may(&changing.key(), &link.tenant), [true; 3]);
        assert_eq!(may(&changing.key(), &other), [false; 3]);
    }
}
