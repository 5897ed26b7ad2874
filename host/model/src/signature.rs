//! Signatures of webhooks by Standard Webhooks 1.0.0: HMAC-SHA256 (`v1`, key text `whsec_`) and ed25519 (`v1a`, `whsk_`).
//!
//! # Theory of operation
//! The signed text is `{webhook-id}.{webhook-timestamp}.{body}` with the exact bytes of the request. It is signed after the plugin
//! and again at each attempt, because the timestamp is that of the attempt. The id has no dot, so that two messages cannot have the
//! same signed text. With several secrets (rotation), the header has one signature for each, separated by blanks.
//!
//! Pure. Never prints a key.

use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::Signer as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq as _;

/// Key that signs webhooks.
#[derive(Clone)]
pub enum SigningSecret {
    /// Symmetric key of 24 to 64 bytes.
    Hmac(Secret),
    /// Asymmetric key pair.
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

/// Reason why a text is not a signing secret. Never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The text begins with neither `whsec_` nor `whsk_`.
    #[error("a signing secret begins with whsec_ (HMAC-SHA256) or whsk_ (ed25519)")]
    Prefix,
    /// The text is not base64.
    #[error("what follows the prefix of a signing secret is standard base64")]
    Base64,
    /// The key is too short or too long.
    #[error("an HMAC signing secret has 24 to 64 bytes")]
    HmacLength,
    /// The bytes are not a key pair.
    #[error("an ed25519 signing secret has 64 bytes: the 32-byte seed and its public key")]
    KeyPair,
}

/// Number of random bytes of a new secret, between the 24 and 64 that the specification requires.
const NEW_SECRET_BYTES: usize = 32;

impl SigningSecret {
    /// Creates a symmetric key.
    pub fn generate() -> Self {
        SigningSecret::Hmac(rand::random::<[u8; NEW_SECRET_BYTES]>().to_vec().into())
    }

    /// Creates a key pair.
    pub fn generate_pair() -> Self {
        SigningSecret::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&rand::random())))
    }

    /// Returns the version prefix of its signatures: `v1` or `v1a`.
    pub fn scheme(&self) -> &'static str {
        match self {
            SigningSecret::Hmac(_) => "v1",
            SigningSecret::Ed25519(_) => "v1a",
        }
    }

    /// Returns the text of the public key. None for a symmetric key.
    pub fn public_key(&self) -> Option<String> {
        match self {
            SigningSecret::Hmac(_) => None,
            SigningSecret::Ed25519(key) => Some(format!("whpk_{}", BASE64.encode(key.verifying_key().to_bytes()))),
        }
    }

    /// Parses the text of a key.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if let Some(key) = text.strip_prefix("whsec_") {
            let key = BASE64.decode(key).map_err(|_| SecretError::Base64)?;
            return (24..=64)
                .contains(&key.len())
                .then(|| SigningSecret::Hmac(key.into()))
                .ok_or(SecretError::HmacLength);
        }
        let pair = text.strip_prefix("whsk_").ok_or(SecretError::Prefix)?;
        let pair = BASE64.decode(pair).map_err(|_| SecretError::Base64)?;
        let pair: [u8; 64] = pair.try_into().map_err(|_| SecretError::KeyPair)?;
        let key = ed25519_dalek::SigningKey::from_keypair_bytes(&pair).map_err(|_| SecretError::KeyPair)?;
        Ok(SigningSecret::Ed25519(Box::new(key)))
    }

    /// Returns the text of the key, to be shown once or sealed.
    pub fn reveal(&self) -> String {
        match self {
            SigningSecret::Hmac(key) => format!("whsec_{}", BASE64.encode(key.expose())),
            SigningSecret::Ed25519(key) => format!("whsk_{}", BASE64.encode(key.to_keypair_bytes())),
        }
    }

    fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp_s}.");
        match self {
            SigningSecret::Hmac(key) => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of every length");
                mac.update(head.as_bytes());
                mac.update(body);
                format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
            }
            SigningSecret::Ed25519(key) => {
                let signature = key.sign(&[head.as_bytes(), body].concat());
                format!("v1a,{}", BASE64.encode(signature.to_bytes()))
            }
        }
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SigningSecret::Hmac(_) => "SigningSecret::Hmac(…)",
            SigningSecret::Ed25519(_) => "SigningSecret::Ed25519(…)",
        })
    }
}

/// Secret that signs, until a time if it was rotated: during a rotation, the previous and the new secret sign.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// Secret of the key.
    pub secret: SigningSecret,
    /// Time at which the key stops signing, in milliseconds since the epoch.
    pub until_ms: Option<i64>,
}

impl SigningKey {
    /// Wraps a secret that signs until it is rotated.
    pub fn current(secret: SigningSecret) -> Self {
        SigningKey { secret, until_ms: None }
    }

