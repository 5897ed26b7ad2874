//! `hookloom receive`: a receiver to try things out, also used by the demo and the tests.
//!
//! It verifies with the published `standardwebhooks` library instead of the host's code, so that a webhook which it accepts is
//! accepted by every receiver that follows Standard Webhooks. That library supports only text, while the specification signs bytes.
//! Of a body that is not UTF-8, the library therefore checks everything except the signature, which is computed from the bytes
//! here.

use super::Failure;
use super::terminal::{self, Quoted, outln};
use crate::clock;
use crate::plural::counted;
use crate::signature::{SigningKey, SigningSecret, verifies};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Map, Value, json};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook, WebhookError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

/// Options of `receive`.
#[derive(Args)]
pub(super) struct ReceiveArgs {
    /// Address to listen on; port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: String,
    /// Signing secret (`whsec_…`) for the verification; several may be given. Without one, nothing is verified.
    #[arg(long, env = "HOOKLOOM_SIGNING_SECRET", hide_env_values = true, value_delimiter = ',')]
    secret: Vec<String>,
    /// Statuses of the answers, in turn; the last one is repeated.
    #[arg(long, value_name = "STATUS,…", value_delimiter = ',', default_value = "200")]
    respond: Vec<u16>,
    /// Print JSON, one request a line.
    #[arg(long)]
    json: bool,
}

struct Receiver {
    verifiers: Vec<Verifier>,
    statuses: Vec<StatusCode>,
    received: AtomicUsize,
    json: bool,
}

pub(super) async fn receive(args: ReceiveArgs) -> Result<(), Failure> {
    fn status(status: &u16) -> Result<StatusCode, String> {
        StatusCode::from_u16(*status).map_err(|_| format!("{status} is not an HTTP status"))
    }
    let receiver = Receiver {
        verifiers: args.secret.iter().map(|secret| Verifier::new(secret)).collect::<Result<_, _>>()?,
        statuses: args.respond.iter().map(status).collect::<Result<_, _>>()?,
        received: AtomicUsize::new(0),
        json: args.json,
    };
    let listener = TcpListener::bind(&args.listen).await.map_err(|error| format!("{}: {error}", args.listen))?;
    let address = listener.local_addr()?;
    if args.json {
        terminal::json(&json!({"listening": format!("http://{address}/")}))?;
    } else {
        outln!("listening on http://{}/", address);
    }
    // The body is bounded only by the settings of the sending host.
    let routes = Router::new().fallback(take).layer(DefaultBodyLimit::disable()).with_state(Arc::new(receiver));
    axum::serve(listener, routes).await?;
    Ok(())
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let count = receiver.received.fetch_add(1, Ordering::Relaxed);
    let status = receiver.statuses[count.min(receiver.statuses.len() - 1)];
    let verified = verify(&receiver.verifiers, &body, &headers);
    // Printed before the answer is sent, so that a reader of the output sees every answered request.
    if receiver.json {
        // Converting a value in memory to JSON cannot fail.
        let _ = terminal::json(&as_json(&uri, &headers, &body, &verified, status));
    } else {
        print(&method, &uri, &headers, &body, &verified, status);
    }
    (status, "")
}

/// Signing secret, as the published library reads it.
struct Verifier {
    library: Webhook,
    key: SigningKey,
}

impl Verifier {
    fn new(secret: &str) -> Result<Self, String> {
        fn unusable(error: &dyn std::error::Error) -> String {
            format!("a signing secret cannot be used: {error}")
        }
        let library = Webhook::new(secret).map_err(|error| unusable(&error))?;
        // As the library reads it: of any length, with or without its prefix.
        let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).map_err(|error| unusable(&error))?;
        Ok(Verifier { library, key: SigningKey::current(SigningSecret::Hmac(key.into())) })
    }

    fn verify(&self, body: &[u8], headers: &HeaderMap) -> Result<(), WebhookError> {
        match self.library.verify(body, headers) {
            // The library has checked the headers and the time before this error.
            Err(WebhookError::InvalidPayload) => self.verify_bytes(body, headers),
            verified => verified,
        }
    }

    /// Checks the signature of a body that is not text.
    fn verify_bytes(&self, body: &[u8], headers: &HeaderMap) -> Result<(), WebhookError> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let timestamp_s = text(HEADER_WEBHOOK_TIMESTAMP).parse().map_err(|_| WebhookError::InvalidTimestamp)?;
        let id = text(HEADER_WEBHOOK_ID);
        let signatures = text(HEADER_WEBHOOK_SIGNATURE);
        if verifies(std::slice::from_ref(&self.key), id, timestamp_s, body, signatures) {
            Ok(())
        } else {
            Err(WebhookError::InvalidSignature)
        }
    }
}

