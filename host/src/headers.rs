//! The rule for headers that an owner or a plugin may add to a request.
//!
//! Refused: what HTTP itself needs (RFC 9110, RFC 9112), what the signature needs, what would speak for this host, and
//! what cloud metadata services ask for as a proof of intent. Values hold visible ASCII, blanks and tabs, so that no
//! line can be smuggled in. Pure.

use crate::subscription::Secret;
use http::{HeaderName, HeaderValue};
use std::collections::BTreeMap;

const REFUSED: [&str; 20] = [
    "host",
    "content-length",
    "content-encoding",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "metadata",
    "metadata-flavor",
    "x-aws-ec2-metadata-token",
];

const PREFIXES_REFUSED: [&str; 4] = ["webhook-", "hookloom-", "x-google-", "x-aws-ec2-metadata"];

/// Checks a header and turns it into what the client sends.
pub fn check_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed: HeaderName = name.parse().map_err(|_| format!("{name:?} is no header name"))?;
    let refused =
        REFUSED.contains(&parsed.as_str()) || PREFIXES_REFUSED.iter().any(|it| parsed.as_str().starts_with(it));
    if refused {
        return Err(format!("the header {:?} is the host's own and cannot be set", parsed.as_str()));
    }
    let visible = value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    let value = HeaderValue::from_str(value).ok().filter(|_| visible);
    Ok((
        parsed,
        value.ok_or_else(|| format!("the value of the header {name:?} holds a byte that is not visible ASCII"))?,
    ))
}

/// Puts secrets in the place of `{{secret:NAME}}` in an owner's header value. The filled value is sent and never stored.
pub fn fill_secrets(value: &str, secrets: &BTreeMap<String, Secret>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("{{secret:") {
        let (name, after) = after.split_once("}}").ok_or("a {{secret:…}} does not end in }}")?;
        let secret = secrets.get(name).ok_or_else(|| format!("there is no secret {name:?} in this subscription"))?;
        let text = std::str::from_utf8(&secret.0).map_err(|_| format!("the secret {name:?} is not text"))?;
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
    fn what_may_be_set() {
        #[track_caller]
        fn check(name: &str, value: &str, expected: Result<(), &str>) {
            assert_eq!(check_header(name, value).map(drop), expected.map_err(str::to_owned), "{name}: {value}");
        }
        check("Authorization", "Bearer x", Ok(()));
        check("X-Tenant", "a\tb", Ok(()));
        check("Host", "evil", Err("the header \"host\" is the host's own and cannot be set"));
        check("Webhook-Signature", "v1,", Err("the header \"webhook-signature\" is the host's own and cannot be set"));
        check("Metadata-Flavor", "Google", Err("the header \"metadata-flavor\" is the host's own and cannot be set"));
        for own in [
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
            check(own, "1", Err(&format!("the header {own:?} is the host's own and cannot be set")));
        }
        check("X-A\r\nB", "1", Err("\"X-A\\r\\nB\" is no header name"));
        check("", "1", Err("\"\" is no header name"));
        for smuggled in ["a\r\nHost: b", "a\0", "é", "a\nb", "\u{7f}"] {
            check("X-A", smuggled, Err("the value of the header \"X-A\" holds a byte that is not visible ASCII"));
        }
    }

    #[test]
    fn secrets_are_filled_in() {
        let secrets = BTreeMap::from([("key".to_owned(), Secret(b"k1".to_vec()))]);
        let fill = |value: &str| fill_secrets(value, &secrets);
        assert_eq!(fill("plain"), Ok("plain".into()));
        assert_eq!(fill("Bearer {{secret:key}}, {{secret:key}}!"), Ok("Bearer k1, k1!".into()));
        assert_eq!(fill("{{secret:none}}"), Err("there is no secret \"none\" in this subscription".into()));
        assert_eq!(fill("{{secret:key"), Err("a {{secret:…}} does not end in }}".into()));
    }
}