    /// Returns true if the key still signs at this time.
    pub fn signs_at(&self, now_ms: i64) -> bool {
        self.until_ms.is_none_or(|until_ms| now_ms < until_ms)
    }
}

/// Returns the value of `webhook-signature` for an attempt at `now_ms`, whose `webhook-timestamp` is the same time in whole
/// seconds: one signature for each secret that signs at that time, newest first.
pub fn signature_header(keys: &[SigningKey], id: &str, now_ms: i64, body: &[u8]) -> String {
    debug_assert!(!id.contains('.'), "an id with a dot would make signed texts ambiguous");
    let signing = keys.iter().filter(|key| key.signs_at(now_ms));
    let signatures: Vec<String> = signing.map(|key| key.secret.sign(id, now_ms / 1_000, body)).collect();
    signatures.join(" ")
}

/// Returns true if a header has a signature by one of these keys, made at `timestamp_s`.
pub fn verifies(keys: &[SigningKey], id: &str, timestamp_s: i64, body: &[u8], header: &str) -> bool {
    let signing = keys.iter().filter(|key| key.signs_at(timestamp_s.saturating_mul(1_000)));
    let mut made = signing.map(|key| key.secret.sign(id, timestamp_s, body));
    made.any(|signature| header.split(' ').any(|one| bool::from(one.as_bytes().ct_eq(signature.as_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the three vectors: the specification's HMAC examples, and ed25519 over the second message.
    #[test]
    fn the_published_vectors() {
        #[track_caller]
        fn check(secret: &str, id: &str, timestamp_s: i64, body: &str, expected: &str) {
            let secret = SigningSecret::parse(secret).expect("a signing secret");
            assert_eq!(
                signature_header(&[SigningKey::current(secret)], id, timestamp_s * 1_000, body.as_bytes()),
                expected
            );
        }
        check(
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        );
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let timestamp_s = 1_614_265_330;
        let body = r#"{"test": 2432232314}"#;
        check(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            id,
            timestamp_s,
            body,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        );
        check(
            "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
            id,
            timestamp_s,
            body,
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        );
    }

    #[test]
    fn signed_requests_verify_and_others_do_not() {
        for secret in [SigningSecret::generate(), SigningSecret::generate_pair()] {
            let keys = [SigningKey::current(secret)];
            let header = format!("v1,other {}", signature_header(&keys, "id", 7_000, b"body"));
            assert!(verifies(&keys, "id", 7, b"body", &header));
            assert!(!verifies(&keys, "id", 8, b"body", &header));
            assert!(!verifies(&keys, "id", 7, b"Body", &header));
            assert!(!verifies(&keys, "id", 7, b"body", ""));
        }
    }

    #[test]
    fn several_secrets_sign_in_one_header() {
        let previous = SigningKey { secret: SigningSecret::generate_pair(), until_ms: Some(1_500) };
        let keys = [SigningKey::current(SigningSecret::generate()), previous];
        let schemes = |now_ms| {
            let header = signature_header(&keys, "id", now_ms, b"body");
            header
                .split(' ')
                .map(|signature| signature.split(',').next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(schemes(1_499), ["v1", "v1a"]);
        assert_eq!(schemes(1_500), ["v1"], "the previous key has stopped signing");
    }

    #[test]
    fn a_text_form_comes_back_and_a_wrong_one_says_why() {
        let secret = SigningSecret::generate();
        let again = SigningSecret::parse(&secret.reveal()).expect("its text form");
        assert_eq!(again.reveal(), secret.reveal());
        assert!(!format!("{secret:?}").contains(&secret.reveal()[6..]));
        fn refused(text: &str) -> SecretError {
            SigningSecret::parse(text).expect_err("no secret")
        }
        assert_eq!(refused("secret"), SecretError::Prefix);
        assert_eq!(refused("whsec_%"), SecretError::Base64);
        assert_eq!(refused("whsec_AAAA"), SecretError::HmacLength);
        assert_eq!(refused("whsk_AAAA"), SecretError::KeyPair);
    }

    #[test]
    fn the_published_library_accepts_our_signature() {
        let secret = SigningSecret::generate();
        let timestamp_s = crate::clock::now_ms() / 1_000;
        let mut headers = http::HeaderMap::new();
        let mut put = |name: &'static str, value: String| headers.insert(name, value.parse().expect("a header value"));
        put("webhook-id", "id-1".into());
        put("webhook-timestamp", timestamp_s.to_string());
        put(
            "webhook-signature",
            signature_header(&[SigningKey::current(secret.clone())], "id-1", timestamp_s * 1_000, b"{}"),
        );
        let verifier = standardwebhooks::Webhook::new(&secret.reveal()).expect("a secret");
        verifier.verify(b"{}", &headers).expect("a signature the library accepts");
        verifier.verify(b"{ }", &headers).expect_err("another body");
    }
}