fn verify(verifiers: &[Verifier], body: &[u8], headers: &HeaderMap) -> Result<bool, String> {
    let mut outcome = Ok(false);
    for verifier in verifiers {
        match verifier.verify(body, headers) {
            Ok(()) => return Ok(true),
            Err(error) => outcome = Err(error.to_string()),
        }
    }
    outcome
}

fn as_json(uri: &Uri, headers: &HeaderMap, body: &[u8], verified: &Result<bool, String>, status: StatusCode) -> Value {
    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }
    let headers: Map<String, Value> =
        headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()).into())).collect();
    json!({
        "path": uri.path(),
        "headers": headers,
        "body": text(body),
        "body_base64": std::str::from_utf8(body).is_err().then(|| BASE64.encode(body)),
        "verified": verified.as_ref().is_ok_and(|verified| *verified),
        "verify_error": verified.as_ref().err(),
        "status": status.as_u16(),
        "at_ms": clock::now_ms(),
    })
}

/// Prints a request: the receiver's text on separate lines, the body after a gutter.
fn print(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    verified: &Result<bool, String>,
    status: StatusCode,
) {
    let id = headers.get("webhook-id").map(|id| String::from_utf8_lossy(id.as_bytes()));
    let signature = match verified {
        Ok(true) => "signature verified".to_owned(),
        Ok(false) => "signature not checked".to_owned(),
        Err(error) => format!("SIGNATURE REFUSED: {error}"),
    };
    // In one write, so that concurrent requests do not mix.
    outln!(
        "{} {}\nwebhook-id {}\n{}, answered {}\n{}\n{}",
        method,
        uri.path(),
        id.as_deref().unwrap_or("is missing"),
        counted(body.len() as u64, "byte", "bytes"),
        status.as_u16(),
        signature,
        Quoted(&String::from_utf8_lossy(body))
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::signature_header;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    /// Returns the headers of a body that is signed with a secret at a time.
    fn signed(secret: &str, body: &[u8], at_ms: i64) -> HeaderMap {
        let key = SigningKey::current(SigningSecret::parse(secret).expect("a secret"));
        let signature = signature_header(&[key], "msg_1", at_ms, body);
        let values = [
            (HEADER_WEBHOOK_ID, "msg_1".to_owned()),
            (HEADER_WEBHOOK_TIMESTAMP, (at_ms / 1_000).to_string()),
            (HEADER_WEBHOOK_SIGNATURE, signature),
        ];
        values.into_iter().map(|(name, value)| (name.parse().expect(name), value.parse().expect("ASCII"))).collect()
    }

    #[track_caller]
    fn check(secret: &str, body: &[u8], headers: &HeaderMap, expected: Result<bool, &str>) {
        let verifiers = [Verifier::new(secret).expect("a secret")];
        assert_eq!(verify(&verifiers, body, headers), expected.map_err(str::to_owned));
    }

    #[test]
    fn bodies_of_every_kind_are_verified() {
        let now_ms = clock::now_ms();
        for body in [&b"{}"[..], b"", b"\xff\x00\xfe", "é".as_bytes(), &[0x80; 100_000]] {
            let headers = signed(SECRET, body, now_ms);
            check(SECRET, body, &headers, Ok(true));
            check("C2FVsBQIhrscChlQIMV+b5sSYspob7oD", body, &headers, Ok(true));
            check(SECRET, &[body, b"x"].concat(), &headers, Err("signature invalid"));
            check("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", body, &headers, Err("signature invalid"));
            check(SECRET, body, &signed(SECRET, body, now_ms - 3_600_000), Err("signature timestamp too old"));
            let mut unsigned = headers.clone();
            unsigned.remove(HEADER_WEBHOOK_SIGNATURE);
            check(SECRET, body, &unsigned, Err("missing header signature"));
        }
    }
}
