//! Rules for headers that an owner or a plugin may add to a request.
//!
//! # Guarantees
//! - Nobody can set headers that frame a message (RFC 9110, RFC 9112), that the signature covers, that speak for this host, or that
//!   metadata services of clouds take as a proof of intent.
//! - A plugin, and a request that is sent again, also cannot set headers that receivers believe only from their proxy: a client's
//!   address, another path or method, an identity. An owner can, for the owner's endpoint.
//! - Names are compared as CGI and its successors (WSGI, Rack, PHP) do, which map every character that is neither a letter nor a
//!   digit to the same character (RFC 3875 section 4.1.18): `Webhook_Signature` is `Webhook-Signature`.
//! - A value has only visible ASCII, blanks and tabs, so that it cannot contain another line.
//!
//! Pure.

use crate::secret::Secret;
use http::{HeaderName, HeaderValue};
use std::collections::BTreeMap;

/// Author of a header, on whom the allowed names depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderAuthor {
    /// Owner of a subscription, who is responsible for its endpoint.
    Owner,
    /// Plugin, or sender of a recorded request that is sent again.
    Untrusted,
}

/// Names, and prefixes of names, which end in `-`. Both in the form that [`folded`] returns.
type Rules = &'static [&'static str];

/// Headers that nobody can set.
const REFUSED: Rules = &[
    // Framing and hop-by-hop headers.
    "host",
    "content-length",
    "content-encoding",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "expect",
    "proxy",
    "proxy-",
    // Headers about the path of the request through proxies.
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    // The signature and this host.
    "webhook-",
    "hookloom-",
    // Metadata services of clouds.
    "metadata",
    "metadata-flavor",
    "x-metadata-token",
    "x-google-",
    "x-aws-ec2-metadata-",
    "x-aliyun-ecs-metadata-",
    "x-identity-header",
];

/// Headers that only an owner can set, because a receiver should believe them only from its proxy.
const REFUSED_UNTRUSTED: Rules = &[
    // The address, scheme and host of the client.
    "x-forwarded",
    "x-forwarded-",
    "x-real-ip",
    "x-real-port",
    "x-client-ip",
    "x-client-port",
    "client-ip",
    "x-cluster-client-ip",
    "x-remote-",
    "remote-",
    "true-client-ip",
    "cf-",
    "cdn-loop",
    "fastly-client-",
    "fly-client-ip",
    "x-appengine-",
    "x-azure-",
    "x-arr-",
    "x-envoy-",
    "x-originating-ip",
    "x-proxyuser-ip",
    "wl-proxy-",
    "front-end-https",
    "x-scheme",
    "x-url-scheme",
    "x-host",
    "early-data",
    // Another path or method than the request line's.
    "x-original-",
    "x-rewrite-",
    "x-accel-",
    "x-sendfile",
    "x-http-method",
    "x-http-method-",
    "x-method-override",
    // An identity that a proxy has established.
    "x-auth-request-",
    "x-authenticated-",
    "x-amzn-oidc-",
    "x-amzn-mtls-",
    "x-ms-client-principal",
    "x-ms-client-principal-",
    "x-goog-authenticated-",
    "x-goog-iap-",
    "ssl-client-",
    "x-ssl-client-",
    "x-tls-client-",
    "x-client-cert",
    "x-client-cert-",
    "x-client-dn",
    "x-client-verify",
    "client-cert",
    "client-cert-chain",
];

/// Headers with a value of the host, unless an owner or a plugin sets one. Under another spelling, both values would be sent.
const DEFAULTED: Rules = &["accept", "user-agent", "traceparent"];

/// Returns the form in which names are compared: every character but letters and digits is a dash. The name must be in lower case.
fn folded(name: &HeaderName) -> String {
    name.as_str().chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect()
}

fn applies(rules: Rules, folded: &str) -> bool {
    rules.iter().any(|rule| *rule == folded || (rule.ends_with('-') && folded.starts_with(rule)))
}

/// Checks a header, and converts it for the client.
pub fn check_header(name: &str, value: &str, author: HeaderAuthor) -> Result<(HeaderName, HeaderValue), String> {
    let parsed: HeaderName = name.parse().map_err(|_| format!("{name:?} is not a header name"))?;
    let folded = folded(&parsed);
    if parsed.as_str() != folded && applies(DEFAULTED, &folded) {
        return Err(format!(
            "the header {:?} is another spelling of {folded:?}, which the host sends as well; write {folded:?}",
            parsed.as_str()
        ));
    }
    if applies(REFUSED, &folded) {
        return Err(format!("the header {:?} is set by the host and cannot be changed", parsed.as_str()));
    }
    if author == HeaderAuthor::Untrusted && applies(REFUSED_UNTRUSTED, &folded) {
        return Err(format!(
            "receivers believe the header {:?} only from their proxies, so a plugin cannot set it; the owner can, in `headers` of the subscription",
            parsed.as_str()
        ));
    }
    let visible = value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    let value = HeaderValue::from_str(value).ok().filter(|_| visible);
    Ok((
        parsed,
        value.ok_or_else(|| format!("the value of the header {name:?} holds a byte that is not visible ASCII"))?,
    ))
}

