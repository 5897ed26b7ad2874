//! Verifies webhooks that Hookloom signs, as <https://www.standardwebhooks.com> describes. Needs base64 0.23, hmac 0.13 and sha2 0.11.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::time::{SystemTime, UNIX_EPOCH};

const TOLERANCE_S: u64 = 300;

/// Returns true if the request was signed with the secret (`whsec_…`) within five minutes.
///
/// `header` finds the value of a header: with `http::HeaderMap`, `|name| headers.get(name)?.to_str().ok()`. The body is the raw bytes, before
/// they are parsed.
pub fn is_signed<'h>(secret: &str, header: impl Fn(&str) -> Option<&'h str>, body: &[u8]) -> bool {
    try_verify(secret, header, body).is_some()
}

fn try_verify<'h>(secret: &str, header: impl Fn(&str) -> Option<&'h str>, body: &[u8]) -> Option<()> {
    let timestamp = header("webhook-timestamp")?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    if now_s.abs_diff(timestamp.parse().ok()?) > TOLERANCE_S {
        return None;
    }
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{}.{timestamp}.", header("webhook-id")?).as_bytes());
    mac.update(body);
    // While the secret is rotated, there are several signatures. `verify_slice` takes the same time for each.
    let signatures = header("webhook-signature")?.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
    let mut decoded = signatures.filter_map(|text| STANDARD.decode(text).ok());
    decoded.any(|signature| mac.clone().verify_slice(&signature).is_ok()).then_some(())
}