/// Replaces `{{secret:NAME}}` in an owner's header value by secrets. The result is sent and never stored.
pub fn fill_secrets(value: &str, secrets: &BTreeMap<String, Secret>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("{{secret:") {
        let (name, after) = after.split_once("}}").ok_or("a {{secret:…}} does not end in }}")?;
        let secret = secrets.get(name).ok_or_else(|| format!("there is no secret {name:?} in this subscription"))?;
        let text = std::str::from_utf8(secret.expose()).map_err(|_| format!("the secret {name:?} is not text"))?;
        filled.push_str(before);
        filled.push_str(text);
        rest = after;
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_headers() {
        #[track_caller]
        fn check(name: &str, value: &str, expected: Result<(), &str>) {
            for author in [HeaderAuthor::Owner, HeaderAuthor::Untrusted] {
                let result = check_header(name, value, author).map(drop);
                assert_eq!(result, expected.map_err(str::to_owned), "{author:?} {name}: {value}");
            }
        }
        check("Authorization", "Bearer x", Ok(()));
        check("X-Tenant", "a\tb", Ok(()));
        check("Host", "evil", Err("the header \"host\" is set by the host and cannot be changed"));
        check(
            "Webhook-Signature",
            "v1,",
            Err("the header \"webhook-signature\" is set by the host and cannot be changed"),
        );
        check(
            "Metadata-Flavor",
            "Google",
            Err("the header \"metadata-flavor\" is set by the host and cannot be changed"),
        );
        check("Accept", "text/plain", Ok(()));
        check("User-Agent", "crm/1", Ok(()));
        check(
            "User_Agent",
            "crm/1",
            Err(
                "the header \"user_agent\" is another spelling of \"user-agent\", which the host sends as well; write \"user-agent\"",
            ),
        );
        for name in [
            "content-length",
            "transfer-encoding",
            "connection",
            "metadata",
            "x-aws-ec2-metadata-token",
            "x-google-metadata-request",
            "proxy-authorization",
            "webhook-id",
            "hookloom-event-id",
        ] {
            check(name, "1", Err(&format!("the header {name:?} is set by the host and cannot be changed")));
        }
        check("X-A\r\nB", "1", Err("\"X-A\\r\\nB\" is not a header name"));
        check("", "1", Err("\"\" is not a header name"));
        for smuggled in ["a\r\nHost: b", "a\0", "é", "a\nb", "\u{7f}"] {
            check("X-A", smuggled, Err("the value of the header \"X-A\" holds a byte that is not visible ASCII"));
        }
    }

    fn may(author: HeaderAuthor, name: &str) -> bool {
        check_header(name, "1", author).is_ok()
    }

    #[test]
    fn names_are_compared_as_proxies_and_cgi_do() {
        let nobodys = [
            "Webhook_Signature",
            "webhook.id",
            "WEBHOOK_TIMESTAMP",
            "Hookloom_Event_Id",
            "X_Forwarded_For",
            "X-Forwarded_Host",
            "Content_Length",
            "Content_Type",
            "Transfer_Encoding",
            "Transfer.Encoding",
            "Keep~Alive",
            "Proxy",
            "Proxy_Connection",
            "Proxy-Authenticate",
            "Metadata_Flavor",
            "X_AWS_EC2_Metadata_Token",
            "HTTP2-Settings",
            "Expect",
            "TE",
            "Trailer",
            "Upgrade",
            "Via",
            "Forwarded",
            "User_Agent",
        ];
        for name in nobodys {
            assert!(!may(HeaderAuthor::Owner, name), "an owner may not set {name}");
            assert!(!may(HeaderAuthor::Untrusted, name), "a plugin may not set {name}");
        }
    }

    #[test]
    fn headers_of_proxies_are_for_owners_only() {
        let owners = [
            "X-Real-IP",
            "X_Real_IP",
            "X-Forwarded-Proto",
            "X-Forwarded-Port",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-HTTP-Method",
            "X-HTTP-Method-Override",
            "X_Method_Override",
            "True-Client-IP",
            "CF-Connecting-IP",
            "X-Client-Cert",
            "X-Remote-User",
            "Remote_User",
            "SSL_Client_Verify",
        ];
        for name in owners {
            assert!(may(HeaderAuthor::Owner, name), "an owner may set {name}");
            assert!(!may(HeaderAuthor::Untrusted, name), "a plugin may not set {name}");
        }
        for name in ["X-Api-Key", "X_Tenant", "Authorization", "Idempotency-Key", "X-Signature", "User-Agent", "X-Hub"]
        {
            assert!(may(HeaderAuthor::Untrusted, name), "a plugin may set {name}");
        }
    }

    #[test]
    fn secrets_are_filled_in() {
        let secrets = BTreeMap::from([("key".to_owned(), Secret::from(b"k1".to_vec()))]);
        let fill = |value: &str| fill_secrets(value, &secrets);
        assert_eq!(fill("plain"), Ok("plain".into()));
        assert_eq!(fill("Bearer {{secret:key}}, {{secret:key}}!"), Ok("Bearer k1, k1!".into()));
        assert_eq!(fill("{{secret:none}}"), Err("there is no secret \"none\" in this subscription".into()));
        assert_eq!(fill("{{secret:key"), Err("a {{secret:…}} does not end in }}".into()));
    }
}
